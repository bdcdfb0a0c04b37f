"""Measures of similarity on the command line: some by name, all layers with all, and a sample where one needs it."""

import csv
import json

import pytest

SMALL = ("net.module.widths=[4,5,4,6]", "epochs=0", "logger=csv", "seeds=[0,1]")
ALIGN = (
    "method=matching",
    "evaluation.nulls=[]",
    "pictures=null",
    "logger=csv",
    "layers=[conv1,fc1]",
    "figure=[layer_heatmaps]",
    "images=val",
    "reading.blocks=6",
    "analysis=[path]",
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("similarity")


def test_all_layers_are_compared_in_the_same_pass_and_samples_are_kept_where_they_are_needed(command, root):
    at = f"root='{root}'"
    assert command("train", at, *SMALL)[0] == 0
    some = "similarity=[cka,cca,neighbours]"
    code, _, err = command(
        "align", at, *ALIGN, some, "pairs=all_layers", "label=all", "evaluation.measure_intervals=true"
    )
    assert code == 0, err
    folder = root / "outputs" / "align" / "digits-convnet" / "all"
    with (folder / "layers.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 4 * 3  # two layers of two nets
    assert {"cka", "svcca", "r2_held_out"} <= rows[0].keys()
    assert {(row["layer_a"], row["layer_b"]) for row in rows if row["a"] == row["b"]} == {
        ("conv1", "fc1"),
        ("fc1", "conv1"),
    }
    assert {f"layer_heatmaps{end}.png" for end in ("", "_within")} <= {
        file.name for file in (folder / "figures").iterdir()
    }
    summary = json.loads((folder / "summary.json").read_text())
    for pair in summary["pairs"]:
        assert pair["cka_debiased_low"] < pair["cka_debiased"] < pair["cka_debiased_high"]
        assert 0 < pair["neighbours"] <= 1
        assert not {"rsa_pearson", "neighbours_low", "cka_shuffled"} & pair.keys()
    (same,) = [row for row in rows if row["layer_a"] == row["layer_b"] == "fc1" and row["a"] == "seed=0"]
    (pair,) = [pair for pair in summary["pairs"] if pair["layer"] == "fc1" and pair["a"] == "seed=0"]
    assert float(same["cka"]) == pytest.approx(pair["cka"], rel=1e-12)


def test_all_layers_need_one_pass(command, root):
    at = f"root='{root}'"
    code, _, err = command("align", at, *ALIGN, "pairs=all_layers", "label=some", "reading.layers_per_pass=1")
    assert code != 0
    assert "pairs=all_layers needs all layers in one pass; leave reading.layers_per_pass out." in err
