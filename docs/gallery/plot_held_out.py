"""
Why scores are held out
=======================

In-sample scores grow with the number of predictors and say little where samples are few. Two independent nets have nothing
in common: all of the in-sample R² is fitted noise, and the held-out R² falls below 0 accordingly.
"""

import matplotlib.pyplot as plt
import torch

import convergent as cv

samples = [60, 120, 250, 500, 1000, 2000]
figure, axes = plt.subplots(1, 2, figsize=(7, 3.2), sharey=True, layout="constrained")
for axis, (name, method) in zip(
    axes, {"matching": cv.Matching(), "sparse, alpha = 0.1": cv.SparsePrediction(alpha=0.1)}.items()
):
    in_sample, held_out = [], []
    for n in samples:
        generator = torch.Generator().manual_seed(n)
        pair = cv.Pair.of(torch.randn(n, 40, generator=generator), torch.randn(n, 40, generator=generator))
        in_sample.append(method(pair).score_b.mean())
        held_out.append(cv.held_out(method, pair).mean())
    axis.plot(samples, in_sample, "o-", color="#D55E00", label="in sample")
    axis.plot(samples, held_out, "o-", color="#0072B2", label="held-out")
    axis.axhline(0, color="0.6", lw=0.8)
    axis.set(title=name, xscale="log", xlabel="samples")
axes[0].set_ylabel("R²")
axes[0].legend(frameon=False)
