"""Least squares: every unit of net b from all units of net a together: with images enough, the linear upper bound.

Axes: `a` units of net a, `b` units of net b.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from convergent.core.alignment import Alignment
from convergent.core.pairs import Pair
from convergent.core.regression import best_ridge, ridge_map
from convergent.options import NULL, check_fields, number


@dataclass(frozen=True)
class LeastSquares:
    """Each unit of b is a weighted sum of all units of a; a ridge keeps weights of similar units from blowing up.

    With few samples beside the units its score on the fitted images says little (unrelated nets reach p / (n - 1)); the
    held-out score is the evidence. The ridge is chosen by held-out images among those that the map is fitted to, up to one
    that leaves the mean as prediction, so it explains about nothing at the least. It is the linear upper bound where images
    are many beside units; where they are few, a method that knows more of the map, such as that units correspond one to one,
    may find more.

    Attributes:
        ridge: penalty on the squared weights of standardised units, see `regression.ridge_map`; None for the best.

    Source: the mapping without penalty of Li et al. 2016, section 4.
    """

    ridge: Annotated[float | None, number(0) | NULL] = None

    def __post_init__(self) -> None:
        check_fields(self)

    def __call__(self, pair: Pair) -> Alignment:
        """The alignment of `pair`; constant units predict nothing and are not predicted."""
        ridge = best_ridge(pair) if self.ridge is None else self.ridge
        return Alignment(pair, ridge_map(pair, ridge), solver={"ridge": ridge})

    def refit(self, alignment: Alignment, *, choices: bool) -> LeastSquares:
        """With `choices` the ridge that was chosen for an alignment; otherwise it is chosen anew."""
        return LeastSquares(alignment.solver["ridge"]) if choices else self
