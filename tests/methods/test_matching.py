"""Laws of the one-to-one assignment."""

from itertools import permutations

import numpy as np
import pytest
import torch

from conftest import planted
from convergent.core.pairs import Pair
from convergent.methods.matching import Matching, duality_gap
from convergent.methods.semimatching import SemiMatching


@pytest.mark.parametrize("p", [2, 30, 200])
def test_a_planted_permutation_is_recovered_whatever_gain_and_offset(p):
    x_na, x_nb, order = planted(2000, p, p, noise=0.3)
    alignment = Matching()(Pair.of(x_na, x_nb))
    assert torch.equal(alignment.partner_b, order)
    assert alignment.score_b.min() > 0.8


@pytest.mark.parametrize("shape", [(1, 1), (5, 5), (3, 7), (7, 3), (6, 6), (8, 7)])
def test_brute_force_agrees(shape):
    p, q = shape
    pair = Pair.of(torch.randn(40, p), torch.randn(40, q))
    corr, alignment = pair.corr_ab, Matching()(pair)
    wide = corr if p <= q else corr.T
    best = max(
        wide[range(len(wide)), list(choice)].sum().item() for choice in permutations(range(wide.shape[1]), len(wide))
    )
    assert alignment.map_ab.sum().item() == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize(("p", "q"), [(300, 300), (100, 260), (260, 100)])
def test_the_certificate_proves_the_optimum_and_no_less(p, q):
    pair = Pair.of(torch.randn(500, p), torch.randn(500, q))
    alignment = Matching()(pair)
    assert 0 <= alignment.solver["gap"] + 1e-10 < 1e-8
    row, column = alignment.map_ab.nonzero(as_tuple=True)
    worse = column.clone()
    worse[[0, 1]] = column[[1, 0]]
    lost = (pair.corr_ab[row, column] - pair.corr_ab[row, worse]).sum().item()
    assert duality_gap(pair.corr_ab.numpy(), row.numpy(), worse.numpy()) >= lost > 0


def test_between_greedy_and_semi_matching():
    pair = Pair.of(torch.randn(60, 20), torch.randn(60, 20))
    corr = pair.corr_ab.numpy().copy()
    greedy = 0.0
    for _ in range(20):
        i, j = np.unravel_index(corr.argmax(), corr.shape)
        greedy += corr[i, j]
        corr[i], corr[:, j] = -np.inf, -np.inf
    value = Matching()(pair).map_ab.sum().item()
    assert greedy <= value + 1e-12
    assert value <= SemiMatching()(pair).map_ab.sum().item()


def test_back_is_the_inverse():
    pair = Pair.of(torch.randn(100, 12), torch.randn(100, 12))
    there, back = Matching()(pair), Matching()(pair.flip())
    assert torch.allclose(there.map_ab, back.map_ab.T, atol=1e-12)


def test_unequal_widths_leave_units_unmatched_and_say_which():
    x_na, x_nb, _ = planted(300, 4, 7)
    alignment = Matching()(Pair.of(x_na, x_nb))
    assert (alignment.partner_b == -1).sum() == 3
    assert (alignment.score_b[alignment.partner_b == -1] == 0).all()
    assert alignment.sharing_a.tolist() == [1] * 4


def test_constant_units_stay_single():
    x_na, x_nb, order = planted(300)
    x_na[:, order[2]] = 1.0
    x_nb[:, 4] = 0.0
    alignment = Matching()(Pair.of(x_na, x_nb))
    assert alignment.partner_b[4] == -1
    assert alignment.map_ab[order[2]].abs().sum() == 0
    for b in set(range(6)) - {2, 4}:
        assert alignment.partner_b[b] == order[b]


def test_correlation_not_covariance_decides():
    x_na, x_nb, order = planted(3000, 60, 60, noise=0.6)
    loud = x_nb * torch.logspace(-3, 3, 60)
    assert torch.equal(Matching()(Pair.of(x_na, loud)).partner_b, order)


def test_by_magnitude_an_inverted_unit_is_the_same_unit():
    x_na, x_nb, order = planted(300)
    x_nb[:, 1] *= -1
    alignment = Matching(absolute=True)(Pair.of(x_na, x_nb))
    assert torch.equal(alignment.partner_b, order)
    assert alignment.r_b[1] < -0.9
    assert not torch.equal(Matching()(Pair.of(x_na, x_nb)).partner_b, order)
