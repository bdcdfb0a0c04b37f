"""What a method gives in the pairs of a null, where there is nothing to be seen but chance.

Axes: `b` units of net b.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from convergent.analysis import nulls
from convergent.core.alignment import Alignment, Method, align
from convergent.core.histogram_source import counting_of
from convergent.core.pairs import Pair

_ENOUGH = 256  # active units of net b, whose means hardly depend on the draw


@dataclass(frozen=True, eq=False)
class Chance:
    """What a method gives in the pairs of a null, means over those that it is fitted to.

    Attributes:
        best_r: each active unit's highest correlation, in all pairs of the null, highest first.
        threshold: what the highest correlation of 1 in 20 units exceeds.
        mean_r: mean correlation with the partner over the active units of b; None where the method needs what the null has
            not (joint histograms).
        predictors: mean number of predictors of an active unit of b; None where there is none.
        r2_held_out: mean share of variance explained on held-out images; None where there is none.
    """

    best_r: NDArray[np.float64]
    threshold: float
    mean_r: float | None = None
    predictors: float | None = None
    r2_held_out: float | None = None

    @classmethod
    def of(cls, method: Method, pairs: Sequence[Pair], first: Callable[[Alignment], None] = lambda _: None) -> Chance:
        """What the method gives in independent draws of one null, such as rotations; `first` is given the first alignment.

        Highest correlations are of all of them. The method itself, which may take long, is fitted to as many as have 256
        active units of net b together, one of a wide layer, and where there are no blocks of images to the first.
        """
        every: list[torch.Tensor] = []
        fitted: list[tuple[float | None, float | None, float | None]] = []
        counts, units = counting_of(method) is not None, 0
        for pair in pairs:  # one after another: each may take as much memory as the nets' own
            every.append(nulls.best(pair)[pair.active_b])
            if (pair.joint is not None or not counts) and (pair.blocks > 1 or not fitted) and units < _ENOUGH:
                alignment, units = align(method, pair), units + len(every[-1])
                if not fitted:
                    first(alignment)
                fitted.append(_fitted(alignment))
        best = torch.cat(every).sort(descending=True).values
        threshold = nulls.threshold(best) if len(best) > 18 else math.inf  # of fewer nothing can be claimed at 5%
        return cls(best.numpy(), threshold, *(_mean([of_pair[place] for of_pair in fitted]) for place in range(3)))

    def by_rank(self, units: int) -> NDArray[np.float64]:
        """The highest correlations that so many units would have, highest first, shape (units,)."""
        if not len(self.best_r):
            return np.zeros(units)
        return np.quantile(self.best_r, 1 - (np.arange(units) + 0.5) / max(units, 1))


def mean_r(alignment: Alignment) -> torch.Tensor:
    """Mean correlation with the partner over the active units of b that have one; 0 where there are none."""
    r_b = alignment.r_b[alignment.pair.active_b & (alignment.predictors_b > 0)]
    return r_b.mean() if len(r_b) else r_b.sum()


def _fitted(alignment: Alignment) -> tuple[float | None, float | None, float | None]:
    """Mean correlation with the partner, predictors, and held-out variance explained, in one pair."""
    active_b, held_out_b = alignment.pair.active_b, alignment.held_out_b
    held_out = None if held_out_b is None else _mean(held_out_b[active_b].tolist())
    return float(mean_r(alignment)), _mean(alignment.predictors_b[active_b].tolist()), held_out


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
