"""All measures: equal to their definitions, what they ignore, the same both ways, and what they say of bad input."""

from dataclasses import replace
from functools import partial
from math import pi

import numpy as np
import pytest
import torch

import convergent as cv
from convergent.analysis.intervals import jackknife
from convergent.core.pairs import Pair
from convergent.methods.least_squares import LeastSquares
from convergent.similarity.cka import cka_ceiling, permutation_null
from convergent.similarity.every import AXES, DISTANCES, IGNORES, MEASURES, OF_SAMPLES, TRANSFORMATIONS, similarities
from convergent.similarity.overlap import principal_angles
from convergent.similarity.procrustes import shape
from convergent.similarity.soft_matching import soft_matching
from similarity import oracles

OF_HELD_OUT = ("ridge_ab", "ridge_ba")
DIRECTED = (*OF_HELD_OUT, "pwcca")


def nets(n=300, p=8, q=6, noise=1.0):
    """Rectified units with offsets and unequal gains that share a space of four dimensions."""
    shared = torch.randn(n, 4).double()

    def net(units):
        x_nu = shared @ torch.randn(4, units).double() + noise * torch.randn(n, units).double()
        return torch.relu(x_nu) * torch.linspace(0.3, 3, units).double() + 2

    return net(p), net(q)


def pair_of(x_na, x_nb, **options):
    """A pair whose held-out scores take little time."""
    return replace(Pair.of(x_na, x_nb, **options), held_out_folds=2)


BY_DEFINITION = {name: getattr(oracles, name) for name in MEASURES if hasattr(oracles, name)} | {
    "soft_matching_partial": partial(oracles.soft_matching, mass=0.9),
    **{f"overlap_{share}": partial(oracles.overlap, explained=share / 100) for share in (90, 95, 99)},
}


def test_every_measure_has_a_definition_to_compare_with():
    assert {*BY_DEFINITION, *OF_HELD_OUT} == set(MEASURES)


@pytest.mark.parametrize(("p", "q"), [(8, 6), (7, 7)])
def test_each_is_what_it_is_by_definition(p, q):
    x_na, x_nb = nets(2000, p, q)
    values = cv.similarities(pair_of(x_na, x_nb))
    wanted = {name: of(x_na, x_nb) for name, of in BY_DEFINITION.items()}
    assert {name: values[name] for name in wanted} == pytest.approx(wanted, rel=1e-10)


def test_procrustes_is_the_bures_similarity_of_gram_matrices():
    x_na, x_nb = nets()
    assert MEASURES["procrustes"](Pair.of(x_na, x_nb)) == pytest.approx(oracles.nbs(x_na, x_nb), rel=1e-6)


def test_ridge_is_what_least_squares_explains_on_held_out_images():
    pair = Pair.of(*nets())
    for name, of in (("ridge_ab", pair), ("ridge_ba", pair.flip())):
        assert MEASURES[name](pair) == pytest.approx(float(cv.held_out(LeastSquares(), of)[of.active_b].mean()))


def every(pair):
    return similarities(pair) | {name: measure(pair) for name, measure in OF_SAMPLES.items()}


@pytest.mark.parametrize("what", TRANSFORMATIONS)
def test_each_ignores_what_the_table_says_and_nothing_else(what):
    x_na, x_nb = nets(200, 6, 6)
    change = TRANSFORMATIONS[what]
    values, *either = (every(pair_of(*of)) for of in ((x_na, x_nb), (change(x_na), x_nb), (x_na, change(x_nb))))
    ignored = {name for name in values if all(of[name] == pytest.approx(values[name], rel=1e-6) for of in either)}
    assert ignored == {name for name, of in IGNORES.items() if what in of}


def test_offsets_change_nothing_and_only_some_differ_with_the_direction():
    x_na, x_nb = nets()
    pair = pair_of(x_na, x_nb)
    values = similarities(pair)
    assert similarities(pair_of(x_na + 30, x_nb - torch.rand(6))) == pytest.approx(values, rel=1e-8)
    there, back = similarities(pair.flip()), similarities(pair_of(x_nb, x_na))
    assert there == pytest.approx(back, rel=1e-9)
    assert {name for name in values if values[name] != pytest.approx(back[name], rel=1e-9)} == set(DIRECTED)


def test_a_net_is_the_same_as_itself():
    x_na, _ = nets()
    values = similarities(pair_of(x_na, x_na))
    for name in {*MEASURES} - {"cka_ceiling", *OF_HELD_OUT}:
        assert values[name] == pytest.approx(float(name not in DISTANCES), abs=1e-6), name
    assert 0.9 < values["cka_ceiling"] < 1
    assert values["ridge_ab"] > 0.999


def test_soft_matching_is_the_assignment_of_nets_of_one_width_and_whole_with_every_unit_twice():
    x_na, x_nb = nets(500, 7, 7)
    pair = Pair.of(x_na, x_nb)
    assert soft_matching(pair) == pytest.approx(float(cv.Matching()(pair).r_b.mean()))
    assert soft_matching(Pair.of(x_na, torch.cat([x_na, x_na], 1))) == pytest.approx(1)
    parts = [soft_matching(pair, mass) for mass in (0.3, 0.6, 0.9, 1.0)]
    assert parts == sorted(parts, reverse=True)


def test_shape_distances_are_a_metric_between_procrustes_and_canonical_correlations():
    x_na, x_nb = nets(500, 6, 6)
    x_nc = nets(500, 6, 6)[0]
    for alpha in (0, 0.5, 1):
        ab, bc, ac = (shape(Pair.of(*of), alpha) for of in ((x_na, x_nb), (x_nb, x_nc), (x_na, x_nc)))
        assert 0 < ac <= ab + bc < pi
    assert np.cos(shape(Pair.of(x_na, x_nb), 1.0)) == pytest.approx(MEASURES["procrustes"](Pair.of(x_na, x_nb)))
    assert np.cos(shape(Pair.of(x_na, x_nb), 0.0)) == pytest.approx(MEASURES["cca"](Pair.of(x_na, x_nb)))


def test_planted_dimensions_are_the_angles_that_are_zero():
    x_nu = torch.randn(500, 9).double()
    pair = Pair.of(x_nu[:, :6], torch.cat([x_nu[:, 6:], x_nu[:, :2]], 1))
    angle_c = principal_angles(pair, 0.9999)
    assert angle_c[:2].tolist() == pytest.approx([0, 0], abs=1e-6)
    assert angle_c[2] > 1


def test_the_null_of_permuted_samples_is_known_without_permuting():
    x_na, x_nb = nets(60)
    null, drawn = permutation_null(Pair.of(x_na, x_nb)), oracles.permuted(x_na, x_nb, 2000)
    assert abs(null.mean - drawn.mean()) < 3 * drawn.std() / 2000**0.5
    spread = ((drawn - drawn.mean()) ** 2).std() / 2000**0.5  # Monte-Carlo error of the variance
    assert abs(null.sd**2 - drawn.var()) < 3 * spread


def dependent(images=512, positions=16, share=0.5, units=40):
    """Unrelated nets whose samples of one image have so much of their variance in common."""

    def net():
        of_image, own = torch.randn(images, 1, units).double(), torch.randn(images, positions, units).double()
        return torch.relu(share**0.5 * of_image + (1 - share) ** 0.5 * own).flatten(0, 1)

    return Pair.of(net(), net(), torch.arange(images).repeat_interleave(positions), blocks=64)


def test_blocks_of_images_mend_the_estimate_that_takes_positions_for_independent():
    values = [
        (MEASURES["cka_debiased"](pair), MEASURES["cka_debiased_samples"](pair))
        for pair in (dependent() for _ in range(16))
    ]
    (blocks, samples), errors = np.mean(values, 0), np.std(values, 0, ddof=1) / 4
    assert abs(blocks) < 2 * errors[0]
    assert samples > 10 * errors[1]


def test_intervals_leave_out_a_block_of_images_and_know_its_energies():
    pair = Pair.of(*nets(400))
    for name in {*MEASURES} - {"cka_ceiling", *OF_HELD_OUT}:
        interval = jackknife(MEASURES[name], pair)
        assert 0 < interval.se < 0.2, name
        assert interval.low < MEASURES[name](pair) < interval.high


UNKNOWN_OF_FEW = {
    "one block": {"cka_debiased", "cka_ceiling", *OF_HELD_OUT},
    "more units than samples": {"cca", "svcca", "pwcca", "overlap_99"},
    "one sample": {*MEASURES} - {"cka"},
    "a constant net": {*MEASURES} - {"cka"},
}


@pytest.mark.parametrize("what", UNKNOWN_OF_FEW)
def test_what_is_undefined_or_trivial_is_absent(what):
    x_na, x_nb = nets(40, 30, 35, noise=3) if what == "more units than samples" else nets(40)
    if what == "a constant net":
        x_nb = torch.ones_like(x_nb)
    some = slice(0, 1) if what == "one sample" else slice(None)
    pair = pair_of(x_na[some], x_nb[some], blocks=1 if what == "one block" else 10)
    values = similarities(pair)
    assert {*MEASURES} - values.keys() == UNKNOWN_OF_FEW[what]
    assert np.isfinite([*values.values()]).all()
    assert permutation_null(pair) is None or len(some.indices(40)) > 1


def test_without_energies_measures_of_pairs_of_samples_are_absent():
    pair = pair_of(*nets())
    assert {*MEASURES} - similarities(pair.of_moments(pair.moments)).keys() == {
        "cka_debiased_samples", "rsa_pearson", "rsa_cosine",
    }  # fmt: skip


def test_joint_histograms_are_nobodys_matter():
    pair = pair_of(*nets())
    assert similarities(replace(pair, joint=object())) == pytest.approx(similarities(replace(pair, joint=None)))


def test_extreme_scales_and_constant_units_change_nothing_that_is_known():
    x_na, x_nb = nets()
    values = similarities(pair_of(x_na, x_nb))
    constant = similarities(pair_of(torch.cat([x_na, torch.full((300, 1), 1e6)], 1), x_nb))
    assert constant == pytest.approx(values, rel=1e-6)
    for scale in (1e-160, 1e160):
        extreme = similarities(pair_of(x_na * scale, x_nb))
        assert extreme == pytest.approx({name: values[name] for name in extreme}, rel=1e-6)
        assert len(extreme) == len(values) - 3
    assert {"soft_matching", "soft_matching_partial"} == set(AXES)


def test_a_ceiling_reads_no_joint_histograms_which_have_folds_of_their_own():
    class Counted:
        def folds(self, n):
            raise cv.InputError(f"counted in 5 folds, not in {n}")

    pair = cv.Pair.of(torch.randn(60, 3), torch.randn(60, 4))
    assert cka_ceiling(replace(pair, joint=Counted())) == cka_ceiling(pair)
