import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from conftest import blocks
from convergent.analysis.cluster_agreement import adjusted_rand, mean_agreement, mean_similarity, share_above
from convergent.core.cluster_quality import Quality, net_of
from convergent.core.pairs import Pair


def test_similarities_are_means_over_the_pairs_of_units():
    x_na, x_nb, group_a, group_b = blocks()
    x_nc = torch.randn(len(x_na), 5).double()
    x_nu, net_u = torch.cat([x_na, x_nb, x_nc], 1), torch.tensor([0] * 15 + [1] * 13 + [2] * 5)
    label_u = torch.cat([group_a, group_b, torch.tensor([0, 1, 1, 4, -1])])
    corr_uu = torch.corrcoef(x_nu.T)
    quality = Quality.of(corr_uu, net_u, label_u)
    for c in range(5):
        u = [[v for v in range(33) if label_u[v] == c and net_u[v] == i] for i in range(3)]
        assert quality.units_ci[c].tolist() == [len(of_net) for of_net in u]
        between = [corr_uu[x, y] for i in range(3) for j in range(i) for x in u[i] for y in u[j]]
        within = [torch.stack([corr_uu[x, y] for x in v for y in v if x != y]).mean() for v in u if len(v) > 1]
        for value, expected in ((quality.between_c[c], between), (quality.within_c[c], within)):
            assert value.isnan() if not expected else value.item() == pytest.approx(torch.stack(expected).mean().item())


def test_a_flipped_pair_has_the_same_clusters_of_the_other_nets():
    x_na, x_nb, *_ = blocks()
    pair = Pair.of(x_na, x_nb)
    assert net_of(pair).tolist() == [0] * 15 + [1] * 13
    assert net_of(pair.flip()).tolist() == [1] * 15 + [0] * 13


def test_the_area_under_the_shares_is_the_mean_similarity():
    similarity_c, units_c = torch.tensor([0.9, 0.5, -0.2, torch.nan]).double(), torch.tensor([3, 4, 2, 5])
    above_x = torch.linspace(0, 1, 10_001).double()
    share_x = share_above(similarity_c, units_c, 20, above_x)
    assert share_x[[0, 6000, -1]].tolist() == [7 / 20, 3 / 20, 0]
    area = mean_similarity(similarity_c, units_c, 20)
    assert torch.trapezoid(share_x, above_x).item() == pytest.approx(area, abs=1e-4)
    assert area == pytest.approx((0.9 * 3 + 0.5 * 4) / 20)


def test_agreement_is_scikit_learns_over_the_units_that_both_cluster():
    for seed in range(20):
        draw = torch.Generator().manual_seed(seed)
        one, other = (torch.randint(-1, 4, (30,), generator=draw) for _ in range(2))
        both = (one >= 0) & (other >= 0)
        assert adjusted_rand(one, other) == pytest.approx(adjusted_rand_score(one[both], other[both]))
    nothing = torch.full((4,), -1)
    assert adjusted_rand(nothing, nothing) == adjusted_rand(torch.zeros(5).long(), torch.zeros(5).long()) == 1
    assert adjusted_rand(torch.arange(5), torch.zeros(5).long()) == 0
    assert mean_agreement([one]) == mean_agreement([one, one, one]) == 1
