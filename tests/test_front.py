"""`import convergent as cv`: light, typed, and what a user types gives what the commands give."""

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import convergent as cv
from convergent.analysis.reports import Report

PROJECT = Path(__file__).parents[1]
NAMES = {
    "Moments", "Pair", "Alignment", "Matching", "SemiMatching", "MutualInformation", "SparsePrediction", "SparsePath",
    "LeastSquares", "SpectralClustering", "HierarchicalSpectralClustering", "held_out", "jackknife", "rotated",
    "rotated_before", "compare", "measure", "load", "__version__",
}  # fmt: skip
HEAD = ["layer", "a", "b", "method"]


def test_importing_and_looking_at_the_names_takes_no_torch_and_no_pandas():
    code = "import sys, convergent as cv; names = dir(cv); print(*names); print(*sys.modules)"
    names, modules = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT / "src"
    ).stdout.splitlines()
    assert set(names.split()) >= NAMES
    assert not {"torch", "numpy", "pandas", "scipy", "matplotlib", "hydra"} & set(modules.split())


def test_every_name_is_there_for_people_and_for_type_checkers():
    source = Path(cv.__file__).read_text()
    for name in dir(cv):
        assert getattr(cv, name).__doc__
        assert name == "__version__" or re.search(rf"\bimport \(?\s*{name} as {name}\b", source)
    assert Path(cv.__file__).with_name("py.typed").exists()
    with pytest.raises(AttributeError, match="has no attribute 'Matchings'"):
        _ = cv.Matchings


def test_the_version_has_one_home():
    assert re.fullmatch(r"\d+\.\d+\.\d+", cv.__version__)
    assert "version" not in (PROJECT / "pyproject.toml").read_text().split("[project]")[1].split("\n[")[0].replace(
        'dynamic = ["version"]', ""
    ).replace("requires-python", "").replace("description", "")


def net(width, seed):
    torch.manual_seed(seed)
    layers = nn.Conv2d(1, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 5), nn.ReLU()
    return nn.Sequential(*layers).double()


@pytest.fixture(scope="module")
def nets():
    return {"a": net(6, 0), "b": net(8, 1), "c": net(7, 2)}


@pytest.fixture(scope="module")
def x():
    return torch.randn(80, 1, 6, 6, generator=torch.Generator().manual_seed(0)).double()


@pytest.fixture(scope="module")
def comparison(nets, x):
    return cv.compare(nets, DataLoader(TensorDataset(x), 20), ["1", "5"], reading=cv.Reading(blocks=8))


def test_a_comparison_is_a_row_per_layer_ordered_pair_and_method(comparison):
    frame = comparison.frame()
    assert len(frame) == 2 * 6 * 3
    assert not frame.duplicated(HEAD).any()
    assert list(frame.columns[:4]) == HEAD
    assert {"mean_r", "mean_r_low", "mean_r_high", "r2_held_out", "predictors", "mean_r_rotated"} <= set(frame)
    assert set(frame.method) == {"matching", "semimatching", "least_squares"}
    assert (frame.mean_r_low <= frame.mean_r).all()
    units = comparison.frame(units=True)
    assert list(units.columns[:5]) == [*HEAD, "unit"]
    assert len(units) == 3 * (2 * (6 + 8 + 7) + 2 * 15)
    assert list(comparison) == ["1", "5"]
    one = comparison["5"].frame()
    pd.testing.assert_frame_equal(one, frame[frame.layer == "5"].reset_index(drop=True), check_exact=True)


def test_its_numbers_are_those_of_the_methods_on_the_pair_behind_it(comparison, nets, x):
    frame = comparison.frame().set_index(HEAD)
    for a, b in (("a", "b"), ("c", "a")):
        pair = comparison["1"].pair(a, b)
        with torch.no_grad():
            x_na, x_nb = (nets[name][:2](x).movedim(1, -1).flatten(0, 2) for name in (a, b))
        assert (pair.corr_ab - cv.Pair.of(x_na, x_nb).corr_ab).abs().max() < 1e-12
        for method, name in ((cv.Matching(), "matching"), (cv.LeastSquares(), "least_squares")):
            row = frame.loc["1", a, b, name]
            held_out = cv.held_out(method, pair)[pair.active_b].mean().item()
            assert row.r2_held_out == pytest.approx(held_out, abs=1e-12)
            assert row.images == 80
            assert row.blocks == 8
            units = comparison["1"].frame(units=True)
            units = units[(units.a == a) & (units.b == b) & (units.method == name)]
            assert (method(pair).frame().r.to_numpy() - units.r.to_numpy()).max() < 1e-6  # those are rounded


def test_folds_nulls_and_methods_are_those_asked_for(nets, x):
    methods = {"mine": cv.SemiMatching(absolute=True), "few": cv.SparsePrediction(alpha=0.2)}
    two = {name: nets[name] for name in "ab"}
    frame = cv.compare(two, [x], ["1"], methods, nulls=["rotated_after"], folds=0, reading=cv.Reading(blocks=4)).frame()
    assert set(frame.method) == {"mine", "few"}
    assert not [name for name in frame if "held_out" in name or name.endswith("_rotated")]
    assert frame.mean_r_rotated_after.notna().all()
    assert "r2_held_out_rotated" not in cv.compare(two, [x], ["1"], cv.Matching(), nulls=()).frame()


def test_mutual_information_counts_its_histograms_in_the_same_pass(nets, x):
    two = {name: nets[name] for name in "ab"}
    methods = [cv.MutualInformation(bins=4), cv.Matching()]
    frame = cv.compare(two, DataLoader(TensorDataset(x), 16), ["1"], methods, reading=cv.Reading(blocks=4)).frame()
    assert set(frame.method) == {"mutual_information,bins=4", "matching"}
    assert frame.r2_held_out.notna().all()
    with torch.no_grad():
        x_na, x_nb = (it[:2](x).movedim(1, -1).flatten(0, 2) for it in two.values())
    alone = cv.MutualInformation(bins=4)(cv.Pair.of(x_na, x_nb))
    both = frame[(frame.a == "a") & (frame.method != "matching")].mean_r.item()
    assert both == pytest.approx(alone.r_b.mean().item(), abs=1e-9)
    with pytest.raises(cv.InputError, match="Joint histograms need to know how many images"):
        cv.compare(two, iter([x]), ["1"], methods)


class Words(nn.Module):
    """A net that takes a tokenizer's batch."""

    def __init__(self, width):
        super().__init__()
        self.embedding, self.hidden = nn.Embedding(30, width), nn.Linear(width, width)

    def forward(self, input_ids, attention_mask):
        x = self.embedding(input_ids)
        return self.hidden(x + x.cumsum(1)).relu().mean(1)


def test_padded_texts_are_compared_and_rotated_as_texts_without_padding():
    generator = torch.Generator().manual_seed(0)
    texts = [torch.randint(30, (length,), generator=generator) for length in (3, 8, 5, 2, 7, 6, 4, 8, 9, 3)]
    both = {name: Words(width).double() for name, width in (("a", 4), ("b", 5))}
    pad = nn.utils.rnn.pad_sequence

    def batches(size):
        for first in range(0, 10, size):
            some = texts[first : first + size]
            masks = pad([torch.ones(len(text)) for text in some], batch_first=True)
            yield {"input_ids": pad(some, batch_first=True), "attention_mask": masks}

    reading, methods = cv.Reading(blocks=4, drop=[0]), [cv.Matching(), cv.MutualInformation(bins=3)]
    alone, padded = (cv.compare(both, [*batches(n)], ["hidden"], methods, reading=reading).frame() for n in (1, 10))
    assert alone.samples.tolist() == [sum(len(text) - 1 for text in texts)] * 4
    pd.testing.assert_frame_equal(alone, padded, rtol=1e-5)  # rotations are summed in float32


def test_everything_says_in_one_line_what_it_is(comparison, nets, x):
    pair = comparison["1"].pair("a", "b")
    for it in (
        comparison, comparison["1"], comparison["1"].moments, comparison["1"].results[0], pair, pair.moments, pair.total,
        cv.Matching()(pair), cv.measure(nets, [x], ["1"])["1"], cv.jackknife(lambda of: of.corr_ab.mean(), pair),
    ):  # fmt: skip
        assert len(repr(it)) < 200
        assert "\n" not in repr(it)
        assert "tensor(" not in repr(it)
    assert repr(comparison) == "Comparison(1, 5 of a, b, c by matching, semimatching, least_squares)"
    report = Report("1", "a", "b", {"rand": 0.5}, {"groups": [{"size": 3}]}, tree=(torch.zeros(9), torch.zeros(9)))
    assert repr(report) == "Report(1: a to b: rand, table groups, a tree)"
    for it in (comparison, comparison["1"], comparison["1"].results[0], cv.Matching()(pair)):
        html = it._repr_html_()
        assert html.count("<th>") <= 14
        assert html.count("<tr") <= 23


def test_units_of_two_matrices_are_a_row_each():
    x_na = torch.randn(200, 4)
    frame = cv.Matching()(cv.Pair.of(x_na, x_na[:, [2, 0, 3, 1]])).frame()
    assert frame.partner.tolist() == [2, 0, 3, 1]
    assert frame.unit.tolist() == [0, 1, 2, 3]
    assert frame.r.min() > 0.999


def test_what_cannot_be_compared_is_refused_in_one_sentence(nets, x):
    two = {name: nets[name] for name in "ab"}
    for arguments, message in (
        (({"a": nets["a"]}, [x], ["1"]), "needs two nets at least, not 1"),
        (([nets["a"], nets["a"]], [x], ["1"]), "one and the same module"),
        ((two, [x], []), "no layers to compare"),
        ((two, [x], ["layer1"]), "Net a has no layer 'layer1'; near names are"),
        ((two, [x], ["1"], cv.Matching), r"methods such as cv.Matching\(\), not <class"),
        ((two, [x], ["1"], []), "one method at least"),
        ((two, [x], ["1"], cv.Matching(), ["shuffled"]), "Nets that read shuffled images are another pass"),
        ((two, [x], ["1"], cv.Matching(), [], 1), "folds needs to be .* not 1"),
        ((two, [torch.zeros_like(x)], ["1"], cv.Matching(), []), "All units are constant .* in every layer"),
    ):
        with pytest.raises(cv.InputError, match=message):
            cv.compare(*arguments)
    with pytest.raises(KeyError, match="the layers are 1"):
        _ = cv.compare(two, [x], ["1"], cv.Matching(), [], 0)["2"]


def test_what_cannot_be_loaded_is_refused_in_one_sentence(tmp_path):
    for folder, message in ((tmp_path / "none", "There is no folder"), (tmp_path, "There is no finished result in")):
        with pytest.raises(cv.InputError, match=message):
            cv.load(folder)


@pytest.mark.command
def test_a_comparison_of_trained_nets_is_what_the_commands_give(command, tmp_path):
    from convergent.cli.train import build_data
    from convergent.training.runs import Run

    here = ("trainer=cpu", "logger=csv")
    small = ("seeds=[0,1]", "epochs=1", "net.module.widths=[6,6,6,8]", *here)
    align = ("layers=[conv3,fc1]", "evaluation.nulls=[rotated]", "label=matching", "figure=[]", "pictures=null", *here)
    for name, overrides in (("train", small), ("align", align)):
        code, _, err = command(name, f"root='{tmp_path}'", *overrides)
        assert code == 0, err
    results = cv.load(tmp_path / "outputs")
    runs = {f"seed={seed}": Run(tmp_path / f"outputs/train/digits-convnet/seed={seed}") for seed in (0, 1)}
    data = build_data(runs["seed=0"].config, measure="all")
    nets = {name: run.net() for name, run in runs.items()}
    comparison = cv.compare(nets, data.predict_dataloader(), ["conv3", "fc1"], cv.Matching())
    assert repr(results) == "Results(1 of digits-convnet: matching)"
    for units in (False, True):
        theirs, ours = results.frame(units=units), comparison.frame(units=units)
        assert set(theirs.experiment) == {"digits-convnet"}
        assert set(ours) == set(theirs) - {"experiment"}
        pd.testing.assert_frame_equal(ours, theirs[list(ours)], rtol=1e-12, check_dtype=False)
    for folder in ("outputs/align", "outputs/align/digits-convnet", "outputs/align/digits-convnet/matching"):
        assert len(cv.load(tmp_path / folder).frame()) == 4
    assert results._repr_html_().count("<tr") == 5
