"""Analyses, measures and figures are found by name: one file and one YAML each."""

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from omegaconf import OmegaConf

from conftest import PROJECT, planted
from convergent.analysis.reports import Report, mean_scalars, of_null, reports_of
from convergent.core.alignment import align
from convergent.core.pairs import Pair
from convergent.figures.registry import drawn
from convergent.methods.matching import Matching


@pytest.mark.parametrize("group", ["analysis", "similarity", "figure"])
def test_every_file_says_what_is_in_it_and_is_there_by_default_but_what_takes_long_or_needs_samples(group):
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
        default = compose("align")[group]
        assert not compose("align", [f"{group}=[]"])[group]
    files = {file.stem: file for file in (PROJECT / "conf" / group).glob("*.yaml")}
    there = {file: list(OmegaConf.load(path)) for file, path in files.items()}
    asked_for = {"similarity": {"ridge", "neighbours", "cka_rbf", "rsa_spearman"}}.get(group, set())
    assert set(default) == {name for file, names in there.items() if file not in asked_for for name in names}
    for file, path in files.items():
        assert all(name == file or len(there[file]) > 1 for name in there[file])
        assert path.read_text().startswith("# ")
        assert all(callable(made) for made in instantiate(OmegaConf.load(path)).values())


def test_an_analysis_that_has_not_what_it_needs_says_nothing():
    alignment = align(Matching(), Pair.of(*planted()[:2]))
    analyses = {"none": lambda _: None, "some": lambda of: Report.of(of.pair, scalars={"x": 1.0})}
    (report,) = reports_of(analyses, alignment)
    assert (report.scalars, report.a, report.b, report.null) == ({"x": 1.0}, "a", "b", "")


def test_scalars_are_means_over_the_pairs_that_have_them_and_nulls_are_apart():
    reports = [Report("fc1", "a", "b", {"x": 1.0}), Report("fc1", "b", "a", {"x": 2.0, "y": 5.0})]
    reports += [Report("fc2", "a", "b", {"x": 9.0}), Report("fc1", "a", "b", {"x": 0.0}, null="rotated")]
    assert mean_scalars(reports, "fc1") == {"x": 1.5, "y": 5.0}
    assert mean_scalars(reports, "fc1", "rotated") == {"x": 0.0}
    assert len(of_null(reports)) == 3
    assert len(of_null(reports, layer="fc1")) == 2


def test_a_figure_is_given_what_its_parameters_name_and_drawn_of_a_pair_if_alignment_is_among_them():
    figures = {
        "pair": lambda alignment: f"of {alignment}",
        "both": lambda reports, alignment: f"{reports} of {alignment}",
        "summary": lambda results, method: f"{results} by {method}",
        "nothing": lambda reports: None,
    }
    assert dict(drawn(figures, alignment="A", reports="R")) == {"pair": "of A", "both": "R of A"}
    assert dict(drawn(figures, results="S", reports="R", method="M")) == {"summary": "S by M"}
