"""Sparse prediction for a whole path of penalties; the alignment is that of the penalty which held-out images choose.

Axes: `a` units of net a, `b` units of net b, `l` penalties.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import torch
from torch import Tensor

from convergent.analysis.codes import mean_loss
from convergent.analysis.findings import Findings
from convergent.core.alignment import Alignment
from convergent.core.regression import predictors
from convergent.core.scores import held_out_of_maps
from convergent.errors import InputError
from convergent.figures.few_to_one import few_to_one, path_figure
from convergent.methods.solvers.lasso import lasso
from convergent.methods.sparse import SparsePrediction, announce, asked, warn_of_few_samples
from convergent.options import NULL, check_fields, listed, number, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from matplotlib.figure import Figure

    from convergent.core.alignment import Method
    from convergent.core.pairs import Pair

_ALPHAS = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
_PENALTIES = listed(number(0, above=True), example="[0.1,0.01]")
_CHOOSE = 32  # units of b that choose the penalty, at the most


@dataclass(frozen=True)
class SparsePath:
    """Sparse prediction with the one penalty, of a few, that predicts b best on held-out images, the mean over its units.

    Of wide layers 32 units of b, drawn at random, choose: their mean hardly differs from that of all, and takes less time.
    Where images are many the smallest penalty is often best: no penalty is needed to predict, only to predict from few.

    The choice is made inside the images that the method is given: where it is refitted without some images to be scored on
    them (`scores.held_out`), it chooses anew without those, so the held-out score knows nothing of what it is judged
    by. Only the intervals over images keep the penalty that all images chose.

    Attributes:
        alphas: penalties, above 0; by default 0.3 to 0.001.
        paper_lambdas: the same in the paper's units, alpha = paper_lambda x units of b.
        folds: of the blocks of images that it is fitted to, that choose the penalty; not those of held-out scores.
        positive: only weights of 0 and above.
        targets: how many units of b, drawn at random, are accounted for; all by default.
        seed: of that draw.

    Source: Li et al. 2016, section 4, table 1.
    """

    alphas: Annotated[Sequence[float] | None, _PENALTIES | NULL] = None
    paper_lambdas: Annotated[Sequence[float] | None, _PENALTIES | NULL] = None
    folds: Annotated[int, whole(2)] = 3
    positive: bool = False
    targets: Annotated[int | None, whole(1) | NULL] = None
    seed: Annotated[int, whole()] = 0

    def __post_init__(self) -> None:
        if self.alphas is not None and self.paper_lambdas is not None:
            raise InputError("Set alphas or paper_lambdas, not both: alpha is paper_lambda x units.")
        check_fields(self)

    def __call__(self, pair: Pair) -> Alignment:
        """The alignment of `pair` by the chosen penalty.

        Raises:
            InputError: if there are no two blocks of images to choose by.
        """
        return self._fit(pair)[0]

    def _fit(
        self, pair: Pair, first: Alignment | None = None, starts: Sequence[Tensor] | None = None
    ) -> tuple[Alignment, list[Tensor]]:
        """The alignment, and the choosing units' maps of all penalties, from those of nearly the same images if given."""
        penalties = self._penalties(pair)
        asked_b = asked(pair.q, self.targets, self.seed)
        warn_of_few_samples(pair)
        choosing_b = asked(pair.q, min(_CHOOSE, self.targets or _CHOOSE), self.seed)
        announce(pair.p, int(choosing_b.sum()) * (1 + self.folds) + int(asked_b.sum()), len(penalties))
        maps = self._path(pair, choosing_b, starts)(pair)
        near = self._path(pair, choosing_b, maps)
        counted_b = pair.active_b & choosing_b
        share_lb = held_out_of_maps(near, pair, self.folds)[:, counted_b]
        chosen = int(share_lb.mean(1).argmax()) if counted_b.any() else 0
        method = self._at(penalties[chosen])
        same = first is not None and first.solver["alpha"] == penalties[chosen]
        return (method.near(first) if first is not None and same else method)(pair), maps

    def near(self, alignment: Alignment) -> Method:
        """The same, each fit beginning at the maps of the first."""
        starts: list[Tensor] | None = None  # the first fit's maps, where the others begin

        def fit(pair: Pair) -> Alignment:
            nonlocal starts
            found, maps = self._fit(pair, alignment, starts)
            starts = starts or maps
            return found

        return fit

    def given(self, alignment: Alignment) -> Method:
        """Sparse prediction with the penalty that was chosen for an alignment, starting there: what intervals are about."""
        return self._at(alignment.solver["alpha"]).near(alignment)

    def settled(self, alignment: Alignment) -> Method:
        """Sparse prediction with the penalty that was chosen for an alignment: what chance gives is judged by that one."""
        return self._at(alignment.solver["alpha"])

    def _at(self, alpha: float) -> SparsePrediction:
        return SparsePrediction(alpha, positive=self.positive, targets=self.targets, seed=self.seed)

    def _penalties(self, pair: Pair) -> list[float]:
        given = self.alphas if self.paper_lambdas is None else [each * pair.q for each in self.paper_lambdas]
        return sorted(set(_ALPHAS if given is None else given), reverse=True)

    def _path(
        self, pair: Pair, asked_b: Tensor, starts: Sequence[Tensor] | None = None
    ) -> Callable[[Pair], list[Tensor]]:
        """Maps of all penalties, largest first, of some units of b, as a function of the pair that they are fitted to."""
        penalties = self._penalties(pair)
        begun = None if starts is None else [start_ab[:, asked_b] for start_ab in starts]

        def maps(fit: Pair) -> list[Tensor]:
            corr_aa, corr_ab = predictors(fit)
            found = lasso(corr_aa, corr_ab[:, asked_b], penalties, positive=self.positive, starts=begun)
            b = asked_b.nonzero()[:, 0]
            empty_ab = torch.zeros(fit.p, fit.q, dtype=torch.float64)
            return [empty_ab.index_copy(1, b, solution.map_ab) for solution in found]

        return maps

    def tell(self, pair: Pair, alignment: Alignment) -> Findings:
        """Table 1: a row per penalty, with losses beside the baselines; and all that the chosen penalty has to tell."""
        asked_b = asked(pair.q, self.targets, self.seed)
        counted_b, penalties = pair.active_b & asked_b, self._penalties(pair)
        maps = self._path(pair, asked_b)(pair)
        near = self._path(pair, asked_b, maps)

        told = self._at(alignment.solver["alpha"]).tell(pair, alignment)
        share_lb = held_out_of_maps(near, pair) if pair.holds_out else [None] * len(penalties)
        rows = []
        for alpha, map_ab, share_b in zip(penalties, maps, share_lb):
            whole = Alignment.of(pair, map_ab)
            row = {
                "alpha": alpha,
                "paper_lambda": alpha / pair.q,
                "loss_fitted": mean_loss(whole.score_b[counted_b]),
                "predictors": float(whole.predictors_b[counted_b].double().mean()) if counted_b.any() else 0.0,
                "chosen": int(alpha == alignment.solver["alpha"]),
            }
            if share_b is not None:
                loss = mean_loss(share_b[counted_b])
                baselines = {name: told.figures[name] for name in ("loss_one_unit", "loss_least_squares")}
                row |= {"loss_held_out": loss, "r2_held_out": 1 - 2 * loss, **baselines}
            rows.append(row)
        columns = {
            "loss": "loss_held_out",
            "loss_fitted": "loss_fitted",
            "r2": "r2_held_out",
            "predictors": "predictors",
        }
        curve = {"log10_alpha": [math.log10(row["alpha"]) for row in rows]}
        curve |= {name: [row[key] for row in rows] for name, key in columns.items() if key in rows[0]}
        return replace(
            told,
            figures={**told.figures, "width": float(pair.p)},
            tables={"path": rows, **told.tables},
            curves={**told.curves, "log10_alpha": curve},
        )

    def overview(self, told: Sequence[Findings]) -> Mapping[str, Figure]:
        """The path, a curve per layer, and how many units it takes: where images are held out."""
        if not any("local" in found.figures for found in told):
            return {}
        return {"path": path_figure(told), "few_to_one": few_to_one(told)}
