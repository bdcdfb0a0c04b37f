"""At which depth partners are found, where layers differ in width: against a plain loop over units."""

from dataclasses import replace

import pytest
import torch

from convergent.analysis.depth import reports_of_depth
from convergent.analysis.results import compare
from convergent.core.pairs import Pair
from convergent.methods.semimatching import SemiMatching

WIDTHS = {"a": [2, 5], "b": [4, 1, 3]}


def test_each_layers_units_are_counted_by_the_layer_of_their_partner():
    shared = torch.randn(400, 4).double()
    x_na, x_nb = torch.randn(400, 7).double(), torch.randn(400, 8).double()
    x_na[:, [0, 3, 4, 6]] += 2 * shared
    x_nb[:, [7, 0, 4, 2]] += 2 * shared
    x_nb[:, 1] = 1.0
    pair = Pair.of(x_na, x_nb)
    _, result = compare(SemiMatching(), pair, 400, {"rotated": [Pair.of(x_na, torch.randn(400, 20))]})
    result = replace(result, layer="mlp")
    threshold = result.chance["rotated"].threshold
    (report,) = reports_of_depth([result, replace(result, layer="fc")], {"mlp": WIDTHS})
    layer = {net: [i for i, width in enumerate(of) for _ in range(width)] for net, of in WIDTHS.items()}
    rows = {(row["layer_b"], row["layer_a"]): row for row in report.tables["depth"]}
    assert len(rows) == 6
    for (i, j), row in rows.items():
        units = [unit for unit in range(8) if layer["b"][unit] == i and unit != 1]
        there = [unit for unit in units if layer["a"][result.best_b[unit]] == j]
        above = [unit for unit in there if result.best_r_b[unit] > threshold]
        assert row["share"] == pytest.approx(len(there) / len(units), abs=1e-6)
        assert row["share_above"] == pytest.approx(len(above) / len(units), abs=1e-6)
    assert rows[2, 0]["share_above"] > 0
    assert rows[1, 1]["share"] == 1
