"""What every method of conf/method must do, whoever writes it."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from conftest import PROJECT, blocks, planted
from convergent.analysis.nulls import rotated
from convergent.analysis.reports import by_chance, reports_of
from convergent.analysis.results import compare
from convergent.core.alignment import Alignment, align
from convergent.core.histogram_source import counting_of
from convergent.core.pairs import Pair
from convergent.core.prediction import explained
from convergent.core.scores import held_out
from convergent.errors import InputError

ANALYSES = {
    name: analysis
    for file in (PROJECT / "conf" / "analysis").glob("*.yaml")
    for name, analysis in instantiate(OmegaConf.load(file)).items()
}
METHODS = sorted(path.stem for path in (PROJECT / "conf" / "method").glob("*.yaml"))


@pytest.fixture(params=METHODS)
def method(request):
    return instantiate(OmegaConf.load(PROJECT / "conf" / "method" / f"{request.param}.yaml"))


def test_each_has_its_file_its_test_and_its_line_in_the_documentation():
    commands = (PROJECT / "docs" / "commands.md").read_text()
    for name in METHODS:
        assert f"method={name}" in commands
    for file in (PROJECT / "src" / "convergent" / "methods").glob("[a-z]*.py"):
        assert (Path(__file__).parent / f"test_{file.name}").exists()


def test_the_record_is_whole(method):
    x_na, x_nb, _ = planted(300, 8, 5, noise=1.0)
    pair = Pair.of(x_na, x_nb)
    alignment = method(pair)
    assert alignment.map_ab.shape == (8, 5)
    assert alignment.map_ab.dtype == torch.float64
    assert torch.allclose(alignment.score_b, explained(alignment.map_ab, pair, pair))
    assert (alignment.score_b <= 1 + 1e-9).all()
    assert all(isinstance(value, float | int) for value in alignment.solver.values())
    assert torch.equal(alignment.partner_b >= 0, alignment.predictors_b > 0)


def test_the_same_input_gives_the_same_record(method):
    x_na, x_nb, _ = planted(300, 8, 8, noise=1.0)
    assert torch.equal(method(Pair.of(x_na, x_nb)).map_ab, method(Pair.of(x_na, x_nb)).map_ab)


def test_relabelling_units_relabels_the_map(method):
    x_na, x_nb, _ = planted(300, 8, 8, noise=1.0)
    order_a, order_b = torch.randperm(8), torch.randperm(8)
    map_ab = method(Pair.of(x_na, x_nb)).map_ab
    relabelled = method(Pair.of(x_na[:, order_a], x_nb[:, order_b])).map_ab
    assert torch.allclose(relabelled, map_ab[order_a][:, order_b], atol=1e-8)


def test_gain_and_offset_of_units_change_nothing(method):
    x_na, x_nb, _ = planted(300, 8, 8, noise=1.0)
    gain, offset = torch.rand(8) * 9 + 0.1, torch.randn(8) * 100
    changed = method(Pair.of(x_na * gain + offset, x_nb * gain.flip(0) - offset)).map_ab
    assert torch.allclose(changed, method(Pair.of(x_na, x_nb)).map_ab, atol=1e-8)


def test_constant_units_use_and_are_used_by_nobody(method):
    x_na, x_nb, _ = planted(300, 8, 8, noise=1.0)
    x_na[:, 3], x_nb[:, 5] = 2.0, 0.0
    alignment = method(Pair.of(x_na, x_nb))
    assert torch.isfinite(alignment.map_ab).all()
    assert alignment.map_ab[3].abs().sum() == 0
    assert alignment.map_ab[:, 5].abs().sum() == 0
    assert alignment.score_b[5] == 0


def test_a_net_is_accounted_for_by_itself(method):
    x_na, _, _ = planted(2000, 8, 8)
    assert held_out(method, Pair.of(x_na, x_na)).min() > 0.9


def test_reports_on_rotated_nets_have_the_same_scalars_and_draw_nothing(method, monkeypatch):
    monkeypatch.setattr("matplotlib.figure.Figure.__init__", lambda *_, **__: pytest.fail("a figure was drawn"))
    x_na, x_nb, *_ = blocks()
    pair = replace(Pair.of(x_na, x_nb, blocks=10), joint=None)
    if counting_of(method):
        pytest.skip("it reports nothing of a pair's moments alone")
    alignment, scalars, of_null = align(method, pair), {}, {}
    for report in reports_of(ANALYSES, alignment):
        scalars |= report.scalars
    for report in by_chance(alignment, {"rotated": [rotated(pair)], "shuffled": [pair]}, ANALYSES)[1]:
        assert report.null == "rotated"
        of_null |= report.scalars
    assert scalars.keys() - {"width"} == of_null.keys()  # of a whole path the null has the chosen penalty alone
    assert scalars != of_null or not scalars
    assert all(isinstance(value, float) for value in of_null.values())


def test_analyses_serve_whatever_has_what_they_need(method):
    x_na, x_nb, *_ = blocks(n=300)
    alignment = align(method, Pair.of(x_na, x_nb, blocks=10))
    reported = {name for name, analysis in ANALYSES.items() if analysis(alignment) is not None}
    clustered, penalised = alignment.labels_a is not None, "alpha" in alignment.solver
    single = bool((alignment.predictors_b <= 1).all())
    assert ("clusters" in reported) == clustered
    assert ({"codes", "tree", "path"} & reported) == ({"codes", "tree", "path"} if penalised else set())
    assert ("nats" in reported) == single  # samples are at hand: histograms are counted when they are asked for


def test_a_stranger_needs_a_function_alone_and_gets_codes_from_several_predictors():
    def few(pair):
        kept_ab = pair.corr_ab.abs() >= pair.corr_ab.abs().sort(0, descending=True).values[1]
        return Alignment(pair, pair.corr_ab * kept_ab / 2)

    x_na, x_nb, *_ = blocks(n=300)
    alignment, result = compare(few, Pair.of(x_na, x_nb, blocks=10), 300, interval=True)
    assert alignment.refit(choices=True) is alignment.refit(choices=False) is few
    assert {"codes", "tree"} <= {name for name, analysis in ANALYSES.items() if analysis(alignment) is not None}
    assert result.summary()["mean_r_low"] < result.summary()["mean_r"] < result.summary()["mean_r_high"]


def test_importing_methods_and_measures_loads_no_figure_and_no_analysis():
    code = (
        "import importlib, pkgutil, sys, convergent.methods, convergent.similarity\n"
        "for package in (convergent.methods, convergent.similarity):\n"
        "    for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "        importlib.import_module(module.name)\n"
        "print([name for name in sys.modules if name.startswith(('matplotlib', 'pandas', 'convergent.analysis', "
        "'convergent.figures', 'convergent.report', 'convergent.cli'))])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_held_out_finds_what_was_planted_and_nothing_in_noise(method):
    x_na, x_nb, _ = planted(2000, 8, 8, noise=0.5)
    scores = held_out(method, Pair.of(x_na, x_nb))
    assert scores.min() > 0.6
    noise = held_out(method, Pair.of(torch.randn(2000, 8), torch.randn(2000, 8)))
    assert noise.max() < 0.05


WRONG = [
    ("matching", {"absolute": "maybe"}),
    ("semimatching", {"absolute": 2}),
    ("mutual_information", {"bins": 1.5}),
    ("mutual_information", {"samples": True}),
    ("least_squares", {"ridge": -1}),
    ("least_squares", {"ridge": "little"}),
    ("sparse", {"alpha": -0.1}),
    ("sparse", {"alpha": "much"}),
    ("sparse", {"alpha": float("nan")}),
    ("sparse", {"alpha": 0.1, "paper_lambda": 0.1}),
    ("sparse", {"paper_lambda": -1}),
    ("sparse", {"targets": 0}),
    ("sparse", {"targets": 2.5}),
    ("sparse", {"positive": "yes"}),
    ("sparse", {"seed": -1}),
    ("sparse_path", {"alphas": 0.1}),
    ("sparse_path", {"alphas": []}),
    ("sparse_path", {"alphas": [0.1, 0]}),
    ("sparse_path", {"paper_lambdas": ["a"]}),
    ("sparse_path", {"alphas": [0.1], "paper_lambdas": [0.1]}),
    ("sparse_path", {"folds": 1}),
    ("sparse_path", {"targets": 0}),
    ("spectral", {"clusters": 0}),
    ("spectral", {"clusters": {"conv1": 4, "conv2": 0}}),
    ("spectral", {"clusters": [4, 5]}),
    ("spectral", {"bounds": 7}),
    ("spectral", {"bounds": [2, "many"]}),
    ("spectral", {"threshold": "low"}),
    ("spectral", {"absolute": "maybe"}),
    ("spectral", {"laplacian": "mine"}),
    ("spectral_paper", {"assign": 3}),
    ("spectral_paper", {"restarts": 0}),
    ("spectral", {"seed": "first"}),
    ("spectral", {"ridge": 0}),
    ("hierarchical_spectral", {"good": 2}),
    ("hierarchical_spectral", {"rounds": 0.5}),
]


@pytest.mark.parametrize(("name", "options"), WRONG, ids=str)
def test_an_option_that_cannot_be_is_refused_before_anything_is_measured(name, options):
    config = OmegaConf.load(PROJECT / "conf" / "method" / f"{name}.yaml")
    for option, value in options.items():
        config[option] = value
    with pytest.raises(InstantiationException) as refused:
        instantiate(config)
    assert isinstance(refused.value.__cause__, InputError)
    assert re.search(next(iter(options)).split("_")[-1][:6], str(refused.value.__cause__))
