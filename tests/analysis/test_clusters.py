"""Reports on clusters: numbers, tables, curves and figures, whatever the clusters are."""

import math

import pytest
import torch

from conftest import blocks
from convergent.analysis.clusters import clusters
from convergent.analysis.nulls import rotated
from convergent.analysis.reports import mean_curves, rows_by_table
from convergent.core.alignment import align
from convergent.core.pairs import Pair
from convergent.figures.clusters import clusters as matrix
from convergent.figures.composition import composition
from convergent.figures.similarity import similarity
from convergent.figures.subspaces import subspaces
from convergent.methods.hierarchical_spectral import HierarchicalSpectralClustering
from convergent.methods.spectral import SpectralClustering


def pair(noise=0.6):
    x_na, x_nb, *_ = blocks(noise=noise)
    x_na[:, 0] = 1.0
    return Pair.of(x_na, x_nb)


@pytest.mark.parametrize(
    "method",
    [
        SpectralClustering(),
        HierarchicalSpectralClustering(),
        SpectralClustering(assign="kmeans", restarts=1),
        SpectralClustering(clusters=1),
        SpectralClustering(clusters=28, threshold=0.0),
        SpectralClustering(threshold=1.0),
    ],
)
def test_everything_is_reported_and_drawn_also_of_one_cluster_of_single_units_and_of_none(method):
    alignments = [align(method, each) for each in (pair(), pair().flip())]
    reports = [clusters(alignment, seeds=3) for alignment in alignments]
    for figure in (matrix(alignments[0]), similarity(reports), composition(reports), subspaces(reports)):
        figure.draw_without_rendering()
    assert all(math.isfinite(value) for report in reports for value in report.scalars.values())
    assert mean_curves(reports)["similarity"][""]["similarity"][-1] == 1
    rows = rows_by_table(reports).get("clusters", [])
    assert sum(row["units_a"] + row["units_b"] for row in rows) in (0, 2 * 27)


def test_planted_groups_have_the_numbers_that_they_must_have():
    report = clusters(align(SpectralClustering(), pair()))
    planted = 1 / (1 + 0.6**2)  # correlation of two noisy copies of one latent
    rows = report.tables["clusters"]
    _, _, group_a, group_b = blocks()
    group_a = group_a[1:]  # the first is constant
    sizes = [(int((group_a == group).sum()), int((group_b == group).sum())) for group in range(4)]
    assert sorted((row["units_a"], row["units_b"]) for row in rows) == sorted(sizes)
    assert all(row["similarity_between"] == pytest.approx(planted, abs=0.04) for row in rows)
    assert report.scalars["similarity_between"] == pytest.approx(planted, abs=0.03)
    null = rotated(pair())
    assert clusters(align(SpectralClustering(), null)).scalars["similarity_between"] < 0.6 * planted
    assert report.scalars["rand"] == 1
    assert report.scalars["mixed"] == 1
    assert report.scalars["subspace_span_explained"] > report.scalars["subspace_matched_explained"]
    assert report.scalars["subspace_span_explained"] > 1.7 * report.scalars["subspace_random_explained"]
    between = torch.tensor(report.curves["similarity"]["between"])
    assert between[0] == 1
    assert (between.diff() <= 0).all()
    sizes = report.curves["units_of_one_net"]
    assert sum(n * size for n, size in zip(sizes["clusters_b"], sizes["units_of_one_net"])) == 13
