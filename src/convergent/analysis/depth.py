"""In which layer of another net the units of a layer have their partners: of populations, whose units are of many layers."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from convergent.analysis.reports import Report
from convergent.analysis.results import Result


def reports_of_depth(results: Sequence[Result], layers: Mapping[str, Mapping[str, int]]) -> list[Report]:
    """A table `depth` for each pair of populations, given of how many layers each net's consists: {population: {net: n}}."""
    units = {(result.layer, result.b): len(result.active_b) for result in results}
    reports = []
    for result in results:
        a, b = layers[result.layer][result.a], layers[result.layer][result.b]
        if rows := list(_rows(result, units.get((result.layer, result.a), 0), a, b)):
            reports.append(Report(result.layer, result.a, result.b, tables={"depth": rows}))
    return reports


def _rows(result: Result, units_a: int, layers_a: int, layers_b: int) -> Iterator[dict[str, Any]]:
    """A row per layer of b and layer of a; none where the layers of a population have not as many units each."""
    units_b = len(result.best_b)
    if layers_a * layers_b < 2 or units_a % layers_a or units_b % layers_b:
        return
    of_a, of_b = result.best_b // (units_a // layers_a), np.arange(units_b) // (units_b // layers_b)
    threshold = max((chance.threshold for chance in result.chance.values()), default=0.0)
    for i in range(layers_b):
        active = result.active_b & (of_b == i)
        for j in range(layers_a):
            there = active & (result.best_b >= 0) & (of_a == j)
            row = {"layer_b": i, "layer_a": j, "share": there.sum() / max(active.sum(), 1)}
            row |= {"share_above": (there & (result.best_r_b > threshold)).sum() / max(active.sum(), 1)}
            row |= {"mean_best_r": result.best_r_b[there].mean() if there.any() else 0.0}
            yield {name: round(float(value), 6) if isinstance(value, float) else value for name, value in row.items()}
