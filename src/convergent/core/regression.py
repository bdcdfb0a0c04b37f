"""Linear prediction of net b's units from net a's, by all of them or by some: what one-to-one and sparse maps are judged by.

Axes: `a` and `b` units of two nets, `i` and `j` some of them, `e` and `f` principal axes of net a, `r` ridges.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg.lapack import dposv
from torch import Tensor

from convergent.core.pairs import Pair
from convergent.errors import InputError

# That `best_ridge` chooses from. The largest leaves nothing but the mean to predict: where images are so few that all else
# would be worse than the mean, least squares explains 0 and not less.
RIDGES = (1e-3, 1e-2, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0, 1e3, 1e4)


def ridge_map(pair: Pair, ridge: float, units_a: Tensor | None = None, units_b: Tensor | None = None) -> Tensor:
    """The map that predicts b's standardised units best from a's: least (1 - R^2) / 2 + ridge |w|^2 / 2 for each.

    Args:
        pair: the two nets.
        ridge: penalty on the squared weights of standardised units. 0 is least squares, with the smallest weights of several
            maps that are equally good (units of a that depend on one another).
        units_a: numbers of the units of a that predict, all by default; only those of `Pair.reliable_a` get a weight.
        units_b: numbers of the units of b that are predicted; all by default.

    Returns:
        Shape (p, q), 0 for all units left out.

    Raises:
        InputError: if the ridge is negative.

    Source: Hoerl, Kennard 1970, "Ridge regression".

    >>> from convergent.core.pairs import Pair
    >>> x_na = torch.randn(50, 2, dtype=torch.float64)
    >>> map_ab = ridge_map(Pair.of(x_na, x_na.sum(1, keepdim=True)), ridge=0.0)
    >>> torch.allclose(map_ab[:, 0], x_na.std(0) / x_na.sum(1).std())
    True
    """
    if not ridge >= 0:
        raise InputError(f"ridge needs to be 0 or more, not {ridge}.")
    corr_ab, map_ab = pair.corr_ab, torch.zeros(pair.p, pair.q, dtype=torch.float64)
    i, j = _active(pair.reliable_a, units_a), _active(pair.active_b, units_b)
    if not len(i) or not len(j):
        return map_ab
    map_ab[i[:, None], j] = _solve(pair.corr_aa[i[:, None], i], corr_ab[i[:, None], j], ridge)
    return map_ab


def predictors(pair: Pair) -> tuple[Tensor, Tensor]:
    """Correlations within a, shape (p, p), and with b, shape (p, q), of the units that predictions may rest on.

    Rows of the others, see `Pair.reliable_a`, are 0 as those of constant units are, in the first also columns.
    """
    reliable_a = pair.reliable_a.double()
    return pair.corr_aa * reliable_a[:, None] * reliable_a, pair.corr_ab * reliable_a[:, None]


def best_ridge(pair: Pair, units_b: Tensor | None = None, folds: int = 5, most: int = 256) -> float:
    """The ridge, of a grid, whose map explains most on held-out images: what few images need and many do not.

    `folds` are of the images that a map may be fitted to; `units_b` beyond `most` are judged by a sample. The smallest ridge
    of the grid where the pair has no two blocks of images to tell apart.
    """
    b = _active(pair.active_b, units_b)
    b = b[torch.randperm(len(b), generator=torch.Generator().manual_seed(0))[:most]]
    if not len(b) or (pair.blocks < 2 and pair.parts is None):
        return RIDGES[0]
    every = [_HeldOut.of(fit, rest, b) for fit, rest in pair.folds(folds)]
    sst_b = torch.stack([fold.sst_b for fold in every]).sum(0)
    weight_b = torch.where(sst_b > 0, 1 / sst_b.where(sst_b > 0, torch.ones_like(sst_b)), 0.0)
    loss_r = torch.stack([fold.losses(weight_b) for fold in every]).sum(0)
    return RIDGES[int(loss_r.argmin())]


@dataclass(frozen=True, eq=False)
class _HeldOut:
    """What the errors of all ridges on held-out images follow from, in the axes of net a's correlations in the fit.

    Attributes:
        variance_e: along these axes, shape (e,).
        sst_b: error of predicting the mean, shape (b,).
        corr_eb: of net b's units with these axes in the fit, times their standard deviations there, shape (e, b).
        cross_eb: sums of products on the held-out images, shape (e, b).
        square_ef: of these axes with one another, shape (e, f).
    """

    variance_e: Tensor
    sst_b: Tensor
    corr_eb: Tensor
    cross_eb: Tensor
    square_ef: Tensor

    @classmethod
    def of(cls, fit: Pair, on: Pair, b: Tensor) -> _HeldOut:
        i, a = _active(fit.reliable_a, None), slice(fit.a.start, fit.a.stop)
        moments, count, gap_u = on.total, on.total.count, on.total.mean_u - fit.total.mean_u
        scale_i, gap_i, gap_b = fit.total.scale_u[a][i], gap_u[a][i], gap_u[fit.b][b]
        variance_e, axes_ie = torch.linalg.eigh(fit.corr_aa[i[:, None], i])
        scaled_ie = scale_i[:, None] * axes_ie
        corr_eb = axes_ie.T @ fit.corr_ab[i[:, None], b] * fit.total.sd_u[fit.b][b]
        cross_ib = moments.scatter_uu[a, fit.b][i[:, None], b] + count * gap_i[:, None] * gap_b
        square_ii = moments.scatter_uu[a, a][i[:, None], i] + count * gap_i[:, None] * gap_i
        sst_b = moments.scatter_uu.diagonal()[fit.b][b] + count * gap_b.square()
        return cls(variance_e, sst_b, corr_eb, scaled_ie.T @ cross_ib, scaled_ie.T @ square_ii @ scaled_ie)

    def losses(self, weight_b: Tensor) -> Tensor:
        """Errors of the map of each ridge less those of the mean, summed over b's units with weights, shape (ridges,)."""
        weighted_eb = self.corr_eb * weight_b
        linear_e = (weighted_eb * self.cross_eb).sum(1)
        square_ef = (weighted_eb @ self.corr_eb.T) * self.square_ef
        shrunk_re = 1 / (self.variance_e.clamp(min=0) + torch.tensor(RIDGES, dtype=torch.float64)[:, None])
        return ((shrunk_re @ square_ef) * shrunk_re).sum(1) - 2 * shrunk_re @ linear_e


def ridge_map_within(pair: Pair, ridge: float, labels_a: Tensor, labels_b: Tensor) -> Tensor:
    """The map that predicts each of b's standardised units from a's of the same cluster, shape (p, q), 0 elsewhere.

    Labels are -1 for units in no cluster, constant ones among them; the ridge is as for `ridge_map`, above 0.

    Raises:
        InputError: if the ridge is 0 or less, or no more than rounding.
    """
    if not ridge > 0:
        raise InputError(f"ridge needs to be above 0, not {ridge}.")
    ridged_aa, corr_ab = (pair.corr_aa + ridge * torch.eye(pair.p, dtype=torch.float64)).numpy(), pair.corr_ab.numpy()
    map_ab = np.zeros_like(corr_ab)
    for i, j in zip(_groups(labels_a.where(pair.reliable_a, -1)), _groups(labels_b)):
        if len(i) and len(j):  # of many small clusters LAPACK's own function takes a quarter of torch's time
            _, map_ab[i[:, None], j], failed = dposv(ridged_aa[i[:, None], i], corr_ab[i[:, None], j])
            if failed:
                raise InputError(
                    f"ridge needs to be larger than {ridge:g}, which rounding exceeds; 1e-3 is the default."
                )
    return torch.from_numpy(map_ab)


def _groups(label_u: Tensor) -> list[NDArray[np.intp]]:
    """The units of each label from 0 on."""
    order_u, count = label_u.argsort(stable=True), torch.bincount(label_u + 1)
    return [units.numpy() for units in torch.split(order_u, count.tolist())[1:]]


def _solve(corr_ii: Tensor, corr_ij: Tensor, ridge: float) -> Tensor:
    if ridge > 0:
        factor_ii = torch.linalg.cholesky(corr_ii + ridge * torch.eye(len(corr_ii), dtype=corr_ii.dtype))
        return torch.cholesky_solve(corr_ij, factor_ii)
    root_e, axes_ie = independent_axes(corr_ii)
    return axes_ie / root_e**2 @ (axes_ie.T @ corr_ij)


def independent_axes(corr_ii: Tensor, tolerance: float = 1e-10) -> tuple[Tensor, Tensor]:
    """Principal axes of some units, those left out along which they do not vary but by rounding.

    Args:
        corr_ii: correlations within these units, shape (i, i).
        tolerance: an axis is left out below this share of the largest variance.

    Returns:
        Standard deviations along the axes, shape (e,), and the axes, shape (i, e).
    """
    variance_e, axes_ie = torch.linalg.eigh(corr_ii)
    independent = variance_e > tolerance * variance_e[-1]
    return variance_e[independent].sqrt(), axes_ie[:, independent]


def _active(active_u: Tensor, units: Tensor | None) -> Tensor:
    return active_u.nonzero()[:, 0] if units is None else units[active_u[units]]
