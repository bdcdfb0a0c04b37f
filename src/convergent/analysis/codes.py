"""How many of net a's units it takes to predict one of net b's, beside one unit and beside all: held out.

Axes: `a` units of net a, `b` units of net b, `m` number of predictors per unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from convergent.analysis.gains import CODES, Gains
from convergent.analysis.reports import Report
from convergent.core.alignment import Alignment
from convergent.core.pairs import Pair
from convergent.core.prediction import r2


@dataclass(frozen=True, eq=False)
class FewToOne:
    """Shares of variance explained on held-out images, with the fit's means and scales, of the units of b that count.

    Attributes:
        best: by the best 1, 2, ... 8 units, chosen forward and fitted by least squares, shape (m, b).
        all: by all units, least squares with the best ridge, shape (b,).
        code: which code each has, its number in `gains.CODES`, shape (b,).
    """

    best: Tensor
    all: Tensor
    code: Tensor

    @classmethod
    def of(cls, pair: Pair, counted_b: Tensor) -> FewToOne:
        """The scores of a pair that holds images out, of the units that count, shape (q,)."""
        gains = Gains.of(pair, counted_b.nonzero()[:, 0])
        total_b = gains.total_kb.sum(0)
        best_mb, all_b = (r2(total_b - gain_k.sum(0), total_b) for gain_k in (gains.best_kmb, gains.all_kb))
        return cls(best_mb, all_b, gains.codes())

    @classmethod
    def beside(cls, alignment: Alignment) -> FewToOne:
        """The same beside an alignment, made once for all that have the same units to predict, see `Pair.shared`."""
        if alignment not in _MADE:
            pair, counted_b = alignment.pair, alignment.counted_b
            values = pair.shared("few_to_one", lambda: cls.of(pair, counted_b).as_json(), counted_b)
            _MADE[alignment] = cls.of_json(values)
        return _MADE[alignment]

    def as_json(self) -> dict[str, Any]:
        """The same as what JSON has."""
        return {"best": self.best.tolist(), "all": self.all.tolist(), "code": self.code.tolist()}

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> FewToOne:
        """From what `as_json` made."""
        best, every = (torch.tensor(values[name], dtype=torch.float64) for name in ("best", "all"))
        return cls(best, every, torch.tensor(values["code"], dtype=torch.long))

    def codes(self) -> dict[str, float]:
        """Shares of units by how many units of a do what all do, see `gains.Gains.codes`; empty if no unit counts."""
        if not len(self.code):
            return {}
        return {name: float((self.code == number).double().mean()) for number, name in enumerate(CODES)}

    def losses(self) -> dict[str, float]:
        """The baselines' losses, by name."""
        return {"loss_one_unit": mean_loss(self.best[0]), "loss_least_squares": mean_loss(self.all)}

    def curve(self) -> dict[str, list[float]]:
        """Mean loss against the number of predictors per unit, each unit of b with its best ones."""
        losses = [mean_loss(best_b) for best_b in self.best]
        return {"units": [m + 1.0 for m in range(len(losses))], "loss_best_units": losses}


_MADE: WeakKeyDictionary[Alignment, FewToOne] = WeakKeyDictionary()


def mean_loss(share_b: Tensor) -> float:
    """Mean loss (1 - R^2) / 2 of some units; predicting the mean costs 0.5."""
    return float((1 - share_b).mean() / 2) if len(share_b) else 0.5


def few_to_one(alignment: Alignment) -> bool:
    """Whether a map takes for each unit some of a's units: a penalty does; else some units have several, not all of a's."""
    predictors_b = alignment.predictors_b[alignment.counted_b]
    several = bool((predictors_b > 1).any() and (predictors_b < alignment.pair.reliable_a.sum()).any())
    return alignment.labels_b is None and ("alpha" in alignment.solver or several)


def codes(alignment: Alignment) -> Report | None:
    """The map's loss beside that of one unit and of all, codes, and units with three predictors; of few-to-one maps only."""
    if not few_to_one(alignment):
        return None
    counted_b = alignment.counted_b
    scalars, curves = {"loss_fitted": mean_loss(alignment.score_b[counted_b])}, {}
    if alignment.held_out_b is not None:
        few = FewToOne.beside(alignment)
        scalars |= {"loss_held_out": mean_loss(alignment.held_out_b[counted_b]), **few.losses(), **few.codes()}
        curves["units"] = few.curve()
    return Report.of(alignment.pair, scalars=scalars, tables={"three_units": three_units(alignment)}, curves=curves)


def three_units(alignment: Alignment) -> list[dict[str, float]]:
    """A row for every unit of b that exactly three units of a predict, best first: which ones, and their weights."""
    rows = []
    for b in (alignment.predictors_b == 3).nonzero()[:, 0].tolist():
        weight_a = alignment.map_ab[:, b]
        order = weight_a.abs().argsort(descending=True, stable=True)[:3].tolist()
        row: dict[str, float] = {"unit": b, "r2_in_sample": round(float(alignment.score_b[b]), 6)}
        for place, a in enumerate(order, 1):
            row |= {f"unit_{place}": a, f"weight_{place}": round(float(weight_a[a]), 6)}
        rows.append(row)
    return sorted(rows, key=lambda row: -row["r2_in_sample"])
