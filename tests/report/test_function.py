"""The sentences of function say what was kept, and when that is no evidence."""

from itertools import permutations

import pandas as pd
import pytest

from convergent.report.function import in_short, sentences
from convergent.report.loading import Finished
from convergent.report.predicting import predicting


def summary(layers, nets="0123"):
    """A row per pair; each net adds its own part, so that there is an interval."""
    rows = []
    for layer, scalars in layers.items():
        for a, b in permutations(nets, 2):
            own = 0.004 * (int(a) + int(b) - 3)
            rows.append({"layer": layer, "a": a, "b": b} | {name: value + own for name, value in scalars.items()})
    return {"images": 100, "pairs": rows}


def scalars(kept, untrained, linear, linear_untrained):
    return {
        "r2_held_out": 0.23, "kept_restored": kept, "kept_rotated_restored": 0.7, "kept_untrained_restored": untrained,
        "kept_least_squares_restored": linear, "kept_least_squares_untrained_restored": linear_untrained,
    }  # fmt: skip


def test_a_stitch_that_an_untrained_net_does_as_well_is_called_no_evidence():
    layers = {"conv1": scalars(0.93, 0.91, 0.99, 0.98), "conv2": scalars(0.93, 0.17, 0.98, 0.84)}
    first, second = sentences({"matching": summary(layers)})
    assert first.startswith(
        "conv1: matching explains 23% of a unit's variance, and put in the units' place keeps 93% (9"
    )
    assert (
        "of the decisions; from an untrained network 91%, from a randomly rotated one 70%: an untrained network"
        in first
    )
    assert first.count("is no evidence") == 2
    assert second.startswith("conv2: ")
    assert "from an untrained network 17%, from a randomly rotated one 70%. Least squares keeps 98%, " in second
    assert "no evidence" not in second
    assert in_short({"matching": summary(layers)}).endswith(
        "(matching, variance restored), a network keeps 93% (conv1) to 93% (conv2) of its decisions, from an untrained "
        "network 17% (conv2) to 91% (conv1)."
    )


def test_results_that_were_not_judged_say_nothing():
    assert sentences({"matching": summary({"conv1": {"r2_held_out": 0.2}})}) == []
    assert not in_short({"matching": summary({"conv1": {"r2_held_out": 0.2}})})
    judged = summary({"conv1": scalars(0.9, 0.1, 0.9, 0.1)})
    alone = {"images": 100, "pairs": [{"layer": "x", "a": "0", "b": "1", "kept_restored": 0.5}]}
    assert sentences({"spectral": judged, "sparse": summary({"conv1": {}})})[0].startswith("conv1: spectral explains")
    assert sentences({"mine": alone}) == ["x: mine, put in the units' place keeps 50% of the decisions."]


@pytest.mark.parametrize(("nets", "lines"), [("ab", 0), ("abc", 3)])
def test_measures_predict_what_is_kept_where_there_are_three_pairs_at_least(tmp_path, nets, lines):
    folder = tmp_path / "matching"
    folder.mkdir()
    pairs = [{"layer": "x", "a": a, "b": b, "cka": ord(a) + 0.1 * ord(b)} for a, b in permutations(nets, 2)]
    of_maps = [pair | {"map": name} for name in ("method", "rotated", "untrained") for pair in pairs]
    kept = [row | {"restored": 1, "kept": 2 * row["cka"], "r2_held_out": -row["cka"]} for row in of_maps]
    pd.DataFrame(kept).drop(columns="cka").to_csv(folder / "function.csv", index=False)
    pd.DataFrame(of_maps[len(pairs) :]).to_csv(folder / "control_measures.csv", index=False)
    rows = predicting([Finished(folder, {"images": 9, "pairs": pairs}, "")])
    assert len(rows) == lines
    assert [cells[1].partition(" ")[0] for cells in rows[1:]] == ["\N{MINUS SIGN}1.00", "1.00"][: len(rows)]
