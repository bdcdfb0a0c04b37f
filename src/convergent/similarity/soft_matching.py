"""Soft matching: the best assignment of one net's units to another's where each may be shared, whatever their numbers.

Axes: `a` and `b` units of the two nets.
"""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from convergent.core.pairs import Pair
from convergent.options import number
from convergent.similarity.shared import shared, vary


def soft_matching(pair: Pair, mass: Annotated[float, number(0, 1, above=True)] = 1.0) -> float | None:
    """The highest mean correlation of matched units: max sum P_ab corr_ab over transport plans P, exact.

    Every unit of a net has the same mass, 1 in all; with as many units in both nets the plan is a permutation. At most 1;
    the distance sqrt(2 - 2 x) of standardised units is a metric. Ignores permutations, gains above 0 and every unit twice;
    rotations it does not: it respects axes.

    Args:
        pair: the two nets.
        mass: how much of it is matched, the rest stays without a partner (the partial form, relative to the mass).

    Returns:
        None where all units of a net are constant.

    Source: Khosla, Williams 2024, "Soft matching distance: a metric on neural representations that captures single-neuron
        tuning"; partial: Chapel, Alaya, Gasso 2020, "Partial optimal transport with applications on positive-unlabeled
        learning".
    """
    if not vary(pair):
        return None
    first, second = sorted((pair.a, pair.b), key=lambda units: units.start)

    def made() -> float:
        active_u = pair.total.active_u
        corr_ab = pair.total.corr(first, second)[active_u[first]][:, active_u[second]].numpy()
        p, q = corr_ab.shape
        return _partial_assignment(corr_ab, mass * p) if p == q else _transport(corr_ab, mass)

    return shared(pair, ("soft matching", mass), made, first, second)


def _partial_assignment(corr_ab: NDArray[np.float64], pairs: float) -> float:
    """The highest mean correlation of so many pairs of units, each in one at most; linear between whole numbers of them."""
    p, fewer = len(corr_ab), math.floor(pairs)
    total = []
    for count in dict.fromkeys((fewer, math.ceil(pairs))):
        padded_ab = np.pad(
            corr_ab, (0, p - count), constant_values=2.0
        )  # what is not matched goes there, and nothing else
        padded_ab[p:, p:] = -2.0 * p
        a, b = linear_sum_assignment(padded_ab, maximize=True)
        matched = (a < p) & (b < p)
        total.append(float(corr_ab[a[matched], b[matched]].sum()))
    return (total[0] + (pairs - fewer) * (total[-1] - total[0])) / pairs


def _transport(corr_ab: NDArray[np.float64], mass: float) -> float:
    """The highest mean correlation of a transport of so much of the mass, each unit of a net having as much."""
    from ot import emd

    p, q = corr_ab.shape
    cost_ab, of_a, of_b = 1 - corr_ab, np.full(p, 1 / p), np.full(q, 1 / q)
    if mass < 1:  # what is not matched goes to a unit more of each net, and nothing between these
        cost_ab = np.pad(cost_ab, (0, 1))
        cost_ab[-1, -1] = 1e3
        of_a, of_b = np.append(of_a, 1 - mass), np.append(of_b, 1 - mass)
    plan_ab = emd(of_a, of_b, cost_ab, numItermax=10_000_000)[:p, :q]
    return float((plan_ab * corr_ab).sum() / mass)
