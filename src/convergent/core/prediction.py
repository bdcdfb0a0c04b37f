"""How well a linear map between two nets predicts: errors on any samples, from second moments alone.

Axes: `a` units of net a, `b` units of net b.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from convergent.core.pairs import Pair


@dataclass(frozen=True, eq=False)
class Prediction:
    """A linear map fitted to some images, as it predicts activations of others: x_b ~ mean_b + (x_a - mean_a) @ weight_ab.

    Attributes:
        weight_ab: the map in the activations' own units, shape (p, q).
        mean_a: the means of the fit, shape (p,).
        mean_b: those of b, shape (q,): what a unit without predictors is predicted by.
        gain_b: each unit's standard deviation over that of its prediction, shape (q,): what restores its variance; 1 for a
            unit whose prediction never varies.
    """

    weight_ab: Tensor
    mean_a: Tensor
    mean_b: Tensor
    gain_b: Tensor

    @classmethod
    def of(cls, map_ab: Tensor, fit: Pair) -> Prediction:
        """The prediction by a map of standardised units, shape (p, q), that was fitted to a pair."""
        total, used = fit.total, map_ab.any(0).nonzero()[:, 0]
        map_aj = map_ab[:, used]
        if (one_j := _one_each(map_aj)) is not None:
            variance_j = map_aj.square().sum(0) * fit.active_a[one_j]
        else:
            variance_j = (map_aj * (fit.corr_aa @ map_aj)).sum(0)
        gain_b = torch.ones(fit.q, dtype=torch.float64)
        gain_b[used] = torch.where(variance_j > 0, variance_j.clamp(min=1e-30).rsqrt(), 1.0)
        unit_u = torch.ones_like(total.mean_u) if total.gain_u is None else 1 / total.gain_u
        mean_u, sd_b = total.mean_u * unit_u, total.sd_u[fit.b] * unit_u[fit.b]
        weight_ab = (total.scale_u[fit.a] / unit_u[fit.a])[:, None] * map_ab * sd_b
        return cls(weight_ab, mean_u[fit.a], mean_u[fit.b], gain_b)


def errors(map_ab: Tensor, fit: Pair, on: Pair) -> tuple[Tensor, Tensor]:
    """Squared errors of the map's predictions of b, and of predicting the mean, summed over the samples of `on`.

    Both are in b's own units about the fit's means, so they may be summed over fits. A unit of b that is constant in the fit
    is predicted by that constant; units of a that are constant there predict nothing.

    Returns:
        Error of the map and error of the mean, each of shape (q,).
    """
    a, b = fit.a, fit.b
    # moments about the fit's means: those about the means of `on`, and the gap between both; no matrix of all units is made
    count, gap_u, scatter_uu = on.total.count, on.total.mean_u - fit.total.mean_u, on.total.scatter_uu
    sst_b = scatter_uu.diagonal()[b] + count * gap_u[b].square()
    used = map_ab.any(0).nonzero()[:, 0]  # a map of some units of b only costs what these cost
    map_aj, cross_ab = map_ab[:, used], scatter_uu[a, b]
    scale_a, sd_j = fit.total.scale_u[a], fit.total.sd_u[b][used]
    if (one_j := _one_each(map_aj)) is not None:
        raw_j = scale_a[one_j] * map_aj[one_j, torch.arange(len(used))] * sd_j
        off_j, cross_j = gap_u[a][one_j] * raw_j, raw_j * cross_ab[one_j, used]
        square_j = scatter_uu.diagonal()[a][one_j] * raw_j.square()
    else:
        raw_aj = scale_a[:, None] * map_aj * sd_j
        off_j, cross_j = gap_u[a] @ raw_aj, (raw_aj * cross_ab[:, used]).sum(0)
        square_j = (raw_aj * (scatter_uu[a, a] @ raw_aj)).sum(0)
    error_j = square_j + count * off_j.square() - 2 * (cross_j + count * off_j * gap_u[b][used])
    return sst_b.index_add(0, used, error_j), sst_b


def _one_each(map_aj: Tensor) -> Tensor | None:
    """The one unit of a in each column, shape (j,); None where a column has several."""
    return map_aj.abs().argmax(0) if bool((map_aj.count_nonzero(0) == 1).all()) else None


def explained(map_ab: Tensor, fit: Pair, on: Pair) -> Tensor:
    """Share of each unit's variance that the map explains on the samples of `on`, shape (q,); 0 for constant units."""
    return r2(*errors(map_ab, fit, on))


def r2(error_b: Tensor, sst_b: Tensor) -> Tensor:
    """1 - error / error of the mean, per unit; 0 where the mean makes no error."""
    constant_b = sst_b <= 0
    return torch.where(constant_b, 0.0, 1 - error_b / sst_b.where(~constant_b, torch.ones_like(sst_b)))
