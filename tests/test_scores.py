"""The yardstick against brute force on the samples themselves."""

import torch
from sklearn.metrics import r2_score

from conftest import planted
from convergent.alignment import Alignment
from convergent.methods.matching import Matching
from convergent.methods.semimatching import SemiMatching
from convergent.pairs import Pair, block_of_image
from convergent.prediction import errors, explained
from convergent.scores import held_out


def test_in_sample_is_r2_of_the_predictions():
    x_na, x_nb, _ = planted(200, 5, 4, noise=1.0)
    pair = Pair.of(x_na, x_nb)
    map_ab = torch.randn(5, 4).double()
    z_na, z_nb = ((x - x.mean(0)) / x.std(0, correction=0) for x in (x_na, x_nb))
    expected = r2_score(z_nb, z_na @ map_ab, multioutput="raw_values")
    assert torch.allclose(explained(map_ab, pair, pair), torch.from_numpy(expected))


def test_held_out_uses_the_fits_own_means_and_scales():
    x_na, x_nb, _ = planted(120, 6, 6, noise=2.0)
    pair, block_n = Pair.of(x_na, x_nb, blocks=6), block_of_image(120, 6)
    error_b, sst_b = torch.zeros(6).double(), torch.zeros(6).double()
    for fold in range(3):
        held = block_n % 3 == fold
        fit = Pair.of(x_na[~held], x_nb[~held])
        mean_a, sd_a = x_na[~held].mean(0), x_na[~held].std(0, correction=0)
        mean_b, sd_b = x_nb[~held].mean(0), x_nb[~held].std(0, correction=0)
        z_na, z_nb = (x_na[held] - mean_a) / sd_a, (x_nb[held] - mean_b) / sd_b
        error_b += ((z_nb - z_na @ Matching()(fit).map_ab) * sd_b).square().sum(0)
        sst_b += (z_nb * sd_b).square().sum(0)
    assert torch.allclose(held_out(Matching(), pair, folds=3), 1 - error_b / sst_b)


def test_a_map_of_zeros_explains_nothing_on_any_images():
    x_na, x_nb, _ = planted(100)
    fit, rest = next(Pair.of(x_na, x_nb).folds(4))
    error_b, mean_b = errors(torch.zeros(6, 6).double(), fit, rest)
    assert torch.equal(error_b, mean_b)
    zeros = lambda pair: Alignment.of(pair, torch.zeros(pair.p, pair.q).double())  # noqa: E731
    assert held_out(zeros, Pair.of(x_na, x_nb)).abs().max() == 0


def test_choosing_the_best_of_many_looks_good_only_in_sample():
    pair = Pair.of(torch.randn(100, 200), torch.randn(100, 50), blocks=20)
    alignment = SemiMatching()(pair)
    assert alignment.score_b.mean() > 0.05
    assert held_out(SemiMatching(), pair).mean() < 0


def test_units_dead_in_one_fold_or_everywhere_leave_no_nan():
    x_na, x_nb, _ = planted(100)
    x_nb[:, 1] = 0.0
    x_nb[1:, 2] = 0.0  # alive in one image only
    pair = Pair.of(x_na, x_nb, blocks=10)
    scores = held_out(Matching(), pair, folds=10)
    assert torch.isfinite(scores).all()
    assert scores[1] == 0
