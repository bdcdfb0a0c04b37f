"""How well a linear map between two nets predicts: errors on any samples, from second moments alone.

Axes: `a` units of net a, `b` units of net b.
"""

from __future__ import annotations

import torch
from torch import Tensor

from convergent.core.pairs import Pair


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
    square_j = (raw_aj * (scatter_uu[a, a] @ raw_aj)).sum(0) + count * off_b[used].square()
    square_b = torch.zeros_like(sst_b).index_copy(0, used, square_j)
    return sst_b - 2 * cross_b + square_b, sst_b


def explained(map_ab: Tensor, fit: Pair, on: Pair) -> Tensor:
    """Share of each unit's variance that the map explains on the samples of `on`, shape (q,); 0 for constant units."""
    return r2(*errors(map_ab, fit, on))


def r2(error_b: Tensor, sst_b: Tensor) -> Tensor:
    """1 - error / error of the mean, per unit; 0 where the mean makes no error."""
    constant_b = sst_b <= 0
    return torch.where(constant_b, 0.0, 1 - error_b / sst_b.where(~constant_b, torch.ones_like(sst_b)))
