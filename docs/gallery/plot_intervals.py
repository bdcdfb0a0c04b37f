"""
Intervals over images
=====================

95% intervals of the mean correlation with the partner, by leaving out one block of images at a time, for growing numbers
of images. The dashed line is the value that many images approach.
"""

import matplotlib.pyplot as plt
import torch

import convergent as cv


def pair_of(n):
    """Units of net a, and the same with as much noise of their own."""
    generator = torch.Generator().manual_seed(n)
    x_na = torch.randn(n, 10, generator=generator)
    return cv.Pair.of(x_na, x_na + torch.randn(n, 10, generator=generator))


samples = [100, 200, 400, 800, 1600, 3200]
intervals = [cv.jackknife(lambda pair: cv.Matching()(pair).r_b.mean(), pair_of(n)) for n in samples]
figure, axis = plt.subplots(figsize=(5.5, 3.4), layout="constrained")
axis.vlines(samples, [i.low for i in intervals], [i.high for i in intervals], color="#0072B2")
axis.plot(samples, [i.estimate for i in intervals], "o", color="#0072B2")
axis.axhline(0.5**0.5, color="0.5", ls="--")
axis.set(xscale="log", xlabel="images", ylabel="mean correlation with the partner")
