"""The yardstick against brute force on the samples themselves."""

from dataclasses import replace

import pytest
import torch
from sklearn.metrics import r2_score

from conftest import planted
from convergent.analysis.balanced import tree
from convergent.analysis.codes import codes
from convergent.analysis.nulls import rotated
from convergent.analysis.path import path
from convergent.analysis.results import compare
from convergent.core.alignment import Alignment, align
from convergent.core.blocks import block_of_image
from convergent.core.pairs import Pair
from convergent.core.prediction import errors, explained
from convergent.core.scores import held_out
from convergent.figures.few_to_one import few_to_one, path_figure
from convergent.methods.least_squares import LeastSquares
from convergent.methods.matching import Matching
from convergent.methods.semimatching import SemiMatching
from convergent.methods.sparse import SparsePrediction
from convergent.methods.sparse_path import SparsePath


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
    zeros = lambda pair: Alignment(pair, torch.zeros(pair.p, pair.q).double())  # noqa: E731
    assert held_out(zeros, Pair.of(x_na, x_nb)).abs().max() == 0


def one_image_of(x_n6, image=17):
    """The same activations but for unit 0, which fires in one image only."""
    x_n6 = x_n6.clone()
    x_n6[:, 0] = 0
    x_n6[image, 0] = 1
    return x_n6


def test_of_a_unit_that_fires_in_one_image_nothing_can_be_known():
    x_na, x_nb = torch.randn(2, 200, 6).double()
    both, only_b = Pair.of(one_image_of(x_na), one_image_of(x_nb)), Pair.of(x_na, one_image_of(x_nb))
    for method in (Matching(), SemiMatching(), LeastSquares(1e-3)):
        for pair in (both, only_b):
            assert (
                -0.02 < held_out(method, pair)[0] < 0.02
            )  # 1.0 and -2.06 where the fold with its image does not count


def test_the_fold_in_which_a_silent_unit_fires_counts_in_its_own_units():
    x_na, x_nb, _ = planted(120, 6, 6, noise=1.0)
    block_n = block_of_image(120, 20)
    x_nb[block_n % 5 != 2, 3] = 4.0  # varies in the third of five folds only
    held = x_nb[block_n % 5 == 2, 3]
    fit, rest = list(Pair.of(x_na, x_nb).folds(5))[2]
    error_b, sst_b = errors(Matching()(fit).map_ab, fit, rest)
    assert torch.allclose(error_b[3], (held - 4).square().sum())
    assert torch.equal(error_b[3], sst_b[3])


def test_the_tables_figure_is_the_public_functions_mean_over_active_units():
    x_na, x_nb, _ = planted(60, 8, 8, noise=3.0)
    x_nb[:, 2] = 0
    pair = Pair.of(x_na, one_image_of(x_nb))
    score_b = held_out(SemiMatching(), pair)
    summary = compare(SemiMatching(), pair, images=60)[1].summary()
    assert summary["r2_held_out"] == score_b[pair.active_b].mean().item()
    assert summary["r2_held_out_median"] == score_b[pair.active_b].median().item()


@pytest.mark.parametrize("method", [SparsePrediction(alpha=0.1), SparsePath(alphas=[0.3, 0.1])])
def test_every_held_out_number_of_a_row_is_of_as_many_folds_as_the_pair_says(method):
    x_na, x_nb, _ = planted(120, 8, 8, noise=1.5)
    three = replace(Pair.of(x_na, x_nb), held_out_folds=3)
    alignment, result = compare(method, three, 120, {"shuffled": [replace(three)]})
    scalars = result.summary() | codes(alignment).scalars
    for name, other in (("loss_least_squares", LeastSquares()), ("loss_held_out", method)):
        assert scalars[name] == pytest.approx((1 - held_out(other, three, 3)).mean().item() / 2)
        assert scalars[name] != pytest.approx((1 - held_out(other, three, 5)).mean().item() / 2)
    assert scalars["r2_held_out"] == pytest.approx(1 - 2 * scalars["loss_held_out"])
    assert scalars["r2_held_out_shuffled"] == pytest.approx(scalars["r2_held_out"])


def held_out_names(names):
    return [name for name in names if "held_out" in name or name in ("optimism", "loss_one_unit", "loss_least_squares")]


@pytest.mark.parametrize("method", [Matching(), LeastSquares(), SparsePrediction(alpha=0.1), SparsePath(alphas=[0.3])])
def test_without_folds_there_is_no_held_out_number_and_no_column_for_one(method):
    x_na, x_nb, _ = planted(120, 8, 8, noise=1.5)
    pair = replace(Pair.of(x_na, x_nb), held_out_folds=0)
    alignment, result = compare(method, pair, 120, {"rotated": [rotated(pair)]})
    assert held_out_names([*result.summary(), *result.rows()[0]]) == []
    assert result.summary()["r2_in_sample"] > 0.2
    reports = [report for analysis in (codes, tree, path) if (report := analysis(alignment))]
    assert len(reports) == (3 if "alpha" in alignment.solver else 0)
    for report in reports:
        assert held_out_names(report.scalars) == []
        assert held_out_names(name for table in report.tables.values() for row in table for name in row) == []
        assert "loss" not in report.curves.get("log10_alpha", {})
    assert few_to_one(reports) is path_figure(reports) is None


def test_choosing_the_best_of_many_looks_good_only_in_sample():
    pair = Pair.of(torch.randn(100, 200), torch.randn(100, 50), blocks=20)
    alignment = SemiMatching()(pair)
    assert alignment.score_b.mean() > 0.05
    assert held_out(SemiMatching(), pair).mean() < 0


def test_units_constant_in_one_fold_or_everywhere_leave_no_nan():
    x_na, x_nb, _ = planted(100)
    x_nb[:, 1] = 0.0
    x_nb[1:, 2] = 0.0  # active in one image only
    pair = Pair.of(x_na, x_nb, blocks=10)
    scores = held_out(Matching(), pair, folds=10)
    assert torch.isfinite(scores).all()
    assert scores[1] == 0


def test_predictions_of_the_folds_are_what_the_score_is_made_of():
    x_na, x_nb, _ = planted(120, 6, 6, noise=2.0)
    x_nb[:, 5] = 1.0  # never varies, so nothing predicts it
    pair, fold_n = replace(Pair.of(x_na, x_nb, blocks=6), held_out_folds=3), block_of_image(120, 6) % 3
    alignment = align(LeastSquares(0.1), pair)
    error_b, sst_b = torch.zeros(6).double(), torch.zeros(6).double()
    for fold, prediction in enumerate(alignment.predictions):
        held = fold_n == fold
        y_nb = (x_na - prediction.mean_a) @ prediction.weight_ab + prediction.mean_b
        error_b += (x_nb - y_nb)[held].square().sum(0)
        sst_b += (x_nb - prediction.mean_b)[held].square().sum(0)
        restored_nb = (y_nb - prediction.mean_b) * prediction.gain_b
        assert torch.allclose(restored_nb[~held].std(0, correction=0)[:5], x_nb[~held].std(0, correction=0)[:5])
        assert prediction.gain_b[5] == 1
    assert torch.allclose(alignment.held_out_b[:5], (1 - error_b / sst_b)[:5])
