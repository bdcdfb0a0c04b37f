"""Mutual information against scikit-learn's, and its laws."""

import math

import pytest
import torch
from sklearn.metrics import mutual_info_score

from convergent.core import mutual_information as module
from convergent.core.histogram_counter import HistogramCounter
from convergent.core.histogram_edges import edges_of
from convergent.core.mutual_information import entropy, mutual_information
from convergent.errors import InputError


def histograms_of(x_as, x_bs, bins=10):
    """Joint histograms of two nets' samples (units, s), calibrated on all of them."""
    x_us = torch.cat([x_as, x_bs])
    counter = HistogramCounter({"a": len(x_as), "b": len(x_bs)}, edges_of(x_us, bins))
    counter.add(x_us)
    return counter.histograms()


def information(x_as, x_bs, bins=10, correct=False):
    return mutual_information(histograms_of(x_as, x_bs, bins).pair("a", "b"), correct)


def common(p, q, n=4000):
    """Samples of p and q units with a common cause, every other one rectified."""
    x_us = torch.randn(p + q, n) + torch.randn(1, n)
    x_us[::2] = x_us[::2].clamp(min=0)
    return x_us[:p], x_us[p:]


@pytest.mark.parametrize("bins", [2, 8, 10])
def test_it_is_sklearns(bins):
    x_as, x_bs = common(4, 5)
    x_bs[3] = x_bs[3].round()
    found_ab = information(x_as, x_bs, bins)
    codes = [torch.searchsorted(edges_of(x_us, bins), x_us).numpy() for x_us in (x_as, x_bs)]
    for a, code_a in enumerate(codes[0]):
        for b, code_b in enumerate(codes[1]):
            assert abs(found_ab[a, b].item() - mutual_info_score(code_a, code_b)) < 1e-12


def test_independent_units_have_the_known_bias_and_none_after_correction():
    n, bins = 2000, 8
    x_as, x_bs = torch.randn(60, n), torch.randn(60, n)
    expected = (bins - 1) ** 2 / (2 * n)
    counts_abij = histograms_of(x_as, x_bs, bins).pair("a", "b")
    plain_ab, corrected_ab = mutual_information(counts_abij), mutual_information(counts_abij, correct=True)
    error = math.sqrt(2 * (bins - 1) ** 2) / (2 * n) / math.sqrt(plain_ab.numel())  # 2 N I is a chi square
    assert abs(plain_ab.mean().item() - expected) < 4 * error + 0.02 * expected  # the next term is of order 1 / N^2
    assert abs(corrected_ab.mean().item()) < 4 * error + 0.02 * expected
    assert corrected_ab.min() < 0


def test_the_correction_counts_the_bins_that_are_occupied():
    x_as, x_bs = (torch.rand(1, 900) < 0.5).float(), torch.randint(3, (1, 900)).float()
    counts_abij = histograms_of(x_as, x_bs).pair("a", "b")
    taken = mutual_information(counts_abij) - mutual_information(counts_abij, correct=True)
    assert abs(taken.item() - (2 - 1) * (3 - 1) / 1800) < 1e-15


def test_a_unit_tells_all_of_itself():
    x_as, _ = common(6, 1)
    histograms = histograms_of(x_as, x_as)
    counts_ai = histograms.counts_ui[:6]
    p_ai = counts_ai.double() / 4000
    expected_a = -(p_ai * p_ai.log()).nan_to_num().sum(1)
    assert torch.allclose(entropy(counts_ai), expected_a, rtol=0, atol=1e-13)
    assert torch.allclose(mutual_information(histograms.pair("a", "b")).diagonal(), expected_a, rtol=0, atol=1e-13)


def test_it_is_symmetric():
    x_as, x_bs = common(4, 5)
    histograms = histograms_of(x_as, x_bs)
    one, other = mutual_information(histograms.pair("a", "b")), mutual_information(histograms.pair("b", "a"))
    assert torch.allclose(one, other.T, rtol=0, atol=1e-14)
    assert torch.allclose(information(x_bs, x_as), one.T, rtol=0, atol=1e-14)
    nats_ab, nats_ba = (module.information(histograms, *nets) for nets in (("a", "b"), ("b", "a")))
    assert torch.allclose(nats_ba, other, rtol=0, atol=1e-14)
    assert nats_ba.data_ptr() == nats_ab.data_ptr()  # made once for both directions


def test_strictly_increasing_maps_change_nothing():
    x_as, x_bs = (x_us.double() for x_us in common(4, 4))
    assert torch.equal(information(x_as.exp(), x_bs**3 + 5 * x_bs), information(x_as, x_bs))


def test_a_gaussian_pair_comes_near_its_mutual_information_from_below():
    r, n = 0.7, 400_000
    x_as, noise = torch.randn(1, n), torch.randn(1, n)
    bound = -math.log(1 - r**2) / 2
    bins = (2, 4, 8, 16, 64)
    estimates = [information(x_as, r * x_as + math.sqrt(1 - r**2) * noise, b, correct=True).item() for b in bins]
    assert estimates == sorted(estimates)
    assert estimates[-1] < bound + 0.002
    assert estimates[-1] > bound - 0.006
    assert abs(estimates[3] - 0.318) < 0.004


def test_units_that_stay_in_one_bin_tell_nothing():
    x_as, x_bs = common(3, 3)
    x_as[1], x_bs[2] = 2.5, 0.0
    for correct in (False, True):
        found_ab = information(x_as, x_bs, correct=correct)
        assert (found_ab[1] == 0).all()
        assert (found_ab[:, 2] == 0).all()
        assert (found_ab[[0, 2]][:, :2] > 0.01).all()


def test_in_parts_it_is_the_same(monkeypatch):
    x_as, x_bs = common(7, 5)
    expected_ab = information(x_as, x_bs)
    monkeypatch.setattr("convergent.core.mutual_information._ENTRIES", 1200)
    assert torch.equal(information(x_as, x_bs), expected_ab)


def test_counts_that_are_none_are_refused():
    with pytest.raises(InputError, match=r"shape \(units, units, bins, bins\), not \(3, 3\)"):
        mutual_information(torch.ones(3, 3))
    with pytest.raises(InputError, match="at least one sample"):
        mutual_information(torch.zeros(1, 1, 2, 2))
    with pytest.raises(InputError, match="none negative"):
        mutual_information(torch.tensor([[[[3, -1], [0, 1]]]]))
