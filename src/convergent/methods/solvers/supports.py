"""Linear systems on a few units each: for every target those of its own.

They are so small that LAPACK column by column is several times as fast as batches of equal size, whose matrices have to be
filled up, copied and masked.

Axes: `a` units of net a, `m` targets, `i` units that one of them uses, `e` independent axes.
"""

import numpy as np
import torch
from scipy.linalg.lapack import dposv
from torch import Tensor

from convergent.core.regression import independent_axes

_SINGULAR = 1e-6  # a unit whose deviation from what the others predict is below this share of its own depends on them


def on_supports(corr_aa: Tensor, right_am: Tensor, used_am: Tensor) -> Tensor:
    """For each column the w with G_ii w_i = right_i on the units in use and 0 elsewhere; the smallest if G_ii is singular.

    G is `corr_aa`, correlations in float64; `used_am` says which units each column uses. Shape (a, m).
    """
    gram_aa = corr_aa.cpu().numpy()
    right_ma, used_ma = (np.ascontiguousarray(x_am.T.cpu().numpy()) for x_am in (right_am, used_am))
    weight_ma = np.zeros_like(right_ma)
    for m in np.flatnonzero(used_ma.any(1)):
        i = np.flatnonzero(used_ma[m])
        gram_ii = gram_aa.take(i, 0).take(i, 1)
        factor_ii, weight_ma[m, i], failed = dposv(gram_ii.T, right_ma[m, i], lower=True, overwrite_a=True)
        if failed or not factor_ii.diagonal().min() > _SINGULAR:
            root_e, axes_ie = independent_axes(torch.from_numpy(gram_aa.take(i, 0).take(i, 1)), _SINGULAR**2)
            weight_ma[m, i] = axes_ie / root_e**2 @ (axes_ie.T @ torch.from_numpy(right_ma[m, i]))
    return torch.from_numpy(weight_ma).T.to(right_am)


def on_most(precision_aa: Tensor, right_am: Tensor, used_am: Tensor) -> Tensor:
    """The same where columns use most units: the solution on all of them, less what keeps the few others at 0.

    G w = right holds on the units in use, so G w = right + x with x on the others alone, which w = 0 there determines: a
    system of their size, on G's inverse.

    `precision_aa` is G^-1, where G must not be nearly singular. Shape (a, m).

    >>> precision_aa = torch.tensor([[2.0, -1.0], [-1.0, 2.0]]).double()
    >>> on_most(precision_aa, torch.ones(2, 1).double(), torch.tensor([[True], [False]]))[0]
    tensor([1.5000], dtype=torch.float64)
    """
    whole_am = precision_aa @ (right_am * used_am)
    return (whole_am - precision_aa @ on_supports(precision_aa, whole_am, ~used_am)) * used_am
