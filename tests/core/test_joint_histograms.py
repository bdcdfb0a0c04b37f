"""Joint histograms against numpy's, on the same edges."""

import numpy as np
import pytest
import torch

from convergent.core import coincidences as counting
from convergent.core import joint_histograms as histograms
from convergent.core.coincidences import chosen, int8, packed
from convergent.core.histogram_counter import HistogramCounter
from convergent.core.histogram_edges import edges_of
from convergent.errors import InputError

WIDTHS = {"one": 3, "two": 4, "three": 2}
UNITS = {"one": slice(0, 3), "two": slice(3, 7), "three": slice(7, 9)}


def activations(n=5000):
    """Samples (9, n): common cause, rectified, constant, of few values, and a unit that only later exceeds its edges."""
    x_us = torch.randn(9, n) + torch.randn(1, n)
    x_us[:4] = x_us[:4].clamp(min=0)
    x_us[4] = 3.0
    x_us[5] = x_us[5].round()
    x_us[6, n // 2 :] += 5
    return x_us


def counted(x_us, edges_ue, sizes=(5000,), pairs=None, counts="packed", widths=WIDTHS):
    counter = HistogramCounter(widths, edges_ue, pairs, counts)
    for part_us in x_us.split(list(sizes), 1):
        counter.add(part_us)
    return counter.histograms()


def bins_of(x_us, edges_ue):
    """The bin of every sample, (edge below, edge above], by numpy."""
    rows = zip(edges_ue.numpy(), x_us.numpy())
    return np.stack([np.searchsorted(edges_e, x_s, side="left") for edges_e, x_s in rows])


@pytest.mark.parametrize("bins", [2, 3, 10])
@pytest.mark.parametrize("counts", ["packed", "int8"])
def test_counts_are_numpys(bins, counts):
    if counts == "int8" and not counting._works(torch.device("cpu")):
        pytest.skip("this torch has no int8 product")
    x_us = activations()
    edges_ue = edges_of(x_us[:, :700], bins)
    record = counted(x_us, edges_ue, pairs=[(0, 1), (2, 1), (0, 0)], counts=counts)
    bins_us = bins_of(x_us, edges_ue)
    for a, b in (("one", "two"), ("two", "one"), ("two", "three"), ("one", "one")):
        counts_abij = record.pair(a, b)
        assert counts_abij.dtype == torch.int32
        for i, unit_a in enumerate(range(9)[UNITS[a]]):
            for j, unit_b in enumerate(range(9)[UNITS[b]]):
                table, _, _ = np.histogram2d(bins_us[unit_a], bins_us[unit_b], bins=np.arange(bins + 1) - 0.5)
                assert np.array_equal(counts_abij[i, j].numpy(), table)
    assert np.array_equal(record.counts_ui.numpy(), [np.bincount(row, minlength=bins) for row in bins_us])
    assert record.count == 5000


@pytest.mark.parametrize("sizes", [[1, 4999], [4032, 968], [4095, 905], [700] * 7 + [100], [0, 5000]])
def test_any_split_of_the_stream(sizes):
    x_us = activations()
    edges_ue = edges_of(x_us)
    whole, split = counted(x_us, edges_ue), counted(x_us, edges_ue, sizes)
    assert split.count == whole.count
    assert torch.equal(split.above_ue, whole.above_ue)
    assert all(torch.equal(split.above[pair], table) for pair, table in whole.above.items())


def test_counting_taken_up_from_its_state():
    x_us = activations()
    edges_ue = edges_of(x_us)
    first, second = (HistogramCounter(WIDTHS, edges) for edges in (edges_ue, edges_of(x_us[:, :50])))
    first.add(x_us[:, :1300])
    second.load_state(first.state())
    first.add(x_us[:, :77])  # is no longer of its concern
    second.add(x_us[:, 1300:])
    record, whole = second.histograms(), counted(x_us, edges_ue)
    assert record.count == 5000
    assert torch.equal(record.counts_ui, whole.counts_ui)
    assert torch.equal(record.pair("one", "three"), whole.pair("one", "three"))


def test_records_of_parts_merge():
    x_us = activations()
    edges_ue = edges_of(x_us)
    merged = counted(x_us[:, :1300], edges_ue, [1300]) + counted(x_us[:, 1300:], edges_ue, [3700])
    whole = counted(x_us, edges_ue)
    assert torch.equal(merged.pair("one", "three"), whole.pair("one", "three"))
    assert torch.equal(merged.counts_ui, whole.counts_ui)
    with pytest.raises(InputError, match="same nets, pairs and edges"):
        _ = whole + counted(x_us, edges_of(x_us[:, :100]))
    with pytest.raises(InputError, match="same nets, pairs and edges"):
        _ = whole + counted(x_us, edges_ue, pairs=[(0, 1)])


@pytest.mark.parametrize(("rows", "columns", "samples"), [(1, 1, 1), (7, 3, 100), (40, 33, counting.SAMPLES)])
def test_int8_and_float32_agree_with_integers(rows, columns, samples):
    a_is, b_js = torch.rand(rows, samples) < 0.9, torch.rand(columns, samples) < 0.9
    a_is[0], b_js[0], a_is[-1] = True, True, True  # the largest counts there are
    expected = a_is.long() @ b_js.long().T
    assert torch.equal(packed(a_is, b_js).long(), expected)
    if counting._works(torch.device("cpu")):
        assert torch.equal(int8(a_is, b_js).long(), expected)


def test_nets_set_to_a_lower_precision_do_not_make_counts_wrong():
    a_is = torch.ones(64, counting.SAMPLES, dtype=torch.bool)
    torch.set_float32_matmul_precision("medium")
    try:
        assert (packed(a_is, a_is) == counting.SAMPLES).all()
    finally:
        torch.set_float32_matmul_precision("highest")


def test_without_the_private_product_float32_steps_in(monkeypatch):
    monkeypatch.delattr(torch, "_int_mm")
    counting._works.cache_clear()
    counting._faster.cache_clear()
    try:
        assert chosen("auto", torch.device("cpu")) is packed
        with pytest.raises(InputError, match="no int8 product"):
            chosen("int8", torch.device("cpu"))
    finally:
        counting._works.cache_clear()
        counting._faster.cache_clear()
    with pytest.raises(InputError, match="auto, int8 or packed, not 'float'"):
        chosen("float", torch.device("cpu"))


def test_more_samples_than_int32_holds(monkeypatch):
    x_us = activations()
    edges_ue = edges_of(x_us)
    expected = counted(x_us, edges_ue).pair(0, 1)
    monkeypatch.setattr(histograms, "_INT32", 3000)
    table = counted(x_us, edges_ue, [2500, 2500]).pair(0, 1)
    assert table.dtype == torch.int64
    assert torch.equal(table, expected.long())
    half = counted(x_us[:, :2500], edges_ue, [2500])
    assert (half + half).pair(0, 1).dtype == torch.int64


def test_wide_layers_are_counted_in_strips(monkeypatch):
    x_us = activations()
    edges_ue = edges_of(x_us)
    expected = counted(x_us, edges_ue).pair(0, 1)
    monkeypatch.setattr("convergent.core.histogram_counter._ENTRIES", 200)
    assert torch.equal(counted(x_us, edges_ue).pair(0, 1), expected)


def test_zeros_of_rectified_units_have_a_bin_of_their_own_and_the_others_are_of_equal_mass():
    x_us = torch.stack([(torch.randn(10_000) - shift).clamp(min=0) for shift in (-1.2, 0.0, 1.0)])
    counts_ui = counted(x_us, edges_of(x_us), [10_000], widths={"one": 1, "two": 2}).counts_ui
    zeros_u = (x_us == 0).sum(1)
    assert torch.equal(counts_ui[:, 0], zeros_u)
    assert ((counts_ui[:, 1:] - (10_000 - zeros_u[:, None]) / 9).abs() <= 1).all()


def test_bins_of_units_without_an_atom_have_equal_mass():
    x_us = torch.randn(2, 10_007)
    counts_ui = counted(x_us, edges_of(x_us), [10_007], widths={"one": 1, "two": 1}).counts_ui
    assert ((counts_ui - 1000.7).abs() <= 1).all()


@pytest.mark.parametrize(("share", "own"), [(0.04, False), (0.06, True)])
def test_an_atom_is_half_an_equal_bin_or_more(share, own):
    x_us = torch.rand(1, 1000) + 1
    x_us[0, : int(1000 * share)] = -2.0
    assert (edges_of(x_us)[0, 0] == -2) == own


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16, torch.int64])
def test_edges_of_any_type_are_values_that_occur(dtype):
    x_us = (torch.randn(4, 300) * 20).to(dtype)
    edges_ue = edges_of(x_us)
    assert edges_ue.dtype == (torch.float64 if dtype == torch.int64 else dtype)
    assert (edges_ue.diff(dim=1) >= 0).all()
    assert (edges_ue[..., None] == x_us[:, None]).any(2).all()


def test_units_that_stay_in_one_bin_are_said():
    x_us = activations()
    record = counted(x_us, edges_of(x_us))
    assert record.active_u.tolist() == [True] * 4 + [False] + [True] * 4


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_nan_is_reported_with_net_and_unit(bad):
    x_us = activations()
    edges_ue = edges_of(x_us)
    x_us[5, 4900] = bad
    with pytest.raises(InputError, match=r"Net two gives NaN or infinite activations \(unit 2\)"):
        counted(x_us, edges_ue)
    with pytest.raises(InputError, match="finite samples, but unit 5"):
        edges_of(x_us)


def test_what_is_no_calibration_or_no_samples_is_refused():
    x_us = activations(100)
    with pytest.raises(InputError, match="at least 2, not 1"):
        edges_of(x_us, 1)
    with pytest.raises(InputError, match=r"at least one, not \(9, 0\)"):
        edges_of(x_us[:, :0])
    edges_ue = edges_of(x_us)
    for wrong in (edges_ue[:8], -edges_ue):
        with pytest.raises(InputError, match=r"Edges need the shape \(9 units, edges\)"):
            HistogramCounter(WIDTHS, wrong)
    with pytest.raises(
        InputError, match=r"Histograms of 9 units need samples of shape \(units, samples\), not \(100, 9\)"
    ):
        HistogramCounter(WIDTHS, edges_ue).add(x_us.T)
    record = counted(x_us, edges_ue, [100], pairs=[(0, 1)])
    with pytest.raises(InputError, match="no histograms of one with three"):
        record.pair("three", "one")
    with pytest.raises(InputError, match="no net 'four' among one, two, three"):
        record.pair("four", "one")
