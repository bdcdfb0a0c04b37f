import pytest
import torch

from conftest import blocks
from convergent.analysis.shared_subspaces import shared_subspaces, summed_up
from convergent.core.pairs import Pair


def grouped(rotated, noise=0.1):
    """Three groups of four units of each net: b's are a's four, or a rotation of them, with noise."""
    x_na = torch.randn(2000, 12).double()
    turn = torch.linalg.qr(torch.randn(4, 4).double())[0] if rotated else torch.eye(4).double()
    x_nb = torch.cat([x_na[:, k : k + 4] @ turn for k in (0, 4, 8)], 1)
    pair = Pair.of(x_na, x_nb + noise * torch.randn(2000, 12))
    return pair, torch.arange(3).repeat_interleave(4).repeat(2)


def test_a_subspace_on_other_axes_is_told_from_single_units():
    same, other = (summed_up(shared_subspaces(*grouped(rotated))) for rotated in (False, True))
    for scalars in (same, other):
        assert scalars["span_correlation"] > 0.98
        assert scalars["span_explained"] > 0.98
        assert scalars["random_explained"] < 0.55  # of four units a third is in each group
    assert same["matched_correlation"] > 0.98
    assert same["matched_explained"] > 0.95
    assert other["matched_correlation"] < 0.85
    assert other["matched_correlation"] == pytest.approx(other["rotated_within_correlation"], abs=0.12)
    assert same["rotated_within_correlation"] == pytest.approx(other["rotated_within_correlation"], abs=0.05)


def test_unrelated_groups_share_nothing_that_chance_does_not_give():
    pair = Pair.of(torch.randn(4000, 12), torch.randn(4000, 12))
    scalars = summed_up(shared_subspaces(pair, torch.arange(3).repeat_interleave(4).repeat(2)))
    assert scalars["span_correlation"] == pytest.approx(scalars["random_correlation"], abs=0.01)
    assert scalars["span_explained"] == pytest.approx(4 / 3999, rel=0.5)


def test_what_cannot_be_compared_is_left_out():
    x_na, x_nb, group_a, group_b = blocks(((4, 3), (1, 5), (2, 0), (2, 2)))
    label_u = torch.cat([group_a, group_b])
    label_u[0] = -1
    subspaces = shared_subspaces(Pair.of(x_na, x_nb), label_u)
    assert {one.cluster for one in subspaces} == {0, 3}
    assert all(0 < value <= 1 for value in summed_up(subspaces).values())
    assert shared_subspaces(Pair.of(x_na, x_nb), torch.full((19,), -1)) == []
    assert shared_subspaces(Pair.of(x_na, x_nb), torch.zeros(19).long()) == []  # all units: no random group is another
    assert shared_subspaces(Pair.of(x_na[:6], x_nb[:6]), label_u)[0].cluster == 3  # 4 with 3 units in 6 samples
    assert summed_up([]) == {}


def test_the_same_input_gives_the_same_numbers():
    pair, label_u = grouped(rotated=True)
    assert shared_subspaces(pair, label_u) == shared_subspaces(pair, label_u)
