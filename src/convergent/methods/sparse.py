"""Sparse prediction: every unit of net b from a few units of net a, the lasso solved exactly.

Axes: `a` units of net a, `b` units of net b.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache
from typing import Annotated

import torch
from torch import Tensor

from convergent.core.alignment import Alignment
from convergent.core.pairs import Pair
from convergent.core.regression import predictors, ridge_map
from convergent.errors import InputError
from convergent.methods.solvers.lasso import lasso
from convergent.options import NULL, check_fields, number, whole

log = logging.getLogger(__name__)

_DEFAULT = 0.1
_LONG = 60.0  # seconds of one core from which the cost is announced


@dataclass(frozen=True)
class SparsePrediction:
    """Each unit of b is a weighted sum of few units of a: least (1 - R^2) / 2 + alpha |w|_1, proved by its duality gap.

    A unit is predicted at all if, and only if, its highest |r| exceeds alpha. Whatever the images (few, units that copy or
    depend on one another) there is a minimum and its gap is in the record; with fewer samples than units its score on the
    fitted images says little, which is warned of.

    Attributes:
        alpha: penalty as scikit-learn's `Lasso` has it, on standardised units; 0 is least squares, which has no gap.
        paper_lambda: the same in the paper's units, alpha = paper_lambda x units of b, constant ones included. If neither is
            given, alpha is 0.1.
        positive: only weights of 0 and above.
        targets: how many units of b, drawn at random, are predicted; all by default. The others count nowhere.
        seed: of that draw.

    Source: Li et al. 2016, section 4; Tibshirani 1996, "Regression shrinkage and selection via the lasso".

    >>> from convergent.core.pairs import Pair
    >>> x_na = torch.randn(500, 4)
    >>> SparsePrediction(alpha=0.05)(Pair.of(x_na, x_na[:, :1] + x_na[:, 2:3])).predictors_b
    tensor([2])
    """

    alpha: Annotated[float | None, number(0) | NULL] = None
    paper_lambda: Annotated[float | None, number(0) | NULL] = None
    positive: bool = False
    targets: Annotated[int | None, whole(1) | NULL] = None
    seed: Annotated[int, whole()] = 0

    def __post_init__(self) -> None:
        if self.alpha is not None and self.paper_lambda is not None:
            raise InputError(
                f"Set alpha ({self.alpha}) or paper_lambda ({self.paper_lambda}), not both: alpha is paper_lambda x units."
            )
        check_fields(self)

    def __call__(self, pair: Pair) -> Alignment:
        """The alignment of `pair`; constant units predict nothing and are not predicted."""
        alpha = self.penalty(pair)
        asked_b = asked(pair.q, self.targets, self.seed)
        warn_of_few_samples(pair)
        if alpha == 0 and not self.positive:
            map_ab = ridge_map(pair, 0.0, units_b=asked_b.nonzero()[:, 0])
            return Alignment(pair, map_ab, solver={"alpha": 0.0}, asked_b=asked_b)
        alpha = max(alpha, 1e-9)  # positive weights without penalty: as good as none
        announce(pair.p, int(asked_b.sum()), 1)
        corr_aa, corr_ab = predictors(pair)
        (solution,) = lasso(corr_aa, corr_ab[:, asked_b], [alpha], positive=self.positive)
        map_ab = torch.zeros(pair.p, pair.q, dtype=torch.float64)
        map_ab[:, asked_b] = solution.map_ab
        solver = {"alpha": alpha, "gap": float(solution.gap_b.max()), "kkt": float(solution.kkt_b.max())}
        return Alignment(pair, map_ab, solver=solver, asked_b=asked_b)

    def penalty(self, pair: Pair) -> float:
        """Alpha for a pair."""
        if self.paper_lambda is not None:
            return self.paper_lambda * pair.q
        return _DEFAULT if self.alpha is None else self.alpha


def asked(q: int, targets: int | None, seed: int) -> Tensor:
    """Which units of b are predicted, shape (q,): a seeded sample that does not depend on the images."""
    order_b = torch.randperm(q, generator=torch.Generator().manual_seed(seed))
    return torch.zeros(q, dtype=torch.bool).index_fill(0, order_b[:targets], True)


def warn_of_few_samples(pair: Pair) -> None:
    """Say once if there are so few samples that any unit can be predicted on them."""
    if pair.count <= pair.p:
        _say(
            f"{pair.layer or 'A layer'}: {pair.count} samples for {pair.p} units that predict; their fit to these images "
            "says nothing, only held-out scores do. Read more images, or more positions."
        )


def announce(p: int, q: int, penalties: int) -> None:
    """Say beforehand how long a fit takes where that is long."""
    seconds = penalties * q * 1e-3 * (p / 512) ** 2.5
    if seconds > _LONG:
        _say(
            f"Sparse prediction of {q:,} units from {p:,} takes about {seconds / 60:.0f} minutes of one core a fit, and is "
            "fitted anew for held-out scores, intervals and nulls; targets=100 takes a sample of the units, "
            "intervals=false and nulls=[] spare refits."
        )


@cache
def _say(text: str) -> None:
    log.warning(text)
