"""Linear prediction of net b's units from net a's, by all of them or by some: what one-to-one and sparse maps are judged by.

Axes: `a` and `b` units of two nets, `i` and `j` some of them.
"""

import torch
from torch import Tensor

from convergent.core.pairs import Pair
from convergent.core.scores import held_out_of_maps
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
    share_rb = held_out_of_maps(lambda fit: [ridge_map(fit, ridge, units_b=b) for ridge in RIDGES], pair, folds)
    return RIDGES[int(share_rb[:, b].mean(1).argmax())]


def ridge_map_within(pair: Pair, ridge: float, labels_a: Tensor, labels_b: Tensor) -> Tensor:
    """The map that predicts each of b's standardised units from a's of the same cluster, shape (p, q), 0 elsewhere.

    Labels are -1 for units in no cluster, constant ones among them; the ridge is as for `ridge_map`, above 0.

    Raises:
        InputError: if the ridge is 0 or less.
    """
    if not ridge > 0:
        raise InputError(f"ridge needs to be above 0, not {ridge}.")
    corr_aa, corr_ab, reliable_a = pair.corr_aa, pair.corr_ab, pair.reliable_a
    map_ab = torch.zeros_like(corr_ab)
    for label in range(int(labels_a.max()) + 1 if len(labels_a) else 0):
        i, j = ((labels_a == label) & reliable_a).nonzero()[:, 0], (labels_b == label).nonzero()[:, 0]
        if len(i) and len(j):
            map_ab[i[:, None], j] = _solve(corr_aa[i[:, None], i], corr_ab[i[:, None], j], ridge)
    return map_ab


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
