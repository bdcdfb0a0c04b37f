"""
When is a match more than chance?
=================================

Two nets read the same eight latent variables, each through random axes of its own: they share a space, but no unit. Their
best matches correlate well all the same. Rotating the activations gives a null that is too low, so that nearly all units
seem matched; with the rotation before the nonlinearity the null is level with the nets.
"""

import matplotlib.pyplot as plt
import torch

import convergent as cv

generator = torch.Generator().manual_seed(0)
latent_nl = torch.randn(4000, 8, generator=generator)
pre_na, pre_nb = (latent_nl @ torch.randn(8, 64, generator=generator) - 2 for _ in range(2))
x_na, x_nb = torch.relu(pre_na), torch.relu(pre_nb)


def best(pair):
    """The correlation of each unit of b with its best match in a, highest first."""
    return cv.SemiMatching()(pair).r_b.sort(descending=True).values


recorded = cv.Pair.of(x_na, x_nb)
before = cv.Pair.of(x_na, cv.rotated_before(pre_nb, torch.relu, seed=0))

figure, axis = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
axis.plot(best(recorded), color="#D55E00", label="two nets that share a space on random axes")
axis.plot(best(before), color="black", ls="--", label="null: rotated before the nonlinearity")
axis.plot(best(cv.rotated(recorded)), color="0.55", ls="--", label="null: activations rotated")
axis.set(xlabel="unit of net b, sorted", ylabel="correlation with its best match", ylim=(0, 1))
axis.legend(frameon=False)
