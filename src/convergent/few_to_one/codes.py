"""How many of net a's units it takes to account for one of net b's, beside one unit and beside all: held out.

Axes: `a` units of net a, `b` units of net b, `m` number of units used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from convergent.few_to_one.selection import selected_maps
from convergent.regression import best_ridge, predictors, ridge_map
from convergent.scores import held_out_of_maps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convergent.alignment import Method
    from convergent.pairs import Pair

FEW = 8  # units that a slightly distributed code uses at the most
_WITHIN = 0.95  # of what least squares explains


@dataclass(frozen=True, eq=False)
class FewToOne:
    """Shares of variance explained on held-out images, with the fit's means and scales, each of shape (q,) or (..., q).

    Attributes:
        methods: by the methods asked for, in their order, shape (methods, q).
        best: by the best 1, 2, ... 8 units, chosen forward and fitted by least squares, shape (m, q).
        all: by all units, least squares with the best ridge, shape (q,).
        counted: which units of b count, shape (q,).
    """

    methods: Tensor
    best: Tensor
    all: Tensor
    counted: Tensor

    @classmethod
    def of(cls, methods: list[Method], pair: Pair, counted_b: Tensor, folds: int = 5) -> FewToOne:
        """The figures of a pair with at least 2 blocks of images."""
        few = min(FEW, pair.p)
        b = counted_b.nonzero()[:, 0]

        def maps(fit: Pair) -> Iterator[Tensor]:
            for method in methods:
                yield method(fit).map_ab
            corr_aa, corr_ab = predictors(fit)
            for map_aj in selected_maps(corr_aa, corr_ab[:, b], few):
                yield torch.zeros(fit.p, fit.q, dtype=torch.float64).index_copy(1, b, map_aj)
            yield ridge_map(fit, best_ridge(fit, b), units_b=b)

        share_mb = held_out_of_maps(maps, pair, folds)
        return cls(share_mb[: len(methods)], share_mb[len(methods) : -1], share_mb[-1], counted_b)

    def loss(self, share_b: Tensor) -> float:
        """Mean loss (1 - R^2) / 2 of the units that count; predicting the mean costs 0.5."""
        share_b = share_b[self.counted]
        return float((1 - share_b).mean() / 2) if len(share_b) else 0.5

    def codes(self) -> dict[str, float]:
        """Shares of units by how many units do: explain at least 95 % of what least squares explains.

        Local: one; slightly distributed: two to eight; distributed: more; unpredicted: least squares explains nothing.
        """
        all_b, best_mb = self.all[self.counted], self.best[:, self.counted]
        if not len(all_b):
            return {}
        does_mb = (best_mb >= _WITHIN * all_b) & (all_b > 0)
        local_b, few_b = does_mb[0], does_mb.any(0)
        shares = {
            "local": local_b,
            "slightly_distributed": few_b & ~local_b,
            "distributed": ~few_b & (all_b > 0),
            "unpredicted": all_b <= 0,
        }
        return {name: float(is_b.double().mean()) for name, is_b in shares.items()}

    def figures(self) -> dict[str, float]:
        """The baselines' losses and the codes, by name."""
        return {"loss_one_unit": self.loss(self.best[0]), "loss_least_squares": self.loss(self.all), **self.codes()}

    def curve(self) -> dict[str, list[float]]:
        """Mean loss against the number of units used, each unit of b with its best ones."""
        losses = [self.loss(best_b) for best_b in self.best]
        return {"units": [m + 1.0 for m in range(len(losses))], "loss_best_units": losses}
