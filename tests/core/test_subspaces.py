import pytest
import torch
from sklearn.cross_decomposition import CCA

from convergent.core.pairs import Pair
from convergent.core.subspaces import canonical_correlations, mean_canonical_correlation, random_groups
from convergent.errors import InputError


def all_units(pair):
    return canonical_correlations(pair, torch.arange(pair.p), torch.arange(pair.q))


def test_they_are_scikit_learns():
    x_na = torch.randn(500, 4).double()
    x_nb = x_na @ torch.randn(4, 3).double() + 2 * torch.randn(500, 3).double()
    scores = CCA(3, scale=False, tol=1e-12, max_iter=10_000).fit_transform(x_na.numpy(), x_nb.numpy())
    scores_a, scores_b = (torch.from_numpy(score) for score in scores)
    expected = torch.stack([torch.corrcoef(torch.stack([scores_a[:, c], scores_b[:, c]]))[0, 1] for c in range(3)])
    assert torch.allclose(all_units(Pair.of(x_na, x_nb)), expected, atol=1e-6)


def test_invertible_maps_of_either_group_change_nothing():
    x_na, x_nb = torch.randn(300, 5).double(), torch.randn(300, 3).double()
    x_nb += x_na[:, :3]
    mapped = Pair.of(x_na @ torch.randn(5, 5).double(), x_nb @ torch.randn(3, 3).double())
    assert torch.allclose(all_units(mapped), all_units(Pair.of(x_na, x_nb)))


def test_shared_dimensions_give_ones():
    latent = torch.randn(2000, 2).double()
    x_na = torch.cat([latent, torch.randn(2000, 3).double()], 1) @ torch.randn(5, 5).double()
    x_nb = torch.cat([latent, torch.randn(2000, 2).double()], 1) @ torch.randn(4, 4).double()
    correlations = all_units(Pair.of(x_na, x_nb))
    assert torch.allclose(correlations[:2], torch.ones(2).double())
    assert correlations[2:].max() < 0.2


def test_unrelated_groups_have_squares_that_sum_to_pq_over_n():
    pairs = (Pair.of(torch.randn(401, 20), torch.randn(401, 10)) for _ in range(20))
    sums = torch.stack([all_units(pair).square().sum() for pair in pairs])
    assert sums.mean().item() == pytest.approx(20 * 10 / 400, rel=0.1)


def test_too_few_samples_are_reported_and_constant_units_left_out():
    x = torch.randn(8, 5)
    with pytest.raises(InputError, match="5 with 5 dimensions need more samples than 8"):
        all_units(Pair.of(x, torch.randn(8, 5)))
    x_na, x_nb = torch.randn(100, 3), torch.randn(100, 2)
    x_na[:, 1] = 7
    assert len(canonical_correlations(Pair.of(x_na, x_nb), torch.tensor([1]), torch.arange(2))) == 0
    assert len(all_units(Pair.of(x_na, x_nb))) == 2


def test_the_mean_of_many_groups_at_once_is_that_of_each():
    x_na, x_nb = torch.randn(2, 200, 9).double()
    x_nb[:, :5] += x_na[:, :5]
    x_na[:, 3] = x_na[:, 2]  # a copy: groups with both span one dimension less
    x_nb[:, 7] = 1
    pair = Pair.of(x_na, x_nb)
    groups_a, groups_b = torch.rand(2, 40, 9).argsort(2)[:, :, :4]
    expected = [canonical_correlations(pair, *group).mean() for group in zip(groups_a, groups_b)]
    assert torch.allclose(mean_canonical_correlation(pair, groups_a, groups_b), torch.stack(expected))
    assert mean_canonical_correlation(pair, groups_a[:1], torch.tensor([[7]])) == 0
    with pytest.raises(InputError, match="need more samples than 8"):
        mean_canonical_correlation(Pair.of(x_na[:8], x_nb[:8]), groups_a, groups_b)


def test_random_groups_are_of_distinct_active_units():
    active = torch.tensor([True, False, True, True])
    groups = random_groups(active, 3, 50, torch.Generator().manual_seed(0))
    assert (groups.sort(1).values == torch.tensor([0, 2, 3])).all()
    with pytest.raises(InputError, match="A group of 4 units"):
        random_groups(active, 4, 1, torch.Generator())
