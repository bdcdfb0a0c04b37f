"""Sums of products of deviations from the mean, in float64, and what units are by their squares alone.

Axes: `n` samples, `u` units, `k` blocks of images, `w` weightings of them.
"""

import torch
from torch import Tensor

_STRIP = 256  # units: few, so that little below the diagonal is computed; many enough to keep the product fast


def centred_products(x_nu: Tensor, into_uu: Tensor) -> Tensor:
    """Put the sums of products of deviations from the mean (x_nu is centred in place) into a matrix; returns the mean."""
    mean_u = x_nu.mean(0)
    x_nu -= mean_u
    left_u = x_nu.mean(0)  # what rounding left of the mean: the second of the two passes
    for first in range(0, len(into_uu), _STRIP):
        rows, rest = slice(first, first + _STRIP), slice(first + _STRIP, None)
        torch.mm(x_nu[:, rows].T, x_nu[:, first:], out=into_uu[rows, first:])
        into_uu[rows, first:].addr_(left_u[rows], left_u[first:], alpha=-float(len(x_nu)))
        into_uu[rows, rows] = (into_uu[rows, rows] + into_uu[rows, rows].T) / 2  # products round to not quite symmetric
        into_uu[rest, rows] = into_uu[rows, rest].T
    return mean_u + left_u


# A unit whose standard deviation is below this share of its mean is constant up to float32's resolution.
_CONSTANT = 1e-7


def active(sd_u: Tensor, mean_u: Tensor) -> Tensor:
    """Which units vary at all, beyond float32's resolution of their mean, shape (..., u) as that of deviations and means."""
    return sd_u > _CONSTANT * mean_u.abs()


def scale(sd_u: Tensor, active_u: Tensor) -> Tensor:
    """1 / standard deviation, and 0 for constant units, shape (..., u)."""
    return torch.where(active_u, 1 / sd_u.where(active_u, torch.ones_like(sd_u)), 0.0)


def spread(count_k: Tensor, mean_ku: Tensor, square_ku: Tensor, weight_wk: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What units are over all blocks together, each counted by several weightings, from their squares within blocks alone.

    Args:
        count_k: samples of each block.
        mean_ku: means, shape (k, u).
        square_ku: sums of squares about these, shape (k, u).
        weight_wk: how many times each block counts.

    Returns:
        Distances of the blocks' means from the mean over all, shape (w, k, u), standard deviations, and which units are
        `active`, shape (w, u).
    """
    n_wk = count_k * weight_wk
    count_w1 = n_wk.sum(1, keepdim=True).clamp(min=1)
    # from the mean of a block that counts, as `Moments.merged` does and says why
    mean_wu = mean_ku[(n_wk > 0).to(torch.uint8).argmax(1)]
    gap_wku = mean_ku - mean_wu[:, None]
    shift_wu = (n_wk[:, None] @ gap_wku)[:, 0] / count_w1
    gap_wku -= shift_wu[:, None]
    sd_wu = ((weight_wk @ square_ku + (n_wk[:, None] @ gap_wku.square())[:, 0]) / count_w1).sqrt()
    return gap_wku, sd_wu, active(sd_wu, mean_wu + shift_wu)
