"""
All methods on one scale
========================

Held-out R² against the number of predictors per unit. Half of net b's units are noisy copies of units of net a; the other
half are mixtures of four, which no single partner explains.
"""

import matplotlib.pyplot as plt
import torch

import convergent as cv

generator = torch.Generator().manual_seed(0)
mixing = torch.eye(32) + 0.2 * torch.randn(32, 32, generator=generator)
x_na = torch.randn(3000, 32, generator=generator) @ mixing
mixtures_nb = torch.stack([x_na[:, torch.randperm(32, generator=generator)[:4]].sum(1) for _ in range(16)], 1)
x_nb = torch.cat([x_na[:, :16], mixtures_nb / 2], 1) + 0.5 * torch.randn(3000, 32, generator=generator)
pair = cv.Pair.of(x_na, x_nb)

methods = {
    "matching": cv.Matching(),
    "semi-matching": cv.SemiMatching(),
    "sparse, alpha = 0.3": cv.SparsePrediction(alpha=0.3),
    "sparse, alpha = 0.1": cv.SparsePrediction(alpha=0.1),
    "sparse, alpha = 0.03": cv.SparsePrediction(alpha=0.03),
    "least squares": cv.LeastSquares(),
}
figure, axis = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
for name, method in methods.items():
    predictors = method(pair).predictors_b.double().mean()
    axis.plot(predictors, cv.held_out(method, pair).mean(), "o", label=name)
axis.set(xscale="log", xlabel="predictors per unit", ylabel="R², held-out", ylim=(0, 1))
axis.legend(frameon=False)
