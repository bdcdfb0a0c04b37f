"""In which layer of another net the units of a layer have their partners: of populations, whose units are of many layers."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convergent.analysis.reports import Report
from convergent.analysis.results import Result


def reports_of_depth(results: Sequence[Result], widths: Mapping[str, Mapping[str, Sequence[int]]]) -> list[Report]:
    """A table `depth` for each pair of populations, given the units of each net's layers: {population: {net: [units]}}."""
    reports = []
    for result in (result for result in results if result.layer in widths):
        of = widths[result.layer]
        layer_a, layer_b = (np.repeat(np.arange(len(of[net])), of[net]) for net in (result.a, result.b))
        rows = list(_rows(result, layer_a, layer_b))
        reports.append(Report(result.layer, result.a, result.b, tables={"depth": rows}))
    return reports


def _rows(result: Result, layer_a: NDArray[np.int64], layer_b: NDArray[np.int64]) -> Iterator[dict[str, Any]]:
    """A row per layer of b and layer of a, given the layer of each unit."""
    threshold = max((chance.threshold for chance in result.chance.values()), default=0.0)
    of_best = layer_a[result.best_b]  # of units without a best one any, and not counted
    for i in range(layer_b.max() + 1):
        active = result.active_b & (layer_b == i)
        for j in range(layer_a.max() + 1):
            there = active & (result.best_b >= 0) & (of_best == j)
            row = {"layer_b": i, "layer_a": j, "share": there.sum() / max(active.sum(), 1)}
            row |= {"share_above": (there & (result.best_r_b > threshold)).sum() / max(active.sum(), 1)}
            row |= {"mean_best_r": result.best_r_b[there].mean() if there.any() else 0.0}
            yield {name: round(float(value), 6) if isinstance(value, float) else value for name, value in row.items()}
