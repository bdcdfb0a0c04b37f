"""Several things collected in one pass: each exact, each in files of its own, all or nothing when the pass is killed."""

from dataclasses import dataclass
from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from convergent.cli.measurement import Measurement
from convergent.data.images import ImageData
from convergent.data.preparation import Access, Preparation
from convergent.streaming.callback import PassCallback
from convergent.streaming.collector import Collector, over_processes
from convergent.streaming.module import Nets
from convergent.streaming.reading import Reading
from convergent.streaming.snapshots import Snapshots
from convergent.streaming.statistics_pass import StatisticsPass

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}


class Sums(Collector):
    """The sum of each unit of each net, from its mean in the first ten images."""

    def __init__(self, layers, reading, nets, images, first):
        super().__init__(nets, layers, reading)
        self.sums = {}
        for _, x in first(10):
            assert len(next(iter(x.values()))) == 10
        self.sums = {(layer, net): torch.zeros(units_of(nets[net], layer)) for layer in self.layers for net in nets}

    def see(self, net, layer, activation):
        self.sums[layer, net] += self.samples(net, layer, activation).double().sum((0, 2))

    def collected(self):
        for sums_c in self.sums.values():
            over_processes(sums_c)
        return {layer: {net: x for (of, net), x in self.sums.items() if of == layer} for layer in self.layers}

    def state(self):
        return {"images": torch.tensor(self.images)} | {f"{layer} {net}": x for (layer, net), x in self.sums.items()}

    def load_state(self, state):
        self.images = int(state["images"])
        self.sums = {(layer, net): state[f"{layer} {net}"] for layer, net in self.sums}

    def plan(self):
        return "sums"


@dataclass(frozen=True)
class SavedSums:
    """Their files."""

    folder: str = "sums"

    def start(self, layers, reading, pairs):
        return partial(Sums, layers, reading)

    def save(self, sums, file):
        save_file(sums, file)

    def load(self, file, layer, nets):
        return load_file(file)


@dataclass(frozen=True)
class Given:
    """A net as it is, for `Measurement`."""

    module: nn.Module
    name: str

    def net(self):
        return self.module

    def content(self):
        return self.name


def units_of(net, layer):
    return net[int(layer)].out_features


def nets():
    torch.manual_seed(0)
    return [nn.Sequential(nn.Flatten(), nn.Linear(64, w), nn.Linear(w, 3)) for w in (4, 6)]


def data(n=50):
    pictures = [(x, 0) for x in torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(1))]
    images = ImageData({"all": lambda: pictures}, "all", Preparation([], [], [0.5], [0.5], 1), Access(7))
    images.evaluation = nn.Identity()
    return images


def trainer(callbacks):
    return pl.Trainer(accelerator="cpu", callbacks=callbacks, use_distributed_sampler=False, **QUIET)


class Stop(pl.Callback):
    """Counts the passes, and kills one after some batches."""

    def __init__(self, after=10**9):
        self.after, self.passes = after, 0

    def on_predict_start(self, *_):
        self.passes += 1

    def on_predict_batch_end(self, trainer, module, outputs, batch, number, *_):
        if number + 1 == self.after:
            raise KeyError("killed")


@pytest.fixture
def measurement(tmp_path, monkeypatch):
    monkeypatch.setattr("convergent.cli.measurement.names_of", lambda nets: [net.name for net in nets])
    given = [Given(net, f"net{i}") for i, net in enumerate(nets())]
    return Measurement(given, ["1", "2"], data(), {}, Reading(blocks=8), None, tmp_path, also=[SavedSums()])


def test_one_pass_collects_all_that_is_missing_and_each_is_kept_on_its_own(measurement):
    stop = Stop()
    measurement.ensure(lambda callbacks: trainer([*callbacks, stop]))
    assert stop.passes == 1
    files = {str(path.relative_to(measurement.folder)) for path in measurement.folder.rglob("*.safetensors")}
    assert files == {"1.safetensors", "2.safetensors", "sums/1.safetensors", "sums/2.safetensors"}
    for moments, sums in zip(measurement.load(), measurement.load(measurement.also[0])):
        total = moments.moments().total
        assert total.count == moments.images == 50
        assert torch.allclose(torch.cat([sums["net0"], sums["net1"]]).double(), total.mean_u * 50, atol=1e-4)
    before = {path: path.read_bytes() for path in measurement.folder.rglob("*.safetensors")}
    (measurement.folder / "sums" / "2.safetensors").unlink()
    measurement.ensure(lambda callbacks: trainer([*callbacks, stop]))
    assert stop.passes == 2
    assert {path: path.read_bytes() for path in measurement.folder.rglob("*.safetensors")} == before
    measurement.ensure(lambda callbacks: trainer([*callbacks, stop]))
    assert stop.passes == 2


def test_with_moments_alone_nothing_else_is_collected_and_the_key_is_the_same(measurement, tmp_path):
    alone = Measurement(measurement.nets, ["1"], data(), {}, Reading(blocks=8), None, tmp_path)
    alone.ensure(trainer)
    assert alone.folder == measurement.folder
    assert [path.name for path in alone.folder.rglob("*.safetensors")] == ["1.safetensors"]
    stop = Stop()
    measurement.ensure(lambda callbacks: trainer([*callbacks, stop]))
    assert stop.passes == 1
    assert len(list(alone.folder.rglob("*.safetensors"))) == 4


def test_a_call_of_a_module_is_measured_and_is_that_module(tmp_path, monkeypatch):
    monkeypatch.setattr("convergent.cli.measurement.names_of", lambda nets: [net.name for net in nets])
    twice = []
    for net in nets():
        net[2] = nn.Sequential(shared := nn.Linear(net[1].out_features, net[1].out_features), nn.ReLU(), shared)
        twice.append(net)
    given = [Given(net, f"net{i}") for i, net in enumerate(twice)]
    measurement = Measurement(given, ["2.0#0", "2.0#1"], data(), {}, Reading(blocks=8), None, tmp_path)
    measurement.ensure(trainer)
    first, second = measurement.load()
    assert (first.mean_ku - second.mean_ku).abs().max() > 1e-3
    assert measurement.modules("2.0#1") == {f"net{i}": net[2][0] for i, net in enumerate(twice)}


@pytest.mark.parametrize("after", [1, 5])
def test_a_killed_pass_goes_on_with_all_its_collectors_and_counts_nothing_twice(tmp_path, after):
    modules = Nets(dict(zip("ab", nets())))
    starts = [StatisticsPass.start(["1", "2"], Reading(blocks=8)), partial(Sums, ["1", "2"], Reading())]
    whole = PassCallback(starts)
    trainer([whole]).predict(modules, datamodule=data(), return_predictions=False)

    snapshots, rest = Snapshots(tmp_path, "this", 0), data()
    snapshots._last = -1e9
    with pytest.raises(KeyError, match="killed"):
        trainer([PassCallback(starts, snapshots), Stop(after)]).predict(modules, datamodule=data())
    assert not any(module._forward_hooks for module in modules.modules())
    assert snapshots.batches(0, 1) >= 1
    resumed, rest.read_before = PassCallback(starts, snapshots), snapshots.batches
    trainer([resumed]).predict(modules, datamodule=rest, return_predictions=False)
    assert resumed.images == whole.images == 50
    for layer in ("1", "2"):
        assert torch.equal(resumed.collected[0][layer].mean_ku, whole.collected[0][layer].mean_ku)
        assert torch.equal(resumed.collected[0][layer].scatter[0, 1], whole.collected[0][layer].scatter[0, 1])
        assert all(torch.equal(resumed.collected[1][layer][net], whole.collected[1][layer][net]) for net in "ab")
