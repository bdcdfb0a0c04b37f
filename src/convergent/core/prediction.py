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
        variance_j = _squares(map_aj, fit.corr_aa)
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
    raw_ab = fit.total.scale_u[a][:, None] * map_ab * fit.total.sd_u[b]
    # moments about the fit's means: those about the means of `on`, and the gap between both; no matrix of all units is made
    count, gap_u, scatter_uu = on.total.count, on.total.mean_u - fit.total.mean_u, on.total.scatter_uu
    off_b = gap_u[a] @ raw_ab
    sst_b = scatter_uu.diagonal()[b] + count * gap_u[b].square()
    cross_b = (raw_ab * scatter_uu[a, b]).sum(0) + count * off_b * gap_u[b]
    used = map_ab.any(0).nonzero()[:, 0]  # a map of some units of b only costs what these cost
    raw_aj = raw_ab[:, used]
    square_j = _squares(raw_aj, scatter_uu[a, a]) + count * off_b[used].square()
    square_b = torch.zeros_like(sst_b).index_copy(0, used, square_j)
    return sst_b - 2 * cross_b + square_b, sst_b


def _squares(map_aj: Tensor, gram_aa: Tensor) -> Tensor:
    """w.G w of each column w, shape (j,)."""
    if bool(((map_aj != 0).sum(0) == 1).all()):  # one to one
        return gram_aa.diagonal() @ map_aj.square()
    return (map_aj * (gram_aa @ map_aj)).sum(0)


def explained(map_ab: Tensor, fit: Pair, on: Pair) -> Tensor:
    """Share of each unit's variance that the map explains on the samples of `on`, shape (q,); 0 for constant units."""
    return r2(*errors(map_ab, fit, on))


def r2(error_b: Tensor, sst_b: Tensor) -> Tensor:
    """1 - error / error of the mean, per unit; 0 where the mean makes no error."""
    constant_b = sst_b <= 0
    return torch.where(constant_b, 0.0, 1 - error_b / sst_b.where(~constant_b, torch.ones_like(sst_b)))
