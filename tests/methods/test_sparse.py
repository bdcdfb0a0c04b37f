import logging

import pytest
import torch
from PIL import Image

from conftest import planted
from convergent.analysis.balanced import tree
from convergent.analysis.by_layer import by_layer
from convergent.analysis.codes import FewToOne, codes, three_units
from convergent.analysis.path import path
from convergent.analysis.results import compare
from convergent.core.alignment import Alignment, align
from convergent.core.pairs import Pair
from convergent.core.scores import held_out
from convergent.errors import InputError
from convergent.figures.few_to_one import few_to_one
from convergent.figures.grid import save
from convergent.figures.tree import mapping_figure, tree_figure
from convergent.methods.least_squares import LeastSquares
from convergent.methods.sparse import SparsePrediction, announce, asked


def few(n=1500, noise=0.3):
    """Ten units of a; of b's, unit 0 copies one, 1 to 3 are sums of three, 4 of all ten."""
    x_na = torch.randn(n, 10).double()
    sums = [x_na[:, 0], *(x_na[:, 2 * b : 2 * b + 3].sum(1) for b in (1, 2, 3)), x_na.sum(1)]
    x_nb = torch.stack(sums, 1)
    return x_na, x_nb + noise * torch.randn(n, 5)


def test_a_planted_sparse_map_is_found_with_its_signs():
    x_na = torch.randn(800, 12).double()
    x_nb = x_na[:, [1, 4, 7]] @ torch.tensor([[1.0, -1], [1, 1], [-1, 0]]).double() + 0.1 * torch.randn(800, 2)
    alignment = SparsePrediction(alpha=0.1)(Pair.of(x_na, x_nb))
    assert alignment.map_ab[:, 0].nonzero()[:, 0].tolist() == [1, 4, 7]
    assert alignment.map_ab[:, 0].sign()[[1, 4, 7]].tolist() == [1, 1, -1]
    assert alignment.map_ab[:, 1].nonzero()[:, 0].tolist() == [1, 4]
    assert alignment.solver["gap"] < 1e-9


def test_penalties_by_default_in_the_papers_units_and_none():
    pair = Pair.of(*few())
    assert SparsePrediction()(pair).solver["alpha"] == 0.1
    by_lambda = SparsePrediction(paper_lambda=0.01)(pair)
    assert torch.equal(by_lambda.map_ab, SparsePrediction(alpha=0.05)(pair).map_ab)  # 5 units of b
    without = SparsePrediction(alpha=0)(pair)
    assert torch.allclose(without.map_ab, LeastSquares(ridge=0)(pair).map_ab)
    assert "gap" not in without.solver
    constant_na, constant_nb = few()
    constant_nb[:, 2] = 0
    assert SparsePrediction(paper_lambda=0.01)(Pair.of(constant_na, constant_nb)).solver["alpha"] == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"alpha": -0.1}, "alpha needs to be 0 or more, or null, not -0.1"),
        ({"paper_lambda": -1}, "paper_lambda needs to be 0 or more, or null, not -1"),
        ({"alpha": 0.1, "paper_lambda": 0.1}, "Set alpha .* or paper_lambda .* not both"),
        ({"targets": 0}, "targets needs to be a whole number, 1 or more, or null, not 0"),
    ],
)
def test_mistakes_are_one_sentence(options, text):
    with pytest.raises(InputError, match=text):
        SparsePrediction(**options)(Pair.of(*few()))


def test_positive_weights_only():
    x_na = torch.randn(300, 3).double()
    pair = Pair.of(x_na, torch.stack([x_na[:, 0] - x_na[:, 1], -x_na[:, 2]], 1))
    map_ab = SparsePrediction(alpha=0.2, positive=True)(pair).map_ab
    assert (map_ab >= 0).all()
    assert (map_ab != 0).sum(0).tolist() == [1, 0]
    assert (SparsePrediction(alpha=0, positive=True)(pair).map_ab >= 0).all()


def test_a_sample_of_units_is_seeded_and_the_others_count_nowhere():
    pair = Pair.of(*planted(400, 8, 12, noise=0.5)[:2])
    method = SparsePrediction(alpha=0.05, targets=5)
    alignment, result = compare(method, pair, 400, interval=True)
    whole = SparsePrediction(alpha=0.05)(pair)
    assert alignment.asked_b.sum() == 5
    assert torch.equal(alignment.map_ab, whole.map_ab * alignment.asked_b)
    assert (asked(12, 5, 1) != asked(12, 5, 0)).any()
    assert (asked(12, 7, 0) & asked(12, 5, 0)).sum() == 5  # a larger sample holds the smaller one
    summary = result.summary()
    assert summary["constant_b"] == summary["unmatched_b"] == 0
    assert summary["predictors"] == pytest.approx(alignment.predictors_b[alignment.asked_b].double().mean().item())
    assert summary["r2_held_out"] > 0.5
    scalars = codes(alignment).scalars
    assert 2 * scalars["loss_held_out"] == pytest.approx(1 - summary["r2_held_out"])


def test_losses_are_in_the_papers_units_beside_both_baselines():
    pair = Pair.of(*few())
    method = SparsePrediction(alpha=0.1)
    scalars = codes(align(method, pair)).scalars
    assert scalars["loss_held_out"] == pytest.approx((1 - held_out(method, pair)).mean().item() / 2)
    assert scalars["loss_least_squares"] == pytest.approx((1 - held_out(LeastSquares(), pair)).mean().item() / 2)
    assert scalars["loss_least_squares"] < scalars["loss_held_out"] < scalars["loss_one_unit"] < 0.5
    nothing = SparsePrediction(alpha=0.99)
    assert codes(align(nothing, pair)).scalars["loss_held_out"] == 0.5


def test_the_codes_are_those_that_were_planted():
    codes = FewToOne.of(Pair.of(*few()), torch.ones(5, dtype=torch.bool)).codes()
    assert codes.pop("undecided") == 0
    assert codes == {"local": 0.2, "slightly_distributed": 0.6, "distributed": 0.2, "unpredicted": 0.0}


def test_shares_of_codes_have_an_interval_over_nets():
    summaries = [
        {"layer": "conv1", "a": a, "b": b, "images": 9, "mean_r": 0.5, "local": 0.1 * (ord(a) + ord(b) - 194)}
        for a in "abc"
        for b in "abc"
        if a != b
    ]
    layer = by_layer(summaries)["conv1"]
    assert layer["local_nets_low"] < layer["local"] < layer["local_nets_high"]


def test_units_with_three_predictors_are_listed():
    map_ab = torch.zeros(5, 3).double()
    map_ab[[0, 2, 4], 1] = torch.tensor([0.2, -0.5, 0.1]).double()
    map_ab[0, 0] = 1
    alignment = Alignment(Pair.of(torch.randn(50, 5), torch.randn(50, 3)), map_ab)
    (row,) = three_units(alignment)
    assert row == {
        "unit": 1, "r2_in_sample": round(float(alignment.score_b[1]), 6), "unit_1": 2,
        "weight_1": -0.5, "unit_2": 0, "weight_2": 0.2, "unit_3": 4,
        "weight_3": 0.1,
    }  # fmt: skip


def test_more_units_than_samples_are_warned_of_and_costs_announced(caplog):
    pair = Pair.of(torch.randn(20, 30), torch.randn(20, 3))
    with caplog.at_level(logging.WARNING):
        alignment = SparsePrediction(alpha=0.2)(pair)
        announce(2048, 2048, 1)
        announce(64, 64, 8)
    assert alignment.solver["gap"] < 1e-9
    assert "20 samples for 30 units" in caplog.text
    assert caplog.text.count("minutes of one core") == 1
    assert "targets=100" in caplog.text


def test_its_figures_draw(tmp_path):
    x_na, x_nb = few()
    x_na[:, 3], x_nb[:, 4] = 1, 0
    pair = Pair.of(x_na, x_nb)
    for method in (SparsePrediction(alpha=0.1), SparsePrediction(alpha=0.9)):  # and with no weight at all
        alignment = align(method, pair)
        reports = [codes(alignment), tree(alignment), path(alignment)]
        figures = [draw(alignment, reports) for draw in (tree_figure, mapping_figure)]
        for number, figure in enumerate([*figures, few_to_one(reports)]):
            with Image.open(save(figure, tmp_path, str(number))) as picture:
                assert len(picture.convert("L").getcolors()) > 20


def test_a_layer_whose_units_are_all_constant_is_reported_like_any_other():
    pair = Pair.of(torch.ones(40, 3), torch.ones(40, 2))
    alignment = align(SparsePrediction(), pair)
    assert not alignment.map_ab.any()
    assert codes(alignment).scalars["loss_fitted"] == 0.5
