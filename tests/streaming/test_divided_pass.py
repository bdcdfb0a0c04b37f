"""Sums that do not fit into memory, made in several passes: bit by bit those of one pass."""

import logging
from dataclasses import replace

import pytest
import torch
from torch import nn

from convergent.core.packing import Packing
from convergent.errors import InputError
from convergent.streaming.arithmetic import add_products
from convergent.streaming.divided_pass import DividedPass
from convergent.streaming.reading import Reading
from convergent.streaming.statistics_pass import StatisticsPass
from streaming.test_collector import Stop, measurement, trainer  # noqa: F401  (a fixture)


class StopInPass(Stop):
    """Kills one of the passes."""

    def on_predict_batch_end(self, *given):
        if self.passes == 2:
            super().on_predict_batch_end(*given)


@pytest.fixture
def divided(measurement, tmp_path, monkeypatch):  # noqa: F811
    """A measurement that is saved already, and the same in a memory that neither of its layers fits into."""
    monkeypatch.setattr("convergent.core.packing._STRIP", ((256, 2),))
    measurement.ensure(trainer)
    some = next(iter(measurement.data.predict_dataloader()))[0]
    sums = StatisticsPass(
        measurement.whole, ["1", "2"], 50, dict.fromkeys(measurement.whole, some), measurement.reading
    )
    memory = max(of.pass_memory - of.memory // 4 for (of,) in sums.accumulators.values())
    reading = replace(measurement.reading, memory=memory, snapshot_minutes=0)
    return measurement, replace(measurement, reading=reading, cache=tmp_path / "divided")


def contents(measurement):  # noqa: F811
    files = measurement.folder.rglob("*.safetensors")
    return {str(file.relative_to(measurement.folder)): file.read_bytes() for file in files}


@pytest.mark.parametrize("killed", [False, True])
def test_layers_and_bands_of_them_are_divided_over_passes_with_the_same_bits(divided, killed, caplog):
    caplog.set_level(logging.INFO, "convergent")
    whole, some = divided
    stop = StopInPass(3) if killed else Stop()
    if killed:
        with pytest.raises(KeyError, match="killed"):
            some.ensure(lambda callbacks: trainer([*callbacks, stop]))
        assert any("bands" in name for name in contents(some))
    some.ensure(lambda callbacks: trainer([*callbacks, stop]))
    assert stop.passes >= 3 + killed
    assert contents(some) == contents(whole)
    assert any("passes over the images, some" in message for message in caplog.messages)
    if killed:
        assert any("Going on with batch" in message for message in caplog.messages)


def test_a_layer_of_which_not_a_band_fits_is_refused(divided):
    with pytest.raises(InputError, match=r"The least sums of layer 1 take .* fewer blocks"):
        replace(divided[1], reading=Reading(blocks=8, memory=1)).ensure(trainer)


def test_a_size_on_paper_is_planned_before_anything_is_read(caplog):
    caplog.set_level(logging.INFO, "convergent")
    nets = {name: nn.Sequential(nn.Linear(2, 36_864)) for name in "ab"}
    calibration, reading = dict.fromkeys(nets, torch.randn(2, 2)), Reading(blocks=1, block_memory=1e11, memory=2e10)
    with torch.no_grad():
        some = DividedPass(nets, ["0"], 2_000_000, calibration, reading, None, done={})
    assert "The sums take 24.2 GB, 20 GB may be used: 2 passes over the images" in caplog.messages[0]
    assert sum(of.pass_memory for (of,) in some.accumulators.values()) <= 2e10


def test_bands_together_are_the_whole():
    packing = Packing.of([300, 70, 500], [(0, 2), (1, 2)], energies=True)
    x_us, whole_f = torch.randn(870, 20).double(), torch.zeros(packing.size).double()
    add_products(whole_f, x_us, packing)
    first, rows = 0, {(i, j): [] for i, j in packing.blocks()}
    while first < len(packing.every_band):
        stop = packing.fitting(first, packing.size / 3)
        part = replace(packing, bands=(first, stop))
        part_f = torch.zeros(part.size).double()
        assert part.size <= packing.size / 3
        add_products(part_f, x_us, part)
        part.fold(part_f)
        for i, j in part.blocks():
            rows[i, j].append(part.block(part_f, i, j))
        first = stop
    packing.fold(whole_f)
    for (i, j), blocks in rows.items():
        assert torch.equal(torch.cat(blocks), packing.block(whole_f, i, j))
