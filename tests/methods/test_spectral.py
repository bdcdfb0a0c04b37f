"""Laws of the clusters of two nets' units."""

from dataclasses import replace

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from sklearn.linear_model import Ridge

from conftest import PROJECT, blocks
from convergent.analysis.chance import mean_r
from convergent.analysis.cluster_agreement import adjusted_rand
from convergent.analysis.clusters import spread_runs
from convergent.analysis.intervals import jackknife
from convergent.analysis.results import compare
from convergent.core.alignment import align
from convergent.core.layer_moments import LayerMoments
from convergent.core.moments import Moments
from convergent.core.pairs import Pair
from convergent.core.scores import held_out
from convergent.errors import InputError
from convergent.methods.spectral import SpectralClustering, cluster_nets

PLANTED = ((4, 3), (2, 5), (6, 2), (3, 3))
WAYS = [
    {},
    {"clusters": 4},
    {"clusters": {"": 4}, "laplacian": "unnormalised", "threshold": 0.0},
    {"laplacian": "random_walk", "threshold": 0.3},
    {"assign": "kmeans"},
]


def agree(alignment, group_a, group_b):
    labels = torch.cat([alignment.labels_a, alignment.labels_b])
    assert (labels >= 0).all()
    return adjusted_rand(labels, torch.cat([group_a, group_b]))


@pytest.mark.parametrize("way", WAYS)
def test_planted_groups_of_unequal_sizes_are_recovered(way):
    for noise in (0.3, 0.7):
        x_na, x_nb, group_a, group_b = blocks(PLANTED, noise)
        alignment = SpectralClustering(**way)(Pair.of(x_na, x_nb))
        assert agree(alignment, group_a, group_b) == 1
        assert alignment.solver["clusters"] == 4
        assert alignment.solver["eigengap"] == ("clusters" not in way)


def test_the_papers_preset_has_the_papers_numbers():
    paper = instantiate(OmegaConf.load(PROJECT / "conf" / "method" / "spectral_paper.yaml"))
    assert [paper.number(f"conv{layer}") for layer in range(1, 6)] == [40, 100, 100, 100, 100]
    assert paper.number("fc6") is None
    assert (paper.laplacian, paper.assign, paper.threshold) == ("unnormalised", "kmeans", 0)


def test_units_are_predicted_from_their_cluster_alone_by_ridge_regression():
    x_na, x_nb, group_a, group_b = blocks(PLANTED)
    alignment = SpectralClustering(ridge=0.1)(Pair.of(x_na, x_nb))
    assert torch.equal(alignment.map_ab != 0, group_a[:, None] == group_b)
    z_na, z_nb = ((x - x.mean(0)) / x.std(0, correction=0) for x in (x_na, x_nb))
    a, b = group_a == 1, group_b == 1
    ridge = Ridge(alpha=0.1 * len(x_na), fit_intercept=False).fit(z_na[:, a].numpy(), z_nb[:, b].numpy())
    assert torch.allclose(alignment.map_ab[a][:, b], torch.from_numpy(ridge.coef_.T))


def test_a_ridge_that_rounding_exceeds_is_refused():
    x_na = torch.randn(50, 2).double()[:, [0, 1, 0, 1]]
    with pytest.raises(InputError, match="ridge needs to be larger than 1e-30"):
        SpectralClustering(clusters=1, threshold=0, ridge=1e-30)(Pair.of(x_na, x_na.sum(1, keepdim=True)))


@pytest.mark.parametrize("way", WAYS)
def test_relabelling_units_permutes_labels_only(way):
    x_na, x_nb = torch.randn(60, 20).double(), torch.randn(60, 15).double()  # no groups: the hardest case
    x_nb[:, :10] += x_na[:, :10]
    method = SpectralClustering(**way)
    alignment = method(Pair.of(x_na, x_nb))
    for seed in range(4):
        draw = torch.Generator().manual_seed(seed)
        order_a, order_b = torch.randperm(20, generator=draw), torch.randperm(15, generator=draw)
        again = method(Pair.of(x_na[:, order_a], x_nb[:, order_b]))
        assert torch.allclose(again.map_ab, alignment.map_ab[order_a][:, order_b], atol=1e-8)
        ours = torch.cat([alignment.labels_a[order_a], alignment.labels_b[order_b]])
        theirs = torch.cat([again.labels_a, again.labels_b])
        assert torch.equal(ours < 0, theirs < 0)
        assert adjusted_rand(ours, theirs) == 1


def test_the_other_direction_has_the_same_clusters():
    x_na, x_nb, *_ = blocks(PLANTED, noise=1.5)
    pair, method = Pair.of(x_na, x_nb), SpectralClustering()
    there, back = method(pair), method(pair.flip())
    assert torch.equal(there.labels_a, back.labels_b)
    assert torch.equal(there.labels_b, back.labels_a)


def test_constant_and_isolated_units_are_set_aside_and_counted_apart():
    x_na, x_nb, group_a, group_b = blocks(PLANTED)
    x_na[:, 0], x_nb[:, 1], x_nb[:, 2] = 3.0, torch.randn(1500), -5.0
    alignment = SpectralClustering()(Pair.of(x_na, x_nb))
    assert alignment.labels_a[0] == alignment.labels_b[1] == alignment.labels_b[2] == -1
    assert alignment.solver["isolated"] == 1
    assert alignment.map_ab[0].abs().sum() == alignment.map_ab[:, 1:3].abs().sum() == 0
    kept_a, kept_b = alignment.labels_a >= 0, alignment.labels_b >= 0
    labels = torch.cat([alignment.labels_a[kept_a], alignment.labels_b[kept_b]])
    assert adjusted_rand(labels, torch.cat([group_a[kept_a], group_b[kept_b]])) == 1


def test_a_graph_in_parts_is_said_and_its_parts_stay_apart():
    x_na, x_nb, group_a, group_b = blocks(PLANTED)
    alignment = SpectralClustering(clusters=2, threshold=0.4)(Pair.of(x_na, x_nb))
    assert alignment.solver["parts"] == alignment.solver["clusters"] == 4
    assert agree(alignment, group_a, group_b) == 1


def test_extremes_have_a_sound_answer():
    x_na, x_nb, *_ = blocks(PLANTED)
    pair = Pair.of(x_na, x_nb)
    nothing = SpectralClustering(threshold=1.0)(pair)
    assert nothing.solver["clusters"] == 0
    assert nothing.solver["isolated"] == 28
    assert (nothing.labels_a == -1).all()
    assert nothing.score_b.abs().sum() == 0
    one = SpectralClustering(clusters=1, threshold=0)(pair)
    assert (one.labels_a == 0).all()
    assert (one.predictors_b == 15).all()
    each = SpectralClustering(clusters=28, threshold=0)(pair)
    assert sorted(torch.cat([each.labels_a, each.labels_b]).tolist()) == list(range(28))
    assert SpectralClustering()(Pair.of(torch.zeros(9, 2), torch.ones(9, 3))).solver["clusters"] == 0


def test_by_magnitude_an_inverted_unit_stays_in_its_group():
    x_na, x_nb, group_a, group_b = blocks(PLANTED)
    x_nb[:, group_b == 1] *= -1
    assert agree(SpectralClustering(absolute=True)(Pair.of(x_na, x_nb)), group_a, group_b) == 1
    assert SpectralClustering()(Pair.of(x_na, x_nb)).solver["clusters"] == 5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clusters": 29}, "29 clusters need as many units, but layer given has 28 in all nets; ask for fewer"),
        ({"clusters": {"conv1": 0}}, "clusters needs to be a whole number, 1 or more, or a dictionary"),
        ({"threshold": 1.5}, "threshold needs to be between 0 and 1, as correlations are, not 1.5"),
        ({"bounds": [3]}, "bounds needs to be a least and a largest number of clusters"),
        ({"ridge": 0}, "ridge needs to be above 0, not 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    x_na, x_nb, *_ = blocks(PLANTED, n=100)
    with pytest.raises(InputError, match=message):
        SpectralClustering(**settings)(Pair.of(x_na, x_nb))


def test_the_spread_is_over_parts_of_the_images_or_over_seeds():
    x_na, x_nb, *_ = blocks(PLANTED, noise=2.0)
    pair = Pair.of(x_na, x_nb)
    assert len(spread_runs(align(SpectralClustering(), pair), 10)) == 5
    assert len(spread_runs(align(SpectralClustering(), replace(pair, held_out_folds=0)), 10)) == 1
    assert len(spread_runs(align(SpectralClustering(), Pair.of(x_na, x_nb, blocks=1)), 10)) == 1
    seeds = spread_runs(align(SpectralClustering(assign="kmeans", restarts=1, clusters=9), pair), 10)
    assert len(seeds) == 10
    assert any(not torch.equal(seeds[0], other) for other in seeds)


def test_all_nets_of_a_layer_are_clustered_at_once():
    x_na, x_nb, group_a, group_b = blocks(PLANTED)
    x_nc = x_nb[:, [12, 0, 5]] + 0.2 * torch.randn(1500, 3)
    x_nu, units = torch.cat([x_na, x_nb, x_nc], 1), [slice(0, 15), slice(15, 28), slice(28, 31)]
    moments = Moments.stack([Moments.of(x_nu[:700]), Moments.of(x_nu[700:])])
    scatter = {(i, j): moments.scatter_uu[:, units[i], units[j]] for i in range(3) for j in range(i, 3)}
    layer = LayerMoments("conv1", ["a", "b", "c"], units, moments.count, moments.mean_u, scatter, 1500)
    labels = cluster_nets(SpectralClustering(), layer)
    assert {net: len(label) for net, label in labels.items()} == {"a": 15, "b": 13, "c": 3}
    assert adjusted_rand(torch.cat([*labels.values()]), torch.cat([group_a, group_b, group_b[[12, 0, 5]]])) == 1


def test_intervals_keep_the_clusters_and_held_out_scores_do_not():
    x_na, x_nb, *_ = blocks(PLANTED, noise=1.2, n=300)
    pair, method = Pair.of(x_na, x_nb), SpectralClustering()
    alignment, result = compare(method, pair, 300, interval=True)
    assert torch.equal(alignment.refit(choices=True)(pair).map_ab, alignment.map_ab)
    for rest in pair.moments.leave_one_out():
        part = pair.of_moments(Moments.stack([rest]))
        assert torch.equal(alignment.refit(choices=True)(part).labels_b, alignment.labels_b)
    interval = jackknife(lambda part: mean_r(alignment.refit(choices=True)(part)), pair)
    assert result.interval == (interval.low.item(), interval.high.item())
    assert torch.equal(torch.from_numpy(result.held_out_b), held_out(method, pair))
