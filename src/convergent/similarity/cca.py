"""Canonical correlations between two nets' units as one number: their mean, after truncation, or weighted.

Axes: `a` and `b` units of the two nets, `e` and `f` their principal axes, `c` canonical directions.
"""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from convergent.core.pairs import Pair
from convergent.options import number
from convergent.similarity.shared import axes, between, dimensions, enough, shared, vary


def cca(pair: Pair) -> float | None:
    """The mean canonical correlation: over as many directions as the net with fewer has.

    Between 0 and 1, on the samples of the fit: unrelated nets of p and q dimensions have squares that sum to p q / (n - 1).
    Ignores every invertible map of either net.

    Returns:
        None where a net is constant, or where so few samples make some correlations 1 whatever the nets are.

    Source: Hotelling 1936, "Relations between two sets of variates"; Raghu, Gilmer, Yosinski, Sohl-Dickstein 2017.
    """
    canonical = _canonical(pair)
    return None if canonical is None else float(canonical[0].mean())


def svcca(pair: Pair, explained: Annotated[float, number(0, 1, above=True)] = 0.99) -> float | None:
    """The mean canonical correlation of the principal components that explain a share of each net's variance.

    Between 0 and 1. Ignores rotations, permutations, a common scale of a net's units and every unit twice.

    Returns:
        None as for `cca`.

    Source: Raghu, Gilmer, Yosinski, Sohl-Dickstein 2017, "SVCCA".
    """
    if not vary(pair):
        return None
    e, f = (dimensions(pair, net, explained) for net in (pair.a, pair.b))
    return float(torch.linalg.svdvals(between(pair)[:e, :f]).clamp(max=1).mean()) if enough(pair, e, f) else None


def pwcca(pair: Pair) -> float | None:
    """Canonical correlations weighted by how much of net b's units each of net b's canonical directions accounts for.

    Between 0 and 1; it differs with the direction. Ignores every invertible map of net a; of net b permutations, a common
    scale and every unit twice.

    Returns:
        None as for `cca`.

    Source: Morcos, Raghu, Bengio 2018, "Insights on representational similarity in neural networks with canonical
        correlation", equation 3 with net b in the place of the first net.
    """
    if (canonical := _canonical(pair)) is None:
        return None
    correlation_c, direction_cf = canonical
    root_f, axes_bf = axes(pair, pair.b, standardised=True)
    # of every unit, in its own unit of measurement, the covariance with the variates
    sd_b = pair.total.sd_u[pair.b] * pair.active_b
    weight_c = (sd_b[:, None] * (axes_bf * root_f @ direction_cf.T)).abs().sum(0)
    return float((weight_c * correlation_c).sum() / weight_c.sum())


def _canonical(pair: Pair) -> tuple[Tensor, Tensor] | None:
    """Canonical correlations, shape (c,), and net b's directions in its standardised principal components, shape (c, f)."""
    if not vary(pair):
        return None
    a, b = sorted((pair.a, pair.b), key=lambda units: units.start)

    def made() -> tuple[Tensor, Tensor, Tensor] | None:
        (root_e, axes_ae), (root_f, axes_bf) = (axes(pair, net, standardised=True) for net in (a, b))
        if not enough(pair, len(root_e), len(root_f)):
            return None
        between_ef = (axes_ae / root_e).T @ pair.total.corr(a, b) @ (axes_bf / root_f)
        of_a_ec, correlation_c, of_b_cf = torch.linalg.svd(between_ef, full_matrices=False)
        return correlation_c.clamp(max=1), of_a_ec.T, of_b_cf

    if (every := shared(pair, "canonical", made, a, b)) is None:
        return None
    return every[0], every[2] if pair.b == b else every[1]
