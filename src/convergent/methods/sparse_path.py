"""Sparse prediction for a whole path of penalties; the alignment is that of the penalty which held-out images choose.

Axes: `a` units of net a, `b` units of net b, `l` penalties.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from convergent.core.alignment import Alignment, Method
from convergent.core.pairs import Pair
from convergent.core.regression import predictors
from convergent.core.scores import held_out_of_maps
from convergent.errors import InputError
from convergent.methods.solvers.lasso import lasso
from convergent.methods.sparse import SparsePrediction, announce, asked, warn_of_few_samples
from convergent.options import NULL, check_fields, listed, number, whole

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
        targets: how many units of b, drawn at random, are predicted; all by default.
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
        penalties = self.penalties(pair)
        asked_b = asked(pair.q, self.targets, self.seed)
        warn_of_few_samples(pair)
        choosing_b = asked(pair.q, min(_CHOOSE, self.targets or _CHOOSE), self.seed)
        announce(pair.p, int(choosing_b.sum()) * self.folds + int(asked_b.sum()), len(penalties))
        counted_b = pair.active_b & choosing_b
        share_lb = held_out_of_maps(self.path(penalties, choosing_b), pair, self.folds)[:, counted_b]
        chosen = int(share_lb.mean(1).argmax()) if counted_b.any() else 0
        return self.at(penalties[chosen])(pair)

    def refit(self, alignment: Alignment, *, choices: bool) -> Method:
        """With `choices` sparse prediction with an alignment's penalty; otherwise it is chosen anew."""
        return self.at(alignment.solver["alpha"]) if choices else self

    def at(self, alpha: float) -> SparsePrediction:
        """Sparse prediction with one penalty."""
        return SparsePrediction(alpha, positive=self.positive, targets=self.targets, seed=self.seed)

    def penalties(self, pair: Pair) -> list[float]:
        """Alphas for a pair, the largest first."""
        alphas = self.alphas if self.paper_lambdas is None else [each * pair.q for each in self.paper_lambdas]
        return sorted(set(_ALPHAS if alphas is None else alphas), reverse=True)

    def path(self, penalties: Sequence[float], asked_b: Tensor) -> Callable[[Pair], list[Tensor]]:
        """Maps of some units of b for each penalty, as a function of the pair that they are fitted to."""

        def maps(fit: Pair) -> list[Tensor]:
            corr_aa, corr_ab = predictors(fit)
            solutions = lasso(corr_aa, corr_ab[:, asked_b], penalties, positive=self.positive)
            b = asked_b.nonzero()[:, 0]
            empty_ab = torch.zeros(fit.p, fit.q, dtype=torch.float64)
            return [empty_ab.index_copy(1, b, solution.map_ab) for solution in solutions]

        return maps
