"""Units are classified as what was planted where the images tell, and not at all where they do not."""

import json
from dataclasses import replace

import pytest
import torch

from convergent.analysis.codes import FewToOne
from convergent.analysis.gains import CODES, Gains
from convergent.core.alignment import align
from convergent.core.pairs import Pair
from convergent.core.prediction import explained
from convergent.core.scores import held_out
from convergent.methods.least_squares import LeastSquares
from convergent.methods.sparse import SparsePrediction
from simulations.codes import pair_of, shares

CLASSES = CODES[:3]


@pytest.mark.parametrize("firing", [None, 0.07])
@pytest.mark.parametrize("samples", [300, 6000])
def test_of_independent_nets_hardly_a_unit_is_classified_and_one_in_twenty_predicted(samples, firing):
    share = shares("nothing in common", samples, firing, repeats=3)
    assert sum(share[code] for code in CLASSES) <= 0.03
    assert share["unpredicted"] >= 0.92


@pytest.mark.parametrize(
    ("planted", "samples", "code", "least"),
    [
        ("one unit, R² = 0.5", 300, "local", 0.9),
        ("one unit, weak: R² = 0.1", 6000, "local", 0.9),
        ("three units, R² = 0.5", 300, "slightly_distributed", 0.9),
        ("eight units, R² = 0.5", 300, "slightly_distributed", 0.85),
        ("eight units, weak: R² = 0.2", 6000, "slightly_distributed", 0.9),
        ("thirty units, R² = 0.5", 1500, "distributed", 0.9),
        ("thirty units, weak: R² = 0.1", 6000, "distributed", 0.9),
    ],
)
def test_planted_codes_are_found_and_no_others(planted, samples, code, least):
    share = shares(planted, samples)
    assert share[code] >= least
    assert sum(share[other] for other in CLASSES if other != code) <= 0.02


@pytest.mark.parametrize("planted", ["eight units, weak: R² = 0.2", "thirty units, weak: R² = 0.1"])
@pytest.mark.parametrize("firing", [None, 0.07])
def test_weak_codes_of_few_images_stay_undecided(planted, firing):
    share = shares(planted, 300, firing)
    assert share["local"] + share["distributed"] <= 0.02
    assert share["undecided"] + share["unpredicted"] >= 0.8


def test_gains_by_block_are_the_held_out_scores_of_all_and_of_the_best_one():
    pair = pair_of(3, 0.5, 300, None, 0)
    b = torch.tensor([0, 5, 7])
    gains = Gains.of(pair, b)
    beside = FewToOne.of(pair, torch.zeros(pair.q, dtype=torch.bool).index_fill(0, b, True))
    assert torch.allclose(beside.all, held_out(LeastSquares(), pair)[b])
    total_b = gains.total_kb.sum(0)
    fitted = Pair.of_moments(pair, pair.moments)
    best = pair.corr_ab[:, b].abs().argmax(0)
    one_ab = torch.zeros(pair.p, pair.q).double()
    one_ab[best, b] = pair.corr_ab[best, b]
    share_b = gains.fitted_kmb[:, 0].sum(0) / (pair.total.scatter_uu.diagonal()[pair.b][b])
    assert torch.allclose(share_b, explained(one_ab, fitted, fitted)[b])
    assert (gains.fitted_kmb.sum(0) / total_b).diff(dim=0).min() > 0  # more units fit better, and gain less elsewhere
    assert torch.allclose(beside.best[0], gains.best_kmb[:, 0].sum(0) / total_b)


def test_silent_units_and_two_blocks_are_no_trouble():
    x_na, x_nb = torch.randn(2, 60, 6).double()
    x_na[:, 1], x_nb[:, 2], x_nb[:, 3] = 0, 0, 0
    x_nb[7, 3] = 1  # fires in one image
    for blocks in (2, 60):
        codes = FewToOne.of(Pair.of(x_na, x_nb, blocks=blocks), torch.ones(6, dtype=torch.bool)).codes()
        assert sum(codes.values()) == pytest.approx(1)
        assert codes["local"] + codes["slightly_distributed"] + codes["distributed"] == 0


def test_penalties_share_them_and_other_pairs_folds_and_units_do_not():
    values, made = {}, []

    def store(name, make):
        if name not in values:
            values[name] = json.loads(json.dumps(make()))
            made.append(name)
        return values[name]

    pair = replace(pair_of(3, 0.5, 300, None, 0), store=store)
    few = [FewToOne.beside(align(SparsePrediction(alpha=alpha), pair)) for alpha in (0.1, 0.2)]
    assert len(made) == 1
    expected = FewToOne.of(pair, pair.active_b)
    for one in few:
        for name in ("best", "all", "code"):
            assert torch.equal(getattr(one, name), getattr(expected, name))
    others = [pair.flip(), replace(pair, held_out_folds=3), replace(pair_of(3, 0.5, 300, None, 1), store=store)]
    for other in others:
        FewToOne.beside(align(SparsePrediction(), other))
    FewToOne.beside(align(SparsePrediction(targets=4), pair))
    assert len(made) == 5
