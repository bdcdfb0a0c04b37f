"""Records of units that are nearly always zero: what is made of them is what is made of the dense record."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from convergent.analysis.results import compare
from convergent.core.alignment import align
from convergent.core.layer_moments import LayerMoments
from convergent.core.packing import Packing
from convergent.core.partner_alignment import correlations
from convergent.errors import InputError
from convergent.methods.least_squares import LeastSquares
from convergent.methods.matching import Matching, duality_gap
from convergent.methods.semimatching import SemiMatching
from convergent.methods.solvers.sparse_assignment import _Problem, best_sparse_assignment
from convergent.streaming.accumulate import Accumulator
from convergent.streaming.activity import Activity
from convergent.streaming.arithmetic import Arithmetic
from convergent.streaming.saved_moments import SavedMoments
from convergent.streaming.sparse_accumulate import SparseAccumulator


def codes(n=600, p=30, q=40, active=4, sign=1.0):
    """Top-k codes of two nets (n, units): most of b's units are noisy copies of a's, one of each is silent, one twice."""
    x_na = torch.zeros(n, p)
    unit = torch.rand(n, p - 2).topk(active).indices + 2
    x_na.scatter_(1, unit, (torch.rand(unit.shape) + 0.2) * torch.sign(torch.rand(unit.shape) - 0.5 + sign))
    x_na[:, 0] = x_na[:, 4]
    fires = torch.rand(n, min(p, q)) < 0.7
    x_nb = (torch.rand(n, q) * (torch.rand(n, q) < 0.05)).float()
    x_nb[:, : min(p, q)] += x_na[:, : min(p, q)] * fires
    x_nb[:, 7] = 0.0
    return x_na, x_nb[:, torch.randperm(q)]


def records(x_na, x_nb, blocks=10):
    """The dense and the sparse record of the same samples, each an image."""
    nets, widths = {"a": x_na, "b": x_nb}, {"a": x_na.shape[1], "b": x_nb.shape[1]}
    block_n = (torch.arange(len(x_na)) * blocks // len(x_na)).tolist()
    packing = Packing.of(list(widths.values()))
    dense = Accumulator("sae", widths, 1, Arithmetic(torch.zeros(packing.width)), blocks, packing)
    squares = dataclasses.replace(packing, within=False)
    sparse = SparseAccumulator("sae", widths, 1, blocks, squares, Activity(30, 0.1, 9.0, 1e4), sparse=True)
    for sums in (dense, sparse):
        sums.begin(block_n)
        for net, x_nc in nets.items():
            sums.write(net, x_nc[:, :, None])
        sums.end()
        sums.close()
        yield sums.moments(len(x_na))


SIZES = [(30, 40), (40, 30), (32, 32)]


@pytest.mark.parametrize(("p", "q"), SIZES)
@pytest.mark.parametrize("method", [Matching(), Matching(absolute=True), SemiMatching(), SemiMatching(absolute=True)])
@pytest.mark.parametrize("sign", [1.0, 0.0], ids=["positive", "of both signs"])
def test_results_of_the_sparse_record_are_those_of_the_dense_one(method, p, q, sign):
    dense, sparse = records(*codes(p=p, q=q, sign=sign))
    for a, b in (("a", "b"), ("b", "a")):
        (_, here), (alignment, there) = (compare(method, of.pair(a, b), 600) for of in (dense, sparse))
        assert alignment.map_ab.is_sparse
        for of in dataclasses.fields(here):
            value, other = getattr(here, of.name), getattr(there, of.name)
            if isinstance(value, np.ndarray):
                assert np.allclose(value, other, rtol=0, atol=1e-12), of.name
            elif of.name != "solver":
                assert value == other, of.name
        assert here.constant_a == there.constant_a == here.constant_b == 1


@pytest.mark.parametrize(("p", "q"), SIZES)
def test_the_certificate_of_a_sparse_matching_is_that_of_the_dense_assignment(p, q):
    dense, sparse = (record.pair("a", "b") for record in records(*codes(p=p, q=q)))
    weight_ij = dense.corr_ab[dense.active_a][:, dense.active_b].numpy()
    alignment = Matching()(sparse)
    best = weight_ij[linear_sum_assignment(weight_ij, maximize=True)].sum()
    assert alignment.r_b.sum().item() == pytest.approx(best, abs=1e-9)
    assert abs(alignment.solver["gap"]) < 1e-12
    b = (alignment.partner_b[sparse.active_b] >= 0).nonzero()[:, 0]
    a = torch.searchsorted(sparse.active_a.nonzero()[:, 0], alignment.partner_b[sparse.active_b][b])
    assert duality_gap(weight_ij, a.numpy(), b.numpy()) < 1e-9


def test_the_gap_of_an_assignment_that_is_not_the_best_is_what_it_lacks():
    _, sparse = records(*codes(p=32, q=32))
    pair = sparse.pair("a", "b")
    active = [of.nonzero()[:, 0].numpy() for of in (pair.active_a, pair.active_b)]
    problem = _Problem(correlations(pair).select(*active), absolute=False)
    row, column, gap = best_sparse_assignment(problem.corr)
    for i in problem.assign_best():
        problem.assign(i)
    assert gap == pytest.approx(problem.gap(), abs=1e-12)
    assert (problem.column_i == column).all()
    before = problem.corr.of_pairs(row, column).sum()
    problem.column_i[:2] = problem.column_i[:2][::-1]
    lacks = before - problem.corr.of_pairs(row, problem.column_i).sum()
    assert lacks > 1e-3
    assert problem.gap() == pytest.approx(lacks, abs=1e-7)


def test_a_sparse_record_is_read_from_disk_as_it_was_saved(tmp_path):
    _, sparse = records(*codes())
    artifact = SavedMoments()
    artifact.save(sparse, tmp_path / "sae.safetensors")
    read = artifact.load(tmp_path / "sae.safetensors", "sae", ["a", "b"])
    assert read.pairs == [(0, 1)]
    for a, b in (("a", "b"), ("b", "a")):
        assert torch.equal(read.pair(a, b).corr_ab, sparse.pair(a, b).corr_ab)
        assert torch.equal(read.active(a), sparse.active(a))


def test_blocks_of_which_nothing_was_read_are_left_out():
    dense, sparse = records(*codes(n=5), blocks=10)
    assert isinstance(dense, LayerMoments)
    assert len(sparse.without_empty_blocks().count_k) == 5
    pairs = [of.without_empty_blocks().pair("a", "b") for of in (dense, sparse)]
    assert (pairs[0].corr_ab - pairs[1].corr_ab).abs().max() < 1e-12
    assert sparse.without_empty_blocks().without_empty_blocks().images == 5


def test_folds_of_folds_are_those_of_the_dense_record():
    pairs = [of.pair("a", "b") for of in records(*codes(), blocks=6)]
    inner = [[fold for fit, _ in pair.folds(3) for fold in fit.folds(2)] for pair in pairs]
    assert len(inner[0]) == len(inner[1]) == 6
    for one, two in zip(*inner):
        for dense, sparse in zip(one, two):
            assert sparse.sparse
            assert dense.count == sparse.count
            assert (dense.corr_ab - sparse.corr_ab).abs().max() < 1e-12


def test_correlations_are_those_of_the_samples():
    x_na, x_nb = codes()
    _, sparse = records(x_na, x_nb)
    with np.errstate(invalid="ignore"):
        pair, truth = sparse.pair("a", "b"), np.corrcoef(x_na.double().T, x_nb.double().T)[:30, 30:]
    assert np.abs(pair.corr_ab.numpy() - np.nan_to_num(truth)).max() < 1e-12
    assert (pair.flip().corr_ab - pair.corr_ab.T).abs().max() == 0
    covariance = torch.from_numpy(np.cov(x_na.double().T, x_nb.double().T, bias=True)[:30, 30:])
    assert (pair.cov_ab - covariance).abs().max() < 1e-12


def test_what_a_sparse_record_lacks_is_refused_in_one_sentence():
    _, sparse = records(*codes())
    pair = sparse.pair("a", "b")
    with pytest.raises(
        InputError, match=r"30 and 40 units .* matching and semi-matching are made; choose one of these"
    ):
        align(LeastSquares(), pair)
    with pytest.raises(InputError, match="no moments of a with a"):
        sparse.moments(["a"])
