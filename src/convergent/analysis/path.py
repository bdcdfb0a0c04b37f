"""Losses along the lasso's penalty: table 1 of the paper, one penalty or a whole path of them.

Axes: `b` units of net b, `l` penalties.
"""

import math

from torch import Tensor

from convergent.analysis.codes import FewToOne, mean_loss
from convergent.analysis.reports import Report
from convergent.core.alignment import Alignment
from convergent.core.scores import held_out_of_maps
from convergent.methods.sparse import asked
from convergent.methods.sparse_path import SparsePath


def path(alignment: Alignment) -> Report | None:
    """Loss, variance explained and predictors per unit against the penalty; None for maps without a penalty."""
    alpha, pair = alignment.solver.get("alpha", 0.0), alignment.pair
    if not alpha:
        return None
    if isinstance(alignment.method, SparsePath):
        rows = _rows(alignment, alignment.method)
        columns = {
            "loss": "loss_held_out", "loss_fitted": "loss_fitted", "r2": "r2_held_out", "predictors": "predictors",
        }  # fmt: skip
        curve = {"log10_alpha": [math.log10(row["alpha"]) for row in rows]}
        curve |= {name: [row[key] for row in rows] for name, key in columns.items() if key in rows[0]}
        return Report.of(pair, scalars={"width": float(pair.p)}, tables={"path": rows}, curves={"log10_alpha": curve})
    curve = {"log10_alpha": [math.log10(alpha)], "predictors": [_predictors(alignment)]}
    if alignment.held_out_b is not None:
        loss = mean_loss(alignment.held_out_b[alignment.counted_b])
        curve |= {"loss": [loss], "r2": [1 - 2 * loss]}
    return Report.of(pair, curves={"log10_alpha": curve})


def _rows(alignment: Alignment, method: SparsePath) -> list[dict[str, float]]:
    """A row per penalty, the largest first: losses beside the baselines."""
    pair, counted_b = alignment.pair, alignment.counted_b
    asked_b = asked(pair.q, method.targets, method.seed)
    penalties = method.penalties(pair)
    fit = method.path(penalties, asked_b)
    maps, held_out_lb = fit(pair), list[Tensor]()
    if pair.holds_out:
        held_out_lb = list(held_out_of_maps(fit, pair))
        baselines = FewToOne.beside(alignment).losses()
    rows = []
    for number, (alpha, map_ab) in enumerate(zip(penalties, maps)):
        of_alpha = Alignment(pair, map_ab, asked_b=asked_b)
        row = {
            "alpha": alpha,
            "paper_lambda": alpha / pair.q,
            "loss_fitted": mean_loss(of_alpha.score_b[counted_b]),
            "predictors": _predictors(of_alpha),
            "chosen": int(alpha == alignment.solver["alpha"]),
        }
        if held_out_lb:
            loss = mean_loss(held_out_lb[number][counted_b])
            row |= {"loss_held_out": loss, "r2_held_out": 1 - 2 * loss, **baselines}
        rows.append(row)
    return rows


def _predictors(alignment: Alignment) -> float:
    """Mean predictors of the units that count; 0 where there is none."""
    predictors_b = alignment.predictors_b[alignment.counted_b].double()
    return float(predictors_b.mean()) if len(predictors_b) else 0.0
