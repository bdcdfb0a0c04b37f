"""Generalised canonical correlation: how much of their units' space several nets share, as one number.

Axes: `e` principal axes of one net, `f` those of all nets side by side.
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from convergent.core.layer_moments import LayerMoments
from convergent.core.regression import independent_axes
from convergent.similarity.shared import NOISE

_WIDEST = 8_192  # units of all nets


def gcca(layer: LayerMoments) -> float | None:
    """The mean of (eigenvalue - 1) / (k - 1) over the common directions of k nets: of two nets `cca.cca`.

    The eigenvalues, the largest first, are those of the correlations between all nets' whitened units, k where a direction
    is in every net and 1 where it is in one; over as many directions as the narrowest net has. Between 0 and 1. Ignores
    every invertible map of any net.

    Returns:
        None of more than 8,192 units in all, whose eigenvalues would take minutes, where a pair was not measured, a net is
        constant, or so few samples make some correlations 1 by necessity.

    Source: Kettenring 1971, "Canonical analysis of several sets of variables" (MAXVAR); Carroll 1968.
    """
    k = len(layer.nets)
    if k < 2 or len(layer.pairs) < k * (k - 1) // 2 or layer.mean_ku.shape[1] > _WIDEST:
        return None
    white: dict[int, Tensor] = {}
    between: dict[tuple[int, int], Tensor] = {}
    for i, j in combinations(range(k), 2):
        pair = layer.pair(i, j)
        for net, units, active in ((i, pair.a, pair.active_a), (j, pair.b, pair.active_b)):
            if not active.any():
                return None
            if net not in white:
                root_e, axes_ue = independent_axes(pair.total.corr(units, units), NOISE)
                white[net] = axes_ue / root_e
        between[i, j] = white[i].T @ pair.corr_ab @ white[j]
    widths = [white[net].shape[1] for net in range(k)]
    if sum(sorted(widths)[-2:]) > layer.count_k.sum() - 1:
        return None
    edges = torch.tensor([0, *widths]).cumsum(0)
    corr_ff = torch.eye(int(edges[-1]), dtype=torch.float64)
    for (i, j), between_ef in between.items():
        corr_ff[edges[i] : edges[i + 1], edges[j] : edges[j + 1]] = between_ef
    value_f = torch.linalg.eigvalsh(corr_ff, UPLO="U")[-min(widths) :]
    return float((value_f - 1).mean() / (k - 1))
