import csv
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from convergent.analysis.chance import Chance
from convergent.analysis.null_pairs import NullPairs
from convergent.analysis.nulls import rotated
from convergent.core.pairs import Pair
from convergent.methods.matching import Matching
from convergent.streaming.reading import Reading
from convergent.streaming.rotated_pass import BLOCKS

NULLS = ("rotated", "rotated_after", "shuffled")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return tmp_path_factory.mktemp("nulls")


def summary_of(root, label):
    return json.loads((root / "outputs/align/digits-convnet" / label / "summary.json").read_text())


def columns_of(root, label):
    with (root / "outputs/align/digits-convnet" / label / "scores.csv").open(newline="") as file:
        return csv.DictReader(file).fieldnames


def test_scalars_of_a_result_stand_beside_those_on_random_axes(command, trained):
    small = ["net.module.widths=[6,8,8,24]", "logger=csv", f"root={trained}", "trainer=cpu"]
    assert command("train", "seeds=[0,1,2]", "epochs=1", *small)[0] == 0
    of = [
        f"root={trained}",
        "logger=csv",
        "trainer=cpu",
        "pictures=null",
        "figure=[]",
        "evaluation.intervals=false",
        "evaluation.rotations=4",
        "images=val",
        "layers=[conv1,fc1]",
    ]
    code, _, err = command("align", "evaluation.nulls=[rotated,rotated_after,shuffled]", "label=all", *of)
    assert code == 0, err
    summary = summary_of(trained, "all")
    for scalars in summary["layers"].values():
        for null in NULLS:
            assert 0 <= scalars[f"above_{null}"] <= 1
            assert abs(scalars[f"mean_r_{null}"]) < 1
            assert scalars[f"r2_held_out_{null}"] < 1
        # rectified units on axes rotated behind their nonlinearity are dense, and correlate less
        assert scalars["mean_best_r_rotated"] > scalars["mean_best_r_rotated_after"] > scalars["mean_best_r_shuffled"]
        assert scalars["excess"] == pytest.approx(scalars["mean_best_r"] - scalars["mean_best_r_rotated"], abs=0.15)
    for scalars in summary["across"].values():
        for name in ("mutual_best", "cliques", "cycles", "consensus_r"):
            low, mean, high = (scalars[f"{name}_rotated{end}"] for end in ("_low", "", "_high"))
            assert 0 <= low <= mean <= high <= 1
        assert sum(scalars["found_in_rotated"]) == pytest.approx(1)
        assert scalars["found_in_rotated"][0] > 0.6  # its rate is nominal: most rotated units are below the threshold
    assert "excess" in columns_of(trained, "all")
    blocks = [len(load_file(file)["count_k"]) for file in trained.glob("outputs/moments/*/conv1.safetensors")]
    assert sorted(blocks) == [BLOCKS, Reading().blocks]  # of shuffled images only held-out scores are made
    saved = list((trained / "outputs/moments").glob("*/rotations=4/fc1.safetensors"))
    assert len(saved) == 1

    code, _, err = command("align", "evaluation.nulls=[]", "label=none", *of)
    assert code == 0, err
    assert "excess" not in columns_of(trained, "none")
    assert not [key for key in summary_of(trained, "none")["layers"]["fc1"] if "rotated" in key or key == "excess"]

    of[-1:] = ["layers=[fc1]", "pairs=[['seed=0','seed=1']]"]
    code, _, err = command("align", "method=mutual_information", "evaluation.nulls=[rotated]", "label=nats", *of)
    assert code == 0, err
    nats = summary_of(trained, "nats")["layers"]["fc1"]
    assert 0 < nats["nats_rotated"] < 1.2 * nats["nats"]

    code, _, err = command("align", "method=spectral", "evaluation.nulls=[rotated]", "label=clusters", *of)
    assert code == 0, err
    clusters = summary_of(trained, "clusters")["layers"]["fc1"]
    assert {"similarity_between_rotated", "subspace_span_explained_rotated"} <= set(clusters)

    code, _, err = command("align", "method=sparse", "evaluation.nulls=[rotated]", "label=codes", *of)
    assert code == 0, err
    assert {"local_rotated", "distributed_rotated"} <= set(summary_of(trained, "codes")["layers"]["fc1"])

    code, _, err = command("report", f"root={trained}")
    assert code == 0, err


def test_rotations_are_read_once_where_there_is_room_and_are_the_same_otherwise():
    of = {(a, b, draw): Pair.of(*torch.randn(2, 20, 3)) for a, b in ((0, 1), (1, 0)) for draw in range(2)}
    read = []

    def pair(a, b, draw):
        read.append((a, b, draw))
        return of[a, b, draw]

    nulls = NullPairs(None, SimpleNamespace(nets=["a", "b"], draws=[0, 1], pair=pair))
    size = 8 * 20 * 6**2  # bytes of one
    for room, times in ((0, 4), (size - 1, 4), (4 * size, 1)):
        read.clear()
        with_room = replace(nulls, room=room)
        for _ in range(2):
            there = with_room.of(0, 1)["rotated"]
            assert [draw.moments for draw in there] == [of[0, 1, draw].moments for draw in range(2)]
        assert [draw.moments for draw in with_room.rotated_a(1, 0)] == [draw.moments for draw in there]
        assert sorted(read) == sorted([(0, 1, 0), (0, 1, 1)] * times)


@pytest.mark.parametrize(("units", "fits"), [(300, 1), (100, 3), (20, 5)])
def test_a_method_is_fitted_to_so_many_draws_of_a_null_as_have_enough_units(units, fits):
    x_na, x_nb = torch.randn(2, 400, units, generator=torch.Generator().manual_seed(0))
    pair, fitted = Pair.of(x_na, x_nb, blocks=2), []

    def method(given):
        fitted.append(given)
        return Matching()(given)

    chance = Chance.of(method, [rotated(pair, seed) for seed in range(5)])
    assert len(fitted) == 3 * fits  # with two held-out folds
    assert len(chance.best_r) == 5 * units
    assert -1 < chance.r2_held_out < 0.2
