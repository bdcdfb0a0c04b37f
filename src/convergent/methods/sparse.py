"""Sparse prediction: every unit of net b from a few units of net a, the lasso solved exactly.

Axes: `a` units of net a, `b` units of net b.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Annotated, Any

import torch
from torch import Tensor

from convergent.analysis.balanced import cluster_rows
from convergent.analysis.codes import FewToOne, mean_loss
from convergent.analysis.findings import Findings
from convergent.analysis.tree import Tree
from convergent.core.alignment import Alignment
from convergent.core.regression import predictors, ridge_map
from convergent.errors import InputError
from convergent.figures.few_to_one import few_to_one
from convergent.figures.tree import mapping_figure, tree_figure
from convergent.methods.solvers.lasso import lasso
from convergent.options import NULL, check_fields, number, whole

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

    from convergent.core.alignment import Method
    from convergent.core.pairs import Pair

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
        targets: how many units of b, drawn at random, are accounted for; all by default. The others count nowhere.
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
        return self._fit(pair)

    def near(self, alignment: Alignment) -> Method:
        """The same, with the signs of an alignment tried first."""
        return partial(self._fit, start_ab=alignment.map_ab)

    def penalty(self, pair: Pair) -> float:
        """Alpha for a pair."""
        if self.paper_lambda is not None:
            return self.paper_lambda * pair.q
        return _DEFAULT if self.alpha is None else self.alpha

    def _fit(self, pair: Pair, start_ab: Tensor | None = None) -> Alignment:
        alpha = self.penalty(pair)
        asked_b = asked(pair.q, self.targets, self.seed)
        warn_of_few_samples(pair)
        if alpha == 0 and not self.positive:
            return Alignment.of(pair, ridge_map(pair, 0.0, units_b=asked_b.nonzero()[:, 0]), None, None, None, asked_b)
        alpha = max(alpha, 1e-9)  # positive weights without penalty: as good as none
        announce(pair.p, int(asked_b.sum()), 1)
        starts = None if start_ab is None else [start_ab[:, asked_b]]
        corr_aa, corr_ab = predictors(pair)
        (found,) = lasso(corr_aa, corr_ab[:, asked_b], [alpha], positive=self.positive, starts=starts)
        map_ab = torch.zeros(pair.p, pair.q, dtype=torch.float64)
        map_ab[:, asked_b] = found.map_ab
        solver = {"alpha": alpha, "gap": float(found.gap_b.max()), "kkt": float(found.kkt_b.max())}
        return Alignment.of(pair, map_ab, solver=solver, asked_b=asked_b)

    def tell(self, pair: Pair, alignment: Alignment) -> Findings:
        """Losses beside the baselines, the codes, the tree and its clusters."""
        counted_b = pair.active_b & asked(pair.q, self.targets, self.seed)
        figures = {"loss_fitted": mean_loss(alignment.score_b[counted_b])}
        curves: dict[str, dict[str, list[float]]] = {}
        if pair.holds_out:
            beside = FewToOne.of([self.near(alignment)], pair, counted_b)
            loss = mean_loss(beside.methods[0])
            figures |= {"loss_held_out": loss, "r2_held_out": 1 - 2 * loss, **beside.figures()}
            curves["units"] = beside.curve()
        if alpha := self.penalty(pair):
            used = float(alignment.predictors_b[counted_b].double().mean()) if counted_b.any() else 0.0
            curves["log10_alpha"] = {"log10_alpha": [math.log10(alpha)], "predictors": [used]}
            if pair.holds_out:
                curves["log10_alpha"] |= {"loss": [figures["loss_held_out"]], "r2": [figures["r2_held_out"]]}
        tree, clusters = Tree.of(pair, alignment), cluster_rows(self.near(alignment), pair)
        return Findings.of(
            pair,
            figures=figures | {"balanced_clusters": float(len(tree.balanced()))} | _tested(clusters),
            tables={"clusters": clusters, "three_units": three_units(alignment)},
            curves=curves,
            tree=tree.labels(pair),
            drawings={
                "tree": partial(tree_figure, tree, pair, alignment),
                "mapping": partial(mapping_figure, pair, alignment),
            },
        )

    def overview(self, told: Sequence[Findings]) -> Mapping[str, Figure]:
        """Loss against predictors per unit and the codes, by layer."""
        return {"few_to_one": few_to_one(told)} if any("local" in found.figures for found in told) else {}


def _tested(clusters: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """How many balanced clusters half of the images choose, and how many of them the other half confirm at p <= 0.05."""
    tested = [row["p_value"] for row in clusters if row["p_value"] is not None]
    return {"clusters_tested": float(len(tested)), "clusters_confirmed": float(sum(p <= 0.05 for p in tested))}


def asked(q: int, targets: int | None, seed: int) -> Tensor:
    """Which units of b are accounted for, shape (q,): a seeded sample that does not depend on the images."""
    order_b = torch.randperm(q, generator=torch.Generator().manual_seed(seed))
    return torch.zeros(q, dtype=torch.bool).index_fill(0, order_b[:targets], True)


def three_units(alignment: Alignment) -> list[dict[str, float]]:
    """A row for every unit of b that exactly three units of a account for, best first: which ones, and their weights."""
    rows = []
    for b in (alignment.predictors_b == 3).nonzero()[:, 0].tolist():
        weight_a = alignment.map_ab[:, b]
        order = weight_a.abs().argsort(descending=True, stable=True)[:3].tolist()
        row: dict[str, float] = {"unit": b, "r2_in_sample": round(float(alignment.score_b[b]), 6)}
        for place, a in enumerate(order, 1):
            row |= {f"unit_{place}": a, f"weight_{place}": round(float(weight_a[a]), 6)}
        rows.append(row)
    return sorted(rows, key=lambda row: -row["r2_in_sample"])


def warn_of_few_samples(pair: Pair) -> None:
    """Say once if there are so few samples that any unit can be predicted on them."""
    if pair.count <= pair.p:
        _say(
            f"{pair.layer or 'A layer'}: {pair.count} samples for {pair.p} units that predict; their fit to these images "
            "says nothing, only held-out figures do. Read more images, or more positions."
        )


def announce(p: int, q: int, penalties: int) -> None:
    """Say beforehand how long a fit takes where that is long."""
    seconds = penalties * q * 3e-3 * (p / 512) ** 2.5
    if seconds > _LONG:
        _say(
            f"Sparse prediction of {q:,} units from {p:,} takes about {seconds / 60:.0f} minutes of one core a fit, and is "
            "fitted anew for held-out scores, intervals and nulls; targets=100 takes a sample of the units, "
            "intervals=false and nulls=[] spare refits."
        )


@cache
def _say(text: str) -> None:
    log.warning(text)
