"""Copies of a unit are equally good partners: which is taken does not hang on the order in which samples are added up."""

import numpy as np
import pytest
import torch

from convergent.analysis.consensus import matchings
from convergent.analysis.several import SeveralNets
from convergent.core.pairs import Pair
from convergent.core.scores import held_out
from convergent.core.ties import TIED, best_assignment
from convergent.methods.matching import Matching
from convergent.methods.mutual_information import MutualInformation
from convergent.methods.semimatching import SemiMatching
from convergent.methods.solvers.selection import forward_selection

METHODS = [Matching(), SemiMatching(), MutualInformation(), MutualInformation(assignment="matching")]


def with_copies(n=600, units=12, copies=8):
    """Noisy nets whose last units copy the first ones, far from 0 so that there is rounding."""
    x_nu = torch.randn(n, 2 * units).double()
    x_na, noise_na = x_nu.split(units, 1)
    x_nb = x_na + noise_na
    return (torch.cat([x_nc, x_nc[:, :copies]], 1) / 3 + 1e3 for x_nc in (x_na, x_nb))


def reordered(x_na, x_nb):
    """The same samples of the same blocks, added up in other orders."""
    for seed in range(4):
        order_n = torch.randperm(len(x_na), generator=torch.Generator().manual_seed(seed))
        yield Pair.of(x_na[order_n], x_nb[order_n], order_n, blocks=20)


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_the_order_of_samples_changes_no_partner_of_copies(method):
    first, *others = list(reordered(*with_copies()))
    assert any(not torch.equal(first.corr_ab, other.corr_ab) for other in others)  # or there is nothing to be seen
    for other in others:
        assert torch.equal(method(first).partner_b, method(other).partner_b)
        assert torch.allclose(held_out(method, first), held_out(method, other), atol=1e-9)


@pytest.mark.parametrize("noise", [1e-15, 1e-13])
def test_rounding_noise_changes_no_assignment_and_only_ties_are_decided_by_the_rule(noise):
    weight_ij = np.random.default_rng(0).uniform(-1, 1, (30, 40))
    weight_ij[10:20], weight_ij[:, 30:] = weight_ij[:10], weight_ij[:, :10]
    (row, column), value = best_assignment(weight_ij), None
    for seed in range(20):
        noisy_ij = weight_ij + noise * np.random.default_rng(seed).normal(size=weight_ij.shape)
        assert np.array_equal(best_assignment(noisy_ij)[1], column)
        back_row, back_column = best_assignment(noisy_ij.T)  # the other way round the partners are the same
        assert np.array_equal(back_row[back_column.argsort()], column)
        value = noisy_ij[row, column].sum()
    assert value == pytest.approx(weight_ij[row, column].sum(), abs=30 * TIED)


def test_of_equal_units_the_first_is_taken():
    pair = next(reordered(*with_copies()))
    assert SemiMatching()(pair).partner_b.max() < 12
    assert forward_selection(pair.corr_aa, pair.corr_ab, 3).max() < 12


def test_of_several_nets_the_same_partners_are_taken_as_of_two():
    pair = next(reordered(*with_copies()))
    nets = SeveralNets(
        ["a", "b"], {(0, 1): pair.corr_ab, (0, 0): pair.corr_aa, (1, 1): pair.corr_bb}, [pair.active_a, pair.active_b]
    )
    assert torch.equal(nets.best(1, 0)[0], SemiMatching()(pair).partner_b)
    assert torch.equal(matchings(nets)[1, 0], Matching()(pair).partner_b)
    noisy_ab = pair.corr_ab + 1e-13 * torch.randn(pair.p, pair.q).double()
    noisy = SeveralNets(nets.names, {**nets.corr, (0, 1): noisy_ab}, nets.active)
    assert torch.equal(matchings(noisy)[0, 1], matchings(nets)[0, 1])
    assert torch.equal(noisy.best(0, 1)[0], nets.best(0, 1)[0])
