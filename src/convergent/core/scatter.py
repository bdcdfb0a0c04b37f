"""Sums of products of deviations from the mean, in float64: the one product behind moments of samples at hand.

Axes: `n` samples, `u` units.
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
