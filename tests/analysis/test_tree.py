"""The tree of a sparse mapping, and groups of units that span one subspace on different axes."""

import numpy as np
import pytest
import torch
from scipy.cluster.hierarchy import is_valid_linkage

from convergent.analysis.balanced import cluster_rows
from convergent.analysis.tree import Tree
from convergent.core.pairs import Pair
from convergent.methods.sparse import SparsePrediction
from simulations.clusters import p_values_of


def four_and_four(n=6000):
    """Units 0 to 3 of both nets span the same four dimensions, each net on axes of its own; the others copy one another."""
    latent = torch.randn(n, 4).double()
    alone = torch.randn(n, 8).double()
    x_na = torch.cat([latent, alone], 1)
    x_nb = torch.cat([latent @ (torch.eye(4).double() + 0.6), alone + 2 * torch.randn(n, 8)], 1)
    return Pair.of(x_na, x_nb)


def planted_tree():
    pair = four_and_four()
    alignment = SparsePrediction(alpha=0.05)(pair)
    return pair, alignment, Tree.of(alignment)


def test_the_tree_is_of_the_mapping_with_both_nets_units():
    _, alignment, tree = planted_tree()
    b = np.block([[np.eye(12), alignment.map_ab.numpy()], [alignment.map_ab.numpy().T, np.eye(12)]])
    assert np.array_equal(tree.similarity, b)
    assert is_valid_linkage(tree.links)
    assert sorted(tree.order) == list(range(24))
    first = tree.links[0]
    off = b - 2 * np.eye(24)
    assert tree.top - first[2] == off.max()  # the most similar units are joined first
    assert off[int(first[0]), int(first[1])] == off.max()


def test_the_planted_four_and_four_are_found_and_their_subspaces_agree_though_no_units_do():
    pair, _, tree = planted_tree()
    rows = cluster_rows(SparsePrediction(alpha=0.05), pair)
    (cluster,) = [row for row in rows if row["size"] == 4]
    assert (cluster["units_a"], cluster["units_b"]) == ("0 1 2 3", "0 1 2 3")
    for label_u in tree.labels(pair):
        assert (label_u[:4] == label_u[0]).all()
        assert label_u[0] >= 0
        assert (label_u[4:] != label_u[0]).all()
    assert cluster["canonical"] > 0.999
    assert cluster["one_to_one"] < 0.9
    assert cluster["random"] < 0.6
    assert cluster["p_value"] == pytest.approx(1 / 201, abs=1e-6)


def test_relabelled_units_give_the_same_clusters():
    pair, _, _ = planted_tree()
    order = torch.randperm(12, generator=torch.Generator().manual_seed(3))
    total = pair.total
    both = torch.cat([order, 12 + order])
    relabelled = Pair(type(total).stack([total.select(both)]), pair.a, pair.b)
    (cluster,) = [row for row in cluster_rows(SparsePrediction(0.05), relabelled) if row["size"] == 4]
    assert cluster["p_value"] is None  # one block of images: nothing is left that did not choose the cluster
    assert "r2_held_out" not in cluster
    assert sorted(order[list(map(int, cluster["units_a"].split()))].tolist()) == [0, 1, 2, 3]


def test_constant_units_and_those_not_asked_for_are_left_out():
    x_na, x_nb = torch.randn(100, 4), torch.randn(100, 6)
    x_na[:, 1], x_nb[:, 2] = 3, 0
    pair = Pair.of(x_na, x_nb)
    tree = Tree.of(SparsePrediction(0.01, targets=3)(pair))
    assert len(tree.units) <= 3 + 3
    assert 1 not in tree.units[~tree.of_b]
    assert 2 not in tree.units[tree.of_b]
    assert np.isfinite(tree.links).all()
    labels_a, labels_b = tree.labels(pair)
    assert (labels_a.shape, labels_b.shape) == ((4,), (6,))
    assert labels_a[1] == labels_b[2] == -1


def test_a_tree_without_weights_has_no_clusters():
    pair = Pair.of(torch.randn(100, 4), torch.randn(100, 4))
    assert cluster_rows(SparsePrediction(0.99), pair) == []


@pytest.mark.parametrize("kind", ["rectified", "positions"])
def test_p_values_of_independent_nets_are_uniform(kind):
    p_c = p_values_of(kind, 100)
    assert len(p_c) > 350
    assert 0.03 <= (p_c <= 0.05).double().mean() <= 0.07
    assert (p_c <= 0.01).double().mean() <= 0.02
    assert 0.43 <= (p_c <= 0.5).double().mean() <= 0.57
