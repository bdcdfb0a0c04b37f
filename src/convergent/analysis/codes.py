"""How many of net a's units it takes to account for one of net b's, beside one unit and beside all: held out.

Axes: `a` units of net a, `b` units of net b, `m` number of predictors per unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from convergent.analysis.gains import CODES, Gains
from convergent.core.prediction import share
from convergent.core.scores import held_out_of_maps

if TYPE_CHECKING:
    from convergent.core.alignment import Method
    from convergent.core.pairs import Pair


@dataclass(frozen=True, eq=False)
class FewToOne:
    """Shares of variance explained on held-out images, with the fit's means and scales, of the units of b that count.

    Attributes:
        methods: by the methods asked for, in their order, shape (methods, b).
        best: by the best 1, 2, ... 8 units, chosen forward and fitted by least squares, shape (m, b).
        all: by all units, least squares with the best ridge, shape (b,).
        code: which code each has, its number in `gains.CODES`, shape (b,).
    """

    methods: Tensor
    best: Tensor
    all: Tensor
    code: Tensor

    @classmethod
    def of(cls, methods: list[Method], pair: Pair, counted_b: Tensor) -> FewToOne:
        """The figures of a pair that holds images out, of the units that count, shape (q,)."""
        b = counted_b.nonzero()[:, 0]
        gains = Gains.of(pair, b)
        total_b = gains.total_kb.sum(0)
        best_mb, all_b = (share(total_b - gain_k.sum(0), total_b) for gain_k in (gains.best_kmb, gains.all_kb))
        by_methods = (
            held_out_of_maps(lambda fit: [method(fit).map_ab for method in methods], pair)[:, b]
            if methods
            else torch.zeros(0, len(b)).double()
        )
        return cls(by_methods, best_mb, all_b, gains.codes())

    def codes(self) -> dict[str, float]:
        """Shares of units by how many units of a do what all do, see `gains.Gains.codes`; empty if no unit counts."""
        if not len(self.code):
            return {}
        return {name: float((self.code == number).double().mean()) for number, name in enumerate(CODES)}

    def figures(self) -> dict[str, float]:
        """The baselines' losses and the codes, by name."""
        return {"loss_one_unit": mean_loss(self.best[0]), "loss_least_squares": mean_loss(self.all), **self.codes()}

    def curve(self) -> dict[str, list[float]]:
        """Mean loss against the number of predictors per unit, each unit of b with its best ones."""
        losses = [mean_loss(best_b) for best_b in self.best]
        return {"units": [m + 1.0 for m in range(len(losses))], "loss_best_units": losses}


def mean_loss(share_b: Tensor) -> float:
    """Mean loss (1 - R^2) / 2 of some units; predicting the mean costs 0.5."""
    return float((1 - share_b).mean() / 2) if len(share_b) else 0.5
