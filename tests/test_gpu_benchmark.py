"""What `make gpu` measures, tiny and on the processor, and what it writes; so that the first GPU meets no dead code."""

import importlib
import json
import sys

import pytest
import torch

from conftest import PROJECT

NAMES = ("costs", "gpu", "run", "streaming", "training")


@pytest.fixture
def benchmarks(monkeypatch):
    """The modules of tests/benchmarks by name."""
    monkeypatch.syspath_prepend(PROJECT / "tests" / "benchmarks")
    for name in NAMES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    yield {name: importlib.import_module(name) for name in NAMES}
    for name in NAMES:
        del sys.modules[name]


def test_without_a_gpu_nothing_is_measured_or_written_and_the_reason_given(benchmarks, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", ["run.py", "gpu"])
    monkeypatch.setattr(benchmarks["run"], "SAVED", tmp_path / "saved.json")
    monkeypatch.setattr(benchmarks["run"], "fill", lambda *_: pytest.fail("something is written"))
    benchmarks["run"].main()
    assert "gpu skipped: torch finds no CUDA device here" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_pass_is_measured_on_any_device_and_makes_a_table(benchmarks):
    gpu = benchmarks["gpu"]
    machine, *records = gpu.records(torch.device("cpu"), batch=4, batches=1, width=0.04)
    by_way = {record["way"]: record for record in records}
    assert set(by_way) == {
        *(f"{kind} {way}" for kind in ("pass", "error") for way in ("float32", "channels_last", "bfloat16")),
        "pass host", "waits",
    }  # fmt: skip
    assert all(record["ratio"] > 0 and record["finish_s"] > 0 for way, record in by_way.items() if way[:4] == "pass")
    assert 0 < by_way["error float32"]["most"] < 1e-5  # float32 beside float64, of the same activations
    assert set(by_way["waits"]["per_batch"].values()) == {0.0}
    table = benchmarks["costs"].gpu_table([machine | {"date": "today"}, *records])
    assert [line.split(" | ")[0] for line in table.splitlines()[2:6]] == [
        "| float32", "| channels_last", "| bfloat16", "| host",
    ]  # fmt: skip
    assert "Waits for the GPU per batch, by a profile: cudaStreamSynchronize 0" in table


def test_what_waits_for_a_gpu_is_counted_among_the_events_of_a_profile(benchmarks):
    events = [
        "aten::mm",
        "cudaStreamSynchronize",
        "cudaLaunchKernel",
        "Memcpy DtoH (Device -> Pageable)",
        "Memcpy HtoD",
    ]
    assert benchmarks["gpu"].waits([*events, "cudaStreamSynchronize"]) == {"cudaStreamSynchronize": 2, "Memcpy DtoH": 1}


def test_training_is_measured_in_its_parts_and_costs_take_measured_rates_in_the_place_of_assumed_ones(
    benchmarks, tmp_path
):
    training, costs = benchmarks["training"], benchmarks["costs"]
    store = training.write_store(tmp_path / "store", 8)
    tiny = ("trainer=cpu", "data.batch_size=4", "++net.module.width=0.04")
    record = training.measured(store, 2, 1, 3, *training.ON_PROCESSOR, *tiny)
    assert (record["nets"], record["batch"], record["device"], record["compile"]) == (2, 4, "cpu", False)
    assert 0 < record["fit"] < 1.5 * min(record["reader"], record["step"])
    saved = json.loads((PROJECT / "docs" / "benchmarks.json").read_text())
    saved.pop("gpu", None)
    before = costs.costs_table(saved)
    assert "assumed: 150 and 400 TFLOP/s" in before
    assert "No GPU has been measured" in before
    machine = {"gpu": "A GPU", "gpus": 1, "torch": "2", "cudnn": 9, "date": "today"}
    of_gpu = {**record, "nets": 1, "device": "cuda", "channels_last": True, "width": 1.0, "reader": 2e5, "step": 3e4}
    saved["gpu"] = [
        machine,
        {**of_gpu, "batch": 256, "precision": "32-true", "fit": 10_000.0},
        {**of_gpu, "batch": 1024, "precision": "bf16-mixed", "fit": 20_000.0},
    ]
    after = costs.costs_table(saved)
    assert "| 10,000 | 20,000 | measured: `gpu`, A GPU, today |" in after
    assert "assumed: 150" not in after
    assert "No GPU has been measured" not in after
    assert f"{1_281_167 * 90 / 10_000 / 3600:.2g}, " in after
    assert "| 1 | 1 | 32-true | no | 200,000 | 30,000 | 10,000 | 33% |" in costs.gpu_table(saved["gpu"])
