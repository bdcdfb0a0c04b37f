"""Measures of similarity beside alignments: both directions, chance, intervals, and what the configuration names."""

from itertools import pairwise

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from omegaconf import OmegaConf

from conftest import PROJECT, planted
from convergent.analysis import columns
from convergent.analysis.intervals import jackknife
from convergent.analysis.measures import measured
from convergent.core.layer_moments import LayerMoments
from convergent.core.pairs import Pair
from convergent.similarity.every import MEASURES, OF_SAMPLES, QUICK
from convergent.similarity.gcca import gcca


def test_the_files_of_the_configuration_are_the_measures_of_the_library():
    files = (PROJECT / "conf" / "similarity").glob("*.yaml")
    named = {name: instantiate(of) for file in files for name, of in OmegaConf.load(file).items()}
    every = {**MEASURES, **OF_SAMPLES}
    assert set(named) == set(every)
    x_na, x_nb, _ = planted(100, 4, 5, 1.0)
    pair = Pair.of(x_na, x_nb)
    assert {name: of(pair) for name, of in named.items()} == {name: of(pair) for name, of in every.items()}
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
        assert set(compose("align").similarity) == set(QUICK)
    assert set(every) <= {column.name for column in columns.SIMILARITY}


def test_both_directions_with_shuffled_images_and_intervals():
    x_na, x_nb, _ = planted(200, 4, 5, 1.0)
    pair, shuffled = Pair.of(x_na, x_nb), Pair.of(x_na, x_nb.roll(1, 0))
    there, back = measured(QUICK, pair, {"rotated": [], "shuffled": [shuffled]}, intervals=True)
    of_chance, with_ends = {f"{name}_shuffled" for name in QUICK}, {*QUICK} - {"cka_ceiling"}
    ends = {f"{name}_{end}" for name in with_ends for end in ("low", "high")}
    assert there.keys() == back.keys() == {*QUICK} | of_chance | ends
    for values, of, null in ((there, pair, shuffled), (back, pair.flip(), shuffled.flip())):
        assert values["pwcca"] == pytest.approx(MEASURES["pwcca"](of))
        assert values["pwcca_shuffled"] == pytest.approx(MEASURES["pwcca"](null))
        interval = jackknife(MEASURES["pwcca"], of)
        assert (values["pwcca_low"], values["pwcca_high"]) == pytest.approx((float(interval.low), float(interval.high)))
    assert there["cka_debiased_shuffled"] < there["cka_debiased"]


def test_a_measure_that_is_undefined_somewhere_has_no_interval_and_does_not_spoil_the_others():
    x_na, x_nb, _ = planted(60, 4, 5, 1.0)
    pair = Pair.of(x_na, x_nb, blocks=6)
    measures = {"cka": MEASURES["cka"], "never": lambda _: None, "whole": lambda of: 1.0 if of.parts is None else None}
    assert measured(measures, pair, intervals=True)[0].keys() == {"cka", "cka_low", "cka_high", "whole"}
    assert measured(measures, Pair.of(x_na, x_nb, blocks=1), intervals=True)[0].keys() == {"cka", "whole"}


def test_wide_nets_have_only_measures_whose_time_does_not_grow_with_their_cube():
    x_na, x_nb, _ = planted(60, 4, 5, 1.0)
    own = {"my_own": lambda _: 1.0}
    values, _ = measured({**MEASURES, **own}, Pair.of(x_na, x_nb), units=4)
    assert {name.split("_")[0] for name in values} == {"cka", "rv", "rsa", "my"}
    assert len(measured(MEASURES, Pair.of(x_na, x_nb), units=5)[0]) == len(MEASURES)


def layer_of(*x):
    joint = Pair.of(torch.cat(x, 1), x[0][:, :1], blocks=4).moments
    edges = [0, *torch.tensor([of.shape[1] for of in x]).cumsum(0).tolist()]
    units = [slice(*edge) for edge in pairwise(edges)]
    scatter = {(i, j): joint.scatter_uu[:, units[i], units[j]] for i in range(len(x)) for j in range(i, len(x))}
    return LayerMoments("fc1", "abc"[: len(x)], units, joint.count, joint.mean_u[:, : edges[-1]], scatter, len(x[0]))


def test_what_several_nets_share_is_a_canonical_correlation_of_two_and_planted_dimensions_of_three():
    x_na, x_nb, _ = planted(300, 4, 5, 1.0)
    assert gcca(layer_of(x_na, x_nb)) == pytest.approx(MEASURES["cca"](Pair.of(x_na, x_nb)))
    own = [torch.randn(20_000, 4).double() for _ in range(3)]
    shared = torch.randn(20_000, 2).double()
    assert gcca(
        layer_of(*(torch.cat([of[:, :2], shared], 1) @ torch.randn(4, 4).double() for of in own))
    ) == pytest.approx(0.5, abs=0.02)
    assert gcca(layer_of(*own)) == pytest.approx(0, abs=0.02)
    assert gcca(layer_of(*(torch.randn(20, 12).double() for _ in range(3)))) is None
    assert gcca(layer_of(x_na, torch.ones_like(x_nb))) is None
