import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from convergent.figures.methods import methods
from convergent.report.loading import comparable, find
from convergent.report.tables import agreement, clusters, controls, explained, summary, table_1
from convergent.storage.layout import LAYOUT


def result(aligned, name, images=100, labels=None, tree=None, **scalars):
    """A finished result's folder with one layer of one pair of nets."""
    folder = aligned / name
    (folder / "alignments").mkdir(parents=True)
    (folder / "config.yaml").write_text(
        f"layout: {LAYOUT}\nimages: {images}\nnets: {{one: a, two: b}}\nmethod: {{_target_: {name[:4]}}}\n"
        "pairs: null\nat_epochs: null\nreading: {sample: every, units: auto}\nevaluation: {folds: 5}\n"
    )
    row = {"layer": "fc1", "a": "one", "b": "two", "predictors": 2.0, "r2_held_out": 0.5} | scalars
    content = {"images": images, "layers": {"fc1": row}, "pairs": [row]}
    (folder / "summary.json").write_text(json.dumps(content))
    (folder / "scores.csv").write_text("layer,a,b,unit,r\nfc1,one,two,0,0.5\n")
    tensors = {"one to two/weight": torch.ones(1)}
    if labels:
        tensors |= {"one to two/labels_a": torch.tensor(labels[:3]), "one to two/labels_b": torch.tensor(labels[3:])}
    if tree:
        tensors |= {"one to two/tree_a": torch.tensor(tree[:3]), "one to two/tree_b": torch.tensor(tree[3:])}
    save_file(tensors, folder / "alignments" / "fc1.safetensors")
    (folder / "done").touch()


def test_results_that_differ_in_the_method_alone_go_together_sweeps_under_one_name(tmp_path):
    for name in ("sparse,alpha=0.1", "sparse,alpha=0.2", "matching"):
        result(tmp_path, name)
    result(tmp_path, "sparse,alpha=0.1,images=val,ridge=2", images=20)
    (tmp_path / "unfinished").mkdir()
    by_name = find(tmp_path)
    assert [each.name for each in by_name] == [
        "matching",
        "sparse,alpha=0.1",
        "sparse,alpha=0.2",
        "sparse,alpha=0.1,ridge=2",
    ]
    first, second = comparable(by_name)
    assert {method: len(results) for method, results in first.items()} == {"matching": 1, "sparse": 2}
    assert list(second) == ["sparse"]
    assert second["sparse"][0].explained() == 0.5


def cut(file):
    file.write_bytes(file.read_bytes()[:-6])


def zeros(file):
    file.write_bytes(bytes(file.stat().st_size))


@pytest.mark.parametrize("file", ["config.yaml", "summary.json", "scores.csv", "alignments/fc1.safetensors"])
@pytest.mark.parametrize("damage", [Path.unlink, zeros, cut])
def test_a_damaged_result_is_named_and_left_out(tmp_path, caplog, file, damage):
    result(tmp_path, "matching")
    result(tmp_path, "sparse")
    bad = tmp_path / "matching"
    if file == "config.yaml" and damage is cut:
        (bad / file).write_text("images: [1")
    else:
        damage(bad / file)
    assert [each.name for each in find(tmp_path)] == ["sparse"]
    (message,) = caplog.messages
    assert message.startswith(f"{bad / file} is {'missing' if damage is Path.unlink else 'damaged'}; make")
    assert message.endswith(f"force=true or delete {bad}. It is left out of the report.")


def test_agreement_is_of_all_that_have_labels(tmp_path):
    result(tmp_path, "matching")
    result(tmp_path, "spectral", labels=[0, 0, 1, 0, 1, -1])
    result(tmp_path, "other", labels=[2, 2, 1, 2, 1, 7])
    result(tmp_path, "other,images=val", images=20, labels=[2, 2, 1, 2, 1, 7])
    headings, *rows = agreement(find(tmp_path))
    assert headings == ["layer", "method", "and", "images", "units", "adjusted Rand"]
    assert rows == [["fc1", "other", "spectral", "100", "83%", "1.00 ± 0.00"]]


def test_trees_are_compared_with_clusters_and_not_with_one_another(tmp_path):
    for name, tree in (("sparse,alpha=0.1", [0, 0, -1, 0, -1, -1]), ("sparse,alpha=0.2", [0, 0, 1, 1, -1, -1])):
        result(tmp_path, name, tree=tree)
    result(tmp_path, "spectral", labels=[0, 0, 1, 0, 1, -1])
    result(tmp_path, "sparse,alpha=0.1,images=val", images=20, tree=[0, 0, 0, 0, 0, 0])  # no clusters of these images
    _, *rows = agreement(find(tmp_path))
    assert rows == [
        ["fc1", "tree of sparse,alpha=0.1", "spectral", "100", "50%", "1.00 ± 0.00"],
        ["fc1", "tree of sparse,alpha=0.2", "spectral", "100", "67%", "0.00 ± 0.00"],
    ]


def test_the_table_of_clusters_lists_what_clusters_and_leaves_unknown_numbers_out(tmp_path):
    result(tmp_path, "matching")
    result(tmp_path, "spectral", solver_clusters=4, similarity_between=0.25, rand=1.0)
    headings, row = clusters(find(tmp_path))
    cells = dict(zip(headings, row))
    assert (cells["clusters"], cells["similarity"], cells["ARI"], cells["random"]) == ("4.0", "0.25", "1.00", "-")


@pytest.mark.parametrize("missing", ["predictors", "r2_held_out"])
def test_a_method_without_a_number_has_no_mark_and_one_without_units_no_place(missing):
    row = {"layer": "fc1", "predictors": 2.0, "r2_held_out": 0.5}
    one, two, none = [[row | {"predictors": 1.0}], [row]], [[row | {missing: None}]], [[row | {"predictors": 0}]]
    (axis,) = methods({"one": one, "two": two, "none": none}).axes
    (line,) = [line for line in axis.get_lines() if len(line.get_xdata()) == 2 and line.get_marker() != "None"]
    assert line.get_xdata().tolist() == [1, 2]  # a sweep is joined in order of the predictors per unit
    assert axis.get_legend_handles_labels()[1] == ["one"]


def test_a_cell_shows_what_is_known_and_a_column_of_nothing_is_left_out(tmp_path):
    over_nets = {"mean_r_nets_low": 0.4, "mean_r_nets_high": 0.6}
    result(tmp_path, "matching", mean_r=0.5, mean_r_sd=0.1, mean_r_low=0.45, mean_r_high=0.55, r2_held_out_sd=0.1)
    result(tmp_path, "semimatching", mean_r=0.6, mean_r_sd=0.1, mean_r_low=0.1, mean_r_high=0.9, **over_nets)
    results = find(tmp_path)
    assert summary(results) == [
        ["layer", "method", "images", "mean r", "R² held out", "predictors"],
        ["fc1", "matching", "100", "0.50 ± 0.10", "0.50 ± 0.10", "2.00"],
        ["fc1", "semimatching", "100", "0.60 ± 0.10", "-", "2.00"],
    ]
    assert [row[3] for row in controls(results)] == ["r, 95%", "0.45-0.55", "0.40-0.60"]
    assert explained(results) == [["method", "images", "fc1"], ["matching", "100", "0.50 ± 0.10 (2.0)"]]


def test_shares_of_codes_have_their_interval_where_there_is_one(tmp_path):
    codes = {"local": 0.2, "local_nets_low": 0.05, "local_nets_high": 0.4, "local_rotated": 0.01, "distributed": 0.0}
    result(tmp_path, "sparse_path", **codes)
    (tmp_path / "sparse_path" / "path.csv").write_text(
        "layer,alpha,loss_held_out,predictors\nfc1,0.1,0.25,3\nfc1,0.1,0.35,4\n"
    )
    headings, row = table_1(find(tmp_path))
    cells = dict(zip(headings, row))
    assert (cells["0.1"], cells["local"], cells["distributed"]) == ("0.300 (3.5)", "20% (5%-40%), rotated 1%", "0%")
    assert cells["slightly"] == cells["one unit"] == "-"
