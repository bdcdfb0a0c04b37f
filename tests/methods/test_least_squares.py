import pytest
import torch
from sklearn.linear_model import Ridge

from convergent.core.alignment import align
from convergent.core.pairs import Pair
from convergent.core.regression import RIDGES, best_ridge, ridge_map
from convergent.core.scores import held_out, held_out_of_maps
from convergent.errors import InputError
from convergent.methods.least_squares import LeastSquares
from convergent.methods.matching import Matching
from convergent.methods.semimatching import SemiMatching


def test_a_planted_linear_map_is_recovered_whole():
    x_na, map_ab = torch.randn(300, 6).double(), torch.randn(6, 4).double()
    pair = Pair.of(x_na, x_na @ map_ab + 3)
    alignment = LeastSquares(ridge=0)(pair)
    assert torch.allclose(alignment.score_b, torch.ones(4).double())
    assert torch.allclose(alignment.map_ab, map_ab * x_na.std(0)[:, None] / (x_na @ map_ab).std(0))


def test_it_is_scikit_learns_ridge_on_raw_samples():
    x_na, x_nb = torch.randn(200, 5).double(), torch.randn(200, 3).double()
    x_nb += x_na[:, :3]
    z_na, z_nb = ((x - x.mean(0)) / x.std(0, correction=0) for x in (x_na, x_nb))
    expected = Ridge(alpha=200 * 0.1, fit_intercept=False).fit(z_na.numpy(), z_nb.numpy()).coef_.T
    assert torch.allclose(LeastSquares(ridge=0.1)(Pair.of(x_na, x_nb)).map_ab, torch.from_numpy(expected))


def test_unrelated_nets_score_p_over_n_where_fitted_and_nothing_held_out():
    pair = Pair.of(torch.randn(401, 40), torch.randn(401, 200))
    assert LeastSquares(ridge=0)(pair).score_b.mean().item() == pytest.approx(40 / 400, rel=0.05)
    assert held_out(LeastSquares(ridge=0), pair).mean() < 0


@pytest.mark.parametrize("samples", [60, 4000])
def test_the_ridge_is_the_one_whose_map_explains_most_on_held_out_images(samples):
    x_na = torch.randn(samples, 12).double() @ torch.randn(12, 12).double()
    x_na[:, 3], x_na[5:, 4] = 0.0, 0.0  # constant, and active in one image only
    pair = Pair.of(x_na, torch.cat([x_na[:, :3] + 3 * torch.randn(samples, 3), torch.ones(samples, 1)], 1))
    for of in (pair, next(iter(pair.folds()))[0]):
        shares = held_out_of_maps(lambda fit: [ridge_map(fit, ridge) for ridge in RIDGES], of, 5)[:, :3].mean(1)
        assert best_ridge(of) == RIDGES[int(shares.argmax())]
        assert shares.max() > shares.min()


def test_units_that_depend_on_one_another_share_the_weight():
    x_na = torch.randn(300, 3).double()
    doubled = torch.cat([x_na, x_na], 1)
    alignment = LeastSquares(ridge=0)(Pair.of(doubled, x_na))
    assert torch.allclose(alignment.score_b, torch.ones(3).double())
    assert torch.allclose(alignment.map_ab[:3], alignment.map_ab[3:], atol=1e-8)


def test_a_negative_ridge_is_reported():
    with pytest.raises(InputError, match="ridge needs to be 0 or more, or null, not -1"):
        LeastSquares(ridge=-1)(Pair.of(torch.randn(9, 2), torch.randn(9, 2)))


def test_the_ridge_is_chosen_by_images_that_it_was_not_fitted_to():
    x_na, weight = torch.randn(4000, 60).double(), torch.randn(60, 30).double() / 60**0.5
    x_nb = x_na @ weight + torch.randn(4000, 30).double()
    few, many = Pair.of(x_na[:80], x_nb[:80]), Pair.of(x_na, x_nb)
    assert LeastSquares()(few).solver["ridge"] >= 0.3
    assert LeastSquares()(many).solver["ridge"] <= 0.01
    small, best = (held_out(LeastSquares(ridge), few).mean() for ridge in (1e-3, None))
    assert small < 0 < best
    choices = [held_out(LeastSquares(ridge), few).mean() for ridge in (0.1, 0.3, 1.0)]
    assert best > min(choices)
    assert best <= max(choices) + 1e-12  # folds choose for themselves, none sees what it is judged by
    chosen = align(LeastSquares(), few).refit(choices=True)
    assert chosen == LeastSquares(LeastSquares()(few).solver["ridge"])
    assert torch.equal(chosen(few).map_ab, LeastSquares()(few).map_ab)


@pytest.mark.parametrize("dimensions", [0, 4, 32])
@pytest.mark.parametrize("noise", [0.5, 1.5])
def test_of_few_samples_it_predicts_no_worse_than_the_mean_or_one_unit_whose_space_alone_is_shared(dimensions, noise):
    scores = {LeastSquares(): [], Matching(): [], SemiMatching(): []}
    for _ in range(2):
        latent_nc = torch.randn(60, dimensions).double()
        mixed = (latent_nc @ torch.randn(dimensions, 48).double() / max(dimensions, 1) ** 0.5 for _ in "ab")
        x_na, x_nb = ((x + noise * torch.randn(60, 48)).clamp(min=0) for x in mixed)
        for method, means in scores.items():
            means.append(held_out(method, Pair.of(x_na, x_nb)).mean())
    all_units, *few = (torch.stack(means).mean() for means in scores.values())
    assert all_units > -0.01
    assert all_units > max(few)


def test_it_is_no_upper_bound_where_units_correspond_and_samples_are_few():
    x_n = torch.randn(2000, 48).double()
    x_na, x_nb = (x_n + 0.5 * torch.randn(2000, 48) for _ in "ab")
    few, many = Pair.of(x_na[:60], x_nb[:60]), Pair.of(x_na, x_nb)
    assert held_out(Matching(), few).mean() > held_out(LeastSquares(), few).mean() > 0
    assert held_out(LeastSquares(), many).mean() > held_out(Matching(), many).mean() - 0.02  # p / n of what is left


def test_without_blocks_to_choose_by_the_smallest_ridge_is_taken():
    pair = Pair.of(torch.randn(50, 4), torch.randn(50, 3), blocks=1)
    assert LeastSquares()(pair).solver["ridge"] == 1e-3
