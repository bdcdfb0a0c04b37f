"""Mutual information finds partners that depend on one another in whatever way, in memory and from a pass."""

from dataclasses import replace

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import mutual_info_score

from conftest import planted
from convergent.analysis.information import nats
from convergent.analysis.intervals import jackknife
from convergent.analysis.nulls import rotated
from convergent.analysis.reports import mean_curves, rows_by_table
from convergent.analysis.results import compare
from convergent.core.alignment import align
from convergent.core.pairs import Pair
from convergent.core.scores import held_out
from convergent.errors import InputError
from convergent.methods.mutual_information import MutualInformation
from convergent.methods.semimatching import SemiMatching


def sklearns(x_na, x_nb, bins):
    """Mutual information of all pairs by quantile bins of numpy's and scikit-learn's."""
    levels = torch.linspace(0, 1, bins + 1)[1:-1].double()
    codes = [torch.searchsorted(x.T.quantile(levels, dim=1).T.contiguous(), x.T.contiguous()) for x in (x_na, x_nb)]
    return torch.tensor([[mutual_info_score(a.numpy(), b.numpy()) for b in codes[1]] for a in codes[0]])


@pytest.mark.parametrize("assignment", ["semimatching", "matching"])
def test_partners_are_those_of_sklearns_mutual_information(assignment):
    x_na, x_nb, _ = planted(1600, 7, 6, noise=2.0)
    nats_ab = sklearns(x_na, x_nb, 8)
    pair = Pair.of(x_na, x_nb)
    method = MutualInformation(bins=8, assignment=assignment)
    alignment = align(method, pair)
    row, column = linear_sum_assignment(nats_ab.numpy(), maximize=True)
    expected_b = nats_ab.argmax(0) if assignment == "semimatching" else torch.from_numpy(row[column.argsort()])
    assert torch.equal(alignment.partner_b, expected_b)
    assert torch.allclose(alignment.r_b, pair.corr_ab[expected_b, range(6)])
    expected = nats_ab[expected_b, range(6)]
    assert abs(nats(alignment).scalars["nats"] - expected.mean()) < 0.01
    assert alignment.solver.get("gap", 0.0) < 1e-9


def test_dependence_that_is_no_line_is_found():
    x_na = torch.randn(4000, 6).double()
    order = torch.tensor([3, 0, 5, 1, 2, 4])
    x_nb = x_na[:, order] ** 2 + 0.05 * torch.randn(4000, 6)
    pair = Pair.of(x_na, x_nb)
    assert torch.equal(MutualInformation()(pair).partner_b, order)
    assert not torch.equal(SemiMatching()(pair).partner_b, order)
    assert torch.equal(MutualInformation(assignment="matching")(pair.flip()).partner_b, order.argsort())


def test_the_report_says_where_the_correlation_gives_another_partner():
    x_na = torch.randn(4000, 9).double()
    x_nb = x_na + 0.3 * torch.randn(4000, 9)
    x_nb[:, 8] = x_na[:, 8] ** 2
    pair = Pair.of(x_na, x_nb)
    method = MutualInformation()
    report = nats(align(method, pair))
    rows = report.tables["partners"]
    assert [row["nats"] for row in rows] == sorted((row["nats"] for row in rows), reverse=True)
    assert {row["unit"] for row in rows if not row["same"]} == {8}
    unlike = next(row for row in rows if row["unit"] == 8)
    assert unlike["partner"] == 8
    assert unlike["nats"] > unlike["nats_by_r"]
    assert unlike["r"] < unlike["best_r"]
    assert report.scalars["same_partner"] == pytest.approx(8 / 9)
    assert report.scalars["same_partner_of_best_8"] in (7 / 8, 1.0)
    assert len(rows_by_table([report, replace(report, null="shuffled")])["partners"]) == 9
    assert mean_curves([report, replace(report, null="shuffled")])["rank"][""]["nats"] == [row["nats"] for row in rows]


def test_the_correction_leaves_independent_units_nothing_on_average():
    pair = Pair.of(torch.randn(1000, 40), torch.randn(1000, 40))
    plain, corrected = (MutualInformation(correct=c, assignment="matching") for c in (False, True))
    taken = [nats(align(method, pair)).scalars["nats"] for method in (plain, corrected)]
    assert taken[0] - taken[1] == pytest.approx(9 * 9 / 2000)


def test_units_that_stay_in_one_bin_have_no_partner():
    x_na, x_nb, order = planted(400, 6, 6)
    x_nb[:, 2] = 0.0
    x_nb[7, 2] = 1.0  # active, but above the calibration's only value in a single sample
    pair = Pair.of(x_na, x_nb)
    part = next(fit for fit, _ in pair.folds(5) if (fit.joint.x_nb[:, 2] == 0).all())
    partner_b = MutualInformation()(part).partner_b
    assert partner_b[2] == -1
    assert torch.equal(partner_b[[0, 1, 3, 4, 5]], order[[0, 1, 3, 4, 5]])


def test_held_out_fits_see_the_histograms_of_their_folds_alone():
    x_na, x_nb, _ = planted(600, 5, 5, noise=1.0)
    pair = Pair.of(x_na, x_nb, blocks=10)
    method, seen = MutualInformation(), []
    held_out(lambda fit: seen.append(fit) or method(fit), pair, folds=5)
    assert [fit.joint.histograms(10).count for fit in seen] == [fit.count for fit in seen] == [480] * 5
    whole = pair.joint.histograms(10)
    for fit, rest in pair.folds(5):
        both = fit.joint.histograms(10) + rest.joint.histograms(10)
        assert torch.equal(both.pair("a", "b"), whole.pair("a", "b"))


def test_nulls_without_histograms_are_told_apart_and_intervals_keep_the_partners():
    x_na, x_nb, order = planted(600, 6, 6, noise=1.0)
    pair, permuted = Pair.of(x_na, x_nb), Pair.of(x_na, x_nb.roll(1, 0))
    alignment, result = compare(
        MutualInformation(), pair, 600, {"rotated": [rotated(pair)], "shuffled": [permuted]}, interval=True
    )
    summary = result.summary()
    assert "mean_r_rotated" not in summary
    assert summary["mean_best_r_rotated"] > 0
    assert abs(summary["mean_r_shuffled"]) < 0.2
    assert summary["r2_held_out_shuffled"] < 0.05
    assert torch.equal(alignment.partner_b, order)
    expected = jackknife(lambda part: part.corr_ab[order, range(6)].mean(), pair)
    assert (summary["mean_r_low"], summary["mean_r_high"]) == (float(expected.low), float(expected.high))


def test_what_it_cannot_work_with_is_reported():
    pair = Pair.of(torch.randn(50, 3), torch.randn(50, 3))
    for without in (rotated(pair), pair.weighted(torch.ones(20))):
        with pytest.raises(InputError, match=r"needs the joint histograms.*HistogramsCallback"):
            MutualInformation()(without)
    for wrong, sentence in (
        ({"bins": 1}, "bins needs to be a whole number, 2 or more, not 1"),
        ({"samples": 0.5}, "samples needs to be a whole number, 1 or more, not 0.5"),
        ({"assignment": "greedy"}, "assignment needs to be matching or semimatching, not 'greedy'"),
        ({"correct": "yes"}, "correct needs to be true or false, not 'yes'"),
    ):
        with pytest.raises(InputError, match=sentence):
            MutualInformation(**wrong)
