"""Linear systems on a few units each: for every target those of its own, many of them in one batch.

Axes: `a` units of net a, `m` targets, `t` targets of one batch, `i` and `s` units that one of them uses, `e`
independent axes.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from convergent.core.regression import independent_axes

_ROOM = 200_000  # numbers in a batch of matrices, so that it stays in cache
_SINGULAR = 1e-6  # a unit whose deviation from what the others predict is below this share of its own depends on them


def on_supports(corr_aa: Tensor, right_am: Tensor, used_am: Tensor) -> Tensor:
    """For each column the w with G_ii w_i = right_i on the units in use and 0 elsewhere; the smallest if G_ii is singular.

    G is `corr_aa`, correlations in float64; `used_am` says which units each column uses. Shape (a, m).
    """
    weight_am = torch.zeros_like(right_am)
    for column_t, unit_ts, there_ts in _batches(used_am):
        gram_tss = torch.take(corr_aa, unit_ts[:, :, None] * len(corr_aa) + unit_ts[:, None, :])
        right_ts = right_am.T[column_t[:, None], unit_ts]
        if not there_ts.all():  # a column that uses fewer units is padded with an identity
            gram_tss.masked_fill_(~(there_ts[:, :, None] & there_ts[:, None, :]), 0.0)
            gram_tss.diagonal(dim1=1, dim2=2).masked_fill_(~there_ts, 1.0)
            right_ts = right_ts * there_ts
        factor_tss, failed_t = torch.linalg.cholesky_ex(gram_tss)
        half_ts1 = torch.linalg.solve_triangular(factor_tss, right_ts[:, :, None], upper=False)
        weight_ts = torch.linalg.solve_triangular(factor_tss.mT, half_ts1, upper=True)[:, :, 0]
        singular_t = (failed_t > 0) | ~(factor_tss.diagonal(dim1=1, dim2=2).amin(1) > _SINGULAR)
        for t in singular_t.nonzero()[:, 0].tolist():
            root_e, axes_se = independent_axes(gram_tss[t], _SINGULAR**2)
            weight_ts[t] = axes_se / root_e**2 @ (axes_se.T @ right_ts[t])
        spread_ta = torch.zeros(len(column_t), len(corr_aa), dtype=corr_aa.dtype, device=corr_aa.device)
        weight_am[:, column_t] = spread_ta.scatter_(1, unit_ts, weight_ts * there_ts).T
    return weight_am


def on_most(precision_aa: Tensor, right_am: Tensor, used_am: Tensor) -> Tensor:
    """The same where columns use most units: the solution on all of them, less what keeps the few others at 0.

    G w = right holds on the units in use, so G w = right + x with x on the others alone, which w = 0 there determines: a
    system of their size, on G's inverse.

    `precision_aa` is G^-1, where G must not be nearly singular. Shape (a, m).

    >>> precision_aa = torch.tensor([[2.0, -1.0], [-1.0, 2.0]])
    >>> on_most(precision_aa, torch.ones(2, 1), torch.tensor([[True], [False]])).T
    tensor([[1.5000, 0.0000]])
    """
    whole_am = precision_aa @ (right_am * used_am)
    return (whole_am - precision_aa @ on_supports(precision_aa, whole_am, ~used_am)) * used_am


def _batches(used_am: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Columns that use similar numbers of units: which ones (t,), the units (t, s), and which are in use (t, s)."""
    size_m, order = used_am.sum(0).sort(descending=True, stable=True)
    sizes = size_m.tolist()
    first = 0
    while first < len(sizes) and sizes[first]:
        s, last = sizes[first], first + 1
        while last < len(sizes) and sizes[last] >= 0.8 * s - 8 and sizes[last] and (last - first + 1) * s * s <= _ROOM:
            last += 1
        column_t = order[first:last]
        unit_ts = used_am[:, column_t].T.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :s]
        yield column_t, unit_ts, torch.arange(s, device=used_am.device) < size_m[first:last, None]
        first = last
