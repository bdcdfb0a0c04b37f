"""What several measures are made of, computed once for a pair: sums of squares, principal axes, singular values.

Axes: `a` and `b` units of the two nets, `e` and `f` principal axes of net a and net b, `k` blocks of images.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from convergent.core.moments import Moments
from convergent.core.pairs import Pair
from convergent.core.regression import independent_axes

T = TypeVar("T")

NOISE = 1e-6  # axes of less than this share of the largest variance are noise in sums of float32 products
_STRIP = 64  # units of net a whose blocks are read at a time

# Forgotten with the moments; a pair and the same pair flipped have the same ones.
_shared: WeakKeyDictionary[Moments, dict[Hashable, Any]] = WeakKeyDictionary()


def shared(pair: Pair, name: Hashable, make: Callable[[], T], *units: slice) -> T:
    """What `make` gives, made once for these units of a pair (and neither it nor what it gives may hold the pair)."""
    of_pair = _shared.setdefault(pair.moments, {})
    key = (name, *((of.start, of.stop) for of in units))
    if key not in of_pair:
        of_pair[key] = make()
    return of_pair[key]  # type: ignore[no-any-return]


def cov(pair: Pair, rows: slice, columns: slice) -> Tensor:
    """Covariances, shape (rows, columns), of each net's units on one scale whatever their gains; 0 for constant units."""
    cov_ij, gain_u = pair.total.cov(rows, columns), pair.total.gain_u
    if gain_u is None:
        return cov_ij
    # powers of two, of each unit its own; the smallest is of the largest unit
    row_i, column_j = (gain_u[units].min() / gain_u[units] for units in (rows, columns))
    return cov_ij * row_i[:, None] * column_j


def squares(pair: Pair, rows: slice, columns: slice) -> float:
    """The sum of squared covariances between some units."""
    rows, columns = sorted((rows, columns), key=lambda units: units.start)
    return shared(pair, "squares", lambda: float(cov(pair, rows, columns).square().sum()), rows, columns)


def variance(pair: Pair, units: slice) -> float:
    """The sum of the variances of a net's units."""
    return shared(pair, "variance", lambda: float(cov(pair, units, units).trace()), units)


def vary(pair: Pair) -> bool:
    """Whether some unit of either net varies."""
    return bool(pair.active_a.any() and pair.active_b.any())


def axes(pair: Pair, units: slice, *, standardised: bool = False) -> tuple[Tensor, Tensor]:
    """Standard deviations along a net's principal axes, the largest first, shape (e,), and the axes, shape (a, e).

    Of standardised units those without noise, see `NOISE`, otherwise all along which there is more than rounding.
    """

    def made() -> tuple[Tensor, Tensor]:
        if standardised:
            root_e, axes_ae = independent_axes(pair.total.corr(units, units), NOISE)
        else:
            root_e, axes_ae = independent_axes(cov(pair, units, units))
        return root_e.flip(0), axes_ae.flip(1)

    return shared(pair, ("axes", standardised), made, units)


def between(pair: Pair) -> Tensor:
    """Correlations between the nets' principal components, the largest first, shape (e, f)."""

    def made() -> Tensor:
        (root_e, axes_ae), (root_f, axes_bf) = axes(pair, pair.a), axes(pair, pair.b)
        return (axes_ae / root_e).T @ cov(pair, pair.a, pair.b) @ (axes_bf / root_f)

    return shared(pair, "between", made, pair.a, pair.b)


def dimensions(pair: Pair, units: slice, explained: float) -> int:
    """How many principal components explain this share of a net's variance."""
    share_e = axes(pair, units)[0].square().cumsum(0)
    return int((share_e < explained * (1 - 1e-12) * share_e[-1]).sum()) + 1


def enough(pair: Pair, *dimensions_of_nets: int) -> bool:
    """Whether there are so many samples that no direction of one net is in the other's span by necessity."""
    return sum(dimensions_of_nets) <= pair.count - 1


def nuclear(pair: Pair) -> float:
    """The sum of the singular values of the covariances between the nets."""
    a, b = sorted((pair.a, pair.b), key=lambda units: units.start)
    return shared(pair, "nuclear", lambda: float(torch.linalg.svdvals(cov(pair, a, b)).sum()), a, b)


def block_products(pair: Pair, rows: slice, columns: slice) -> float:
    """The mean of tr(C_k' C_l) over pairs of different blocks of images, whose covariances about their own means C_k are.

    Blocks of one sample have none. NaN with fewer than two others.
    """
    moments, weight_k = pair.parts or (pair.moments, torch.ones(pair.blocks, dtype=torch.float64))
    rows, columns = sorted((rows, columns), key=lambda units: units.start)
    key = ("blocks", (rows.start, rows.stop), (columns.start, columns.stop))
    of_moments = _shared.setdefault(moments, {})
    if key not in of_moments:  # of all blocks, so that leaving one out costs nothing
        of_moments[key] = _products_of_blocks(moments, rows, columns)
    weight_k = weight_k * (moments.count > 1)
    pairs_kl = (weight_k[:, None] * weight_k).fill_diagonal_(0)
    return float((pairs_kl * of_moments[key]).sum() / pairs_kl.sum())


def _products_of_blocks(moments: Moments, rows: slice, columns: slice) -> Tensor:
    total = moments.total
    scale_u = total.active_u.double()
    if total.gain_u is not None:
        for units in (rows, columns) if rows != columns else (rows,):
            scale_u[units] *= total.gain_u[units].min() / total.gain_u[units]
    product_kl = torch.zeros(len(moments.count), len(moments.count), dtype=torch.float64)
    for first in range(rows.start, rows.stop, _STRIP):
        strip = slice(first, min(first + _STRIP, rows.stop))
        cov_kij = moments.scatter_uu[:, strip, columns] / moments.count.clamp(min=1)[:, None, None]
        cov_kij.mul_(scale_u[strip, None]).mul_(scale_u[columns])
        product_kl.addmm_(cov_kij.flatten(1), cov_kij.flatten(1).T)
    return product_kl
