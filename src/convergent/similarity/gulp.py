"""GULP: how far ridge regressions of any target from two nets differ in what they predict.

Axes: `e` and `f` principal axes of net a and net b.
"""

from __future__ import annotations

import math
from typing import Annotated

from convergent.core.pairs import Pair
from convergent.options import number
from convergent.similarity.shared import axes, between, variance, vary


def gulp(pair: Pair, ridge: Annotated[float, number(0, above=True)] = 1e-2) -> float | None:
    """The root mean squared difference between predictions by ridge regression, for targets drawn alike in all directions.

    Nets are scaled to a total variance of 1, on which `ridge` is the penalty. 0 is the same; at most the root of the number
    of units of both nets. Ignores rotations, permutations, a common scale of a net's units and every unit twice; the
    smaller the ridge, the more nearly every invertible map.

    Returns:
        None where all units of a net are constant.

    Source: Boix-Adsera, Lawrence, Stepaniants, Rigollet 2022, "GULP: a prediction-based metric between representations".
    """
    if not vary(pair):
        return None
    share_e, share_f = (axes(pair, net)[0].square() / variance(pair, net) for net in (pair.a, pair.b))
    left_e, left_f = (share / (share + ridge) for share in (share_e, share_f))
    both = left_e @ between(pair).square() @ left_f
    return math.sqrt(max(float(left_e.square().sum() + left_f.square().sum() - 2 * both), 0.0))
