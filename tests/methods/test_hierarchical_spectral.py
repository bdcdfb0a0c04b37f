"""Laws of clustering in rounds."""

import pytest
import torch

from conftest import blocks
from convergent.analysis.cluster_agreement import adjusted_rand
from convergent.core.cluster_quality import Quality, net_of
from convergent.core.pairs import Pair
from convergent.errors import InputError
from convergent.methods.hierarchical_spectral import HierarchicalSpectralClustering
from convergent.methods.solvers import spectra
from convergent.methods.spectral import SpectralClustering


def labels_of(alignment):
    return torch.cat([alignment.labels_a, alignment.labels_b])


def nested():
    """Two clear groups, and two that look like one until the clear ones are gone; and the group of each unit."""
    x_na, x_nb, group_a, group_b = blocks(((4, 3), (5, 4), (3, 3), (3, 2)), noise=0.4)
    common = torch.randn(len(x_na), 1).double()
    x_na[:, group_a >= 2] += common
    x_nb[:, group_b >= 2] += common
    return Pair.of(x_na, x_nb), torch.cat([group_a, group_b])


def test_groups_that_are_good_at_once_are_those_of_one_round():
    x_na, x_nb, group_a, group_b = blocks()
    pair = Pair.of(x_na, x_nb)
    alignment, plain = HierarchicalSpectralClustering()(pair), SpectralClustering()(pair)
    assert torch.equal(alignment.map_ab, plain.map_ab)
    assert adjusted_rand(labels_of(alignment), torch.cat([group_a, group_b])) == 1


def test_what_is_not_good_is_cut_again():
    pair, group_u = nested()
    coarse = SpectralClustering(clusters=3, threshold=0)(pair)
    assert adjusted_rand(labels_of(coarse), group_u) < 1  # 3 clusters cannot be 4 groups
    alignment = HierarchicalSpectralClustering(clusters=3, threshold=0, good=0.7)(pair)
    assert adjusted_rand(labels_of(alignment), group_u) == 1


def test_every_cluster_of_all_but_the_last_round_is_good():
    x_na, x_nb, *_ = blocks(noise=1.5)
    pair = Pair.of(x_na, torch.cat([x_nb, torch.randn(1500, 8).double()], 1))
    for good in (-1, 0.2, 0.3):
        method = HierarchicalSpectralClustering(good=good, threshold=0)
        label_u = labels_of(method(pair))
        between_c = Quality.of(pair.total.corr_uu, net_of(pair), label_u).between_c
        assert (label_u >= 0).all()  # with a threshold of 0 all are assigned
        assert ((between_c >= good) | between_c.isnan()).double().mean() > 0.5
    assert torch.equal(
        labels_of(HierarchicalSpectralClustering(good=1, rounds=1)(pair)), labels_of(SpectralClustering()(pair))
    )
    assert torch.equal(labels_of(HierarchicalSpectralClustering(good=-1)(pair)), labels_of(SpectralClustering()(pair)))


def test_it_ends_where_nothing_is_good_and_where_there_is_nothing():
    noise = Pair.of(torch.randn(500, 20), torch.randn(500, 20))
    alignment = HierarchicalSpectralClustering(threshold=0, good=0.9)(noise)
    assert (labels_of(alignment) >= 0).all()
    assert HierarchicalSpectralClustering(threshold=1)(noise).solver["isolated"] == 40
    assert HierarchicalSpectralClustering()(Pair.of(torch.zeros(9, 2), torch.ones(9, 3))).solver["clusters"] == 0


def test_a_graph_that_is_cut_round_after_round_is_made_tridiagonal_once(monkeypatch):
    noise, made = Pair.of(torch.randn(500, 30), torch.randn(500, 30)), []
    tridiagonal = spectra.Tridiagonal
    monkeypatch.setattr(spectra, "Tridiagonal", lambda of, made=made: made.append(len(of)) or tridiagonal(of))
    method = HierarchicalSpectralClustering(threshold=0, good=0.9, bounds=(2, 4))
    labels = labels_of(method(noise))
    assert made == [60]
    assert int(labels.max()) > 8
    method(noise.flip())
    assert len(made) == 1  # the same clusters seen from the other net


def test_settings_that_cannot_be_are_refused():
    for settings, message in (
        ({"good": 2}, "good needs to be between -1 and 1, as correlations are, not 2"),
        ({"rounds": 0}, "rounds needs to be a whole number, 1 or more, not 0"),
        ({"threshold": -1}, "threshold needs to be between 0 and 1"),
    ):
        with pytest.raises(InputError, match=message):
            HierarchicalSpectralClustering(**settings)
