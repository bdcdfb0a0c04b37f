"""The statistics pass of Lightning: exact, one pass, saved once, found again."""

import gc
import os
import signal
import weakref

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from convergent.cli.processes import leave_group
from convergent.core.histogram_source import Counting
from convergent.core.moments import Moments
from convergent.core.pairs import Pair
from convergent.data.order import BlockOrder
from convergent.errors import InputError
from convergent.streaming import accumulate
from convergent.streaming.all_layers import SavedAllLayers, together
from convergent.streaming.callback import HistogramsCallback, MomentsCallback, PassCallback
from convergent.streaming.histograms.saved_histograms import SavedHistograms
from convergent.streaming.kept_samples import SavedSamples
from convergent.streaming.lowest import SavedLowest
from convergent.streaming.module import Nets
from convergent.streaming.reading import Reading
from convergent.streaming.saved_moments import SavedMoments
from convergent.streaming.snapshots import Snapshots
from convergent.streaming.statistics_pass import StatisticsPass
from convergent.streaming.top_patches import SavedPatches
from forked import CONTEXT, free_port

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}


def nets(widths=(4, 6), kernel=3):
    torch.manual_seed(0)
    return {
        f"net{i}": nn.Sequential(nn.Conv2d(1, w, kernel), nn.BatchNorm2d(w), nn.ReLU(inplace=True), nn.Dropout(0.5))
        for i, w in enumerate(widths)
    }


def dataset(n=50):
    return TensorDataset(torch.randn(n, 1, 8, 8), torch.zeros(n), torch.arange(n))


def measured(nets, data, loader=None, pairs=None, **reading):
    callback = MomentsCallback(["1", "2"], Reading(**{"blocks": 8, **reading}), pairs)
    loader = loader or DataLoader(data, batch_size=7)
    pl.Trainer(accelerator="cpu", callbacks=[callback], use_distributed_sampler=False, **QUIET).predict(
        Nets(nets), loader, return_predictions=False
    )
    return callback


def expected(nets, data, layer):
    with torch.no_grad():
        parts = [net.eval()[: int(layer) + 1](data.tensors[0]).clone() for net in nets.values()]
    return Moments.of(torch.cat(parts, 1).transpose(0, 1).flatten(1).T)


class Blocks(BlockOrder):
    """Plain indices, for a data set that knows nothing of draws."""

    def __iter__(self):
        return iter([[draw.image for draw in batch] for batch in self.batches])


@pytest.mark.parametrize("order", ["blocks", "as they come", "shuffled"])
def test_the_moments_are_those_of_all_activations_in_any_order(order):
    data = dataset()
    loader = {
        "blocks": DataLoader(data, batch_sampler=Blocks(50, 8, 4)),
        "as they come": DataLoader(data, batch_size=7),
        "shuffled": DataLoader(data, batch_size=11, shuffle=True),
    }[order]
    both = nets()
    callback = measured(both, data, loader)
    for layer in ("1", "2"):
        moments = callback.moments[layer].moments()
        assert len(moments.count) == 8
        truth = expected(both, data, layer)
        assert callback.moments[layer].images == 50
        assert moments.total.count == truth.count == 50 * 36
        # the nets' own forward pass varies with the batch; what is done with it is exact, see test_accumulate
        assert (moments.total.corr_uu - truth.corr_uu).abs().max() < 1e-6
    assert (callback.moments["1"].mean_ku.abs().sum()) != 0


def test_nets_keep_mode_buffers_and_no_hooks():
    both = nets()
    both["net0"].train()
    module = Nets(both)
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    callback = MomentsCallback(["2"], Reading(blocks=4))
    pl.Trainer(accelerator="cpu", callbacks=[callback], **QUIET).predict(module, DataLoader(dataset(), 9))
    assert both["net0"].training
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in module.named_buffers())
    assert not any(m._forward_hooks for m in module.modules())


def test_nan_names_net_and_layer_and_the_hooks_go():
    both = nets()
    with torch.no_grad():
        both["net1"][1].weight[2] = torch.nan
    with pytest.raises(InputError, match=r"Layer 1 of net net1 gives NaN .*unit 2"):
        measured(both, dataset())
    assert not any(m._forward_hooks for net in both.values() for m in net.modules())


def test_unequal_positions_are_refused_with_a_way_out_that_works():
    both = {"small": nets((4,), 3)["net0"], "large": nets((4,), 5)["net0"]}
    with pytest.raises(InputError, match=r"36 in small, 16 in large\).*sample=pooled"):
        measured(both, dataset())
    pooled = measured(both, dataset(), sample="pooled")
    assert pooled.moments["2"].count_k.sum() == 50


def test_random_positions_do_not_depend_on_the_batches():
    both, data = nets(), dataset()
    some = [
        measured(both, data, DataLoader(data, batch_size=size), sample=5).moments["2"].moments() for size in (7, 50)
    ]
    assert some[0].total.count == 50 * 5
    assert (some[0].total.corr_uu - some[1].total.corr_uu).abs().max() < 1e-6


def test_wide_layers_get_fewer_blocks_nested_in_the_others():
    both, data = nets(), dataset()
    wide = measured(both, data, block_memory=87 * 8 * 3)  # three blocks of ten units would fit: two it is
    narrow = measured(both, data)
    assert [len(c.moments["2"].count_k) for c in (wide, narrow)] == [2, 8]
    quarters = narrow.moments["2"].moments()
    half = Moments(*(t[:4] for t in (quarters.count, quarters.mean_u, quarters.scatter_uu))).merged()
    assert torch.allclose(half.scatter_uu, wide.moments["2"].moments().scatter_uu[0])


def test_two_processes_give_the_very_same_blocks_and_counts():
    both, data = nets(), dataset_of_seed()
    loader = DataLoader(data, batch_sampler=Blocks(53, 8, 4))
    alone = measured(both, data, loader)
    counted = HistogramsCallback(["1", "2"], reading=Reading(blocks=8))
    pl.Trainer(accelerator="cpu", callbacks=[counted], use_distributed_sampler=False, **QUIET).predict(
        Nets(both), loader
    )
    sites = all_layers()
    pl.Trainer(accelerator="cpu", callbacks=[sites], use_distributed_sampler=False, **QUIET).predict(Nets(both), loader)
    queue = CONTEXT.Queue()
    port = free_port()
    workers = [CONTEXT.Process(target=_rank, args=(rank, port, queue)) for rank in range(2)]
    for worker in workers:
        worker.start()
    counts, means, scatters, images, above, of_sites, of_one_block = queue.get(timeout=120)
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert images == 53
    here = one_block(Nets(both), {"accelerator": "cpu", "devices": 1})
    assert of_one_block[0] == here[0] == 53
    assert all(torch.equal(torch.tensor(there), torch.tensor(x)) for there, x in zip(of_one_block[1:], here[1:]))
    assert torch.equal(torch.tensor(of_sites, dtype=torch.float64), whole(sites))
    for layer in ("1", "2"):
        expected = alone.moments[layer].moments()
        assert torch.equal(torch.tensor(counts[layer], dtype=torch.float64), expected.count)
        assert torch.equal(torch.tensor(means[layer], dtype=torch.float64), expected.mean_u)
        assert torch.equal(torch.tensor(scatters[layer], dtype=torch.float64), expected.scatter_uu)
        assert above[layer] == tables_of(counted.histograms[layer])


def all_layers():
    return PassCallback([SavedAllLayers(["1", "2"]).start([], Reading(blocks=8), None)])


def whole(callback):
    """The moments of all layers with all layers, between nets and within them."""
    return together(callback.collected[0].values()).moments().scatter_uu


def tables_of(histograms):
    """All counts and edges, in lists."""
    return [[part.count, part.above[0, 1].tolist(), part.edges_ue.tolist()] for part in histograms.parts]


def _rank(rank, port, queue):
    """One of two processes of the pass, as Lightning's DDP starts them."""
    import os

    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    os.environ |= {
        "LOCAL_RANK": str(rank),
        "NODE_RANK": "0",
        "RANK": str(rank),
        "GROUP_RANK": "0",
        "LOCAL_WORLD_SIZE": "2",
    }
    os.environ |= {"TORCHELASTIC_RUN_ID": "test"}
    both, data = nets(), dataset_of_seed()
    callback, counted = (
        MomentsCallback(["1", "2"], Reading(blocks=8)),
        HistogramsCallback(["1", "2"], reading=Reading(blocks=8)),
    )
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        callbacks=[callback, counted, sites := all_layers()],
        use_distributed_sampler=False,
        **QUIET,
    )
    loader = DataLoader(data, batch_sampler=Blocks(53, 8, 4, rank, 2))
    trainer.predict(module := Nets(both), loader, return_predictions=False)
    of_one_block = one_block(module, {"accelerator": "cpu", "devices": 2, "strategy": "ddp"}, rank, 2)
    leave_group()
    if rank == 0:
        lists = [
            {layer: getattr(m.moments(), part).tolist() for layer, m in callback.moments.items()}
            for part in ("count", "mean_u", "scatter_uu")
        ]
        above = {layer: tables_of(histograms) for layer, histograms in counted.histograms.items()}
        queue.put((*lists, callback.moments["1"].images, above, whole(sites).tolist(), of_one_block))


def one_block(module, where, rank=0, world=1):
    """What every kind of collector makes of images of one block, all of which the last process reads."""
    artifacts = [SavedMoments(), SavedHistograms(Counting()), SavedPatches(), SavedLowest(), SavedSamples(20)]
    starts = [artifact.start([*zip("12", "12")], Reading(blocks=1), None) for artifact in artifacts]
    callback = PassCallback([*starts, SavedAllLayers(["1", "2"]).start([], Reading(blocks=1), None)])
    trainer = pl.Trainer(**where, callbacks=[callback], use_distributed_sampler=False, **QUIET)
    loader = DataLoader(dataset_of_seed(), batch_sampler=Blocks(53, 1, 9, rank, world))
    assert len(loader) == (6 if rank == world - 1 else 0)
    assert trainer.predict(module, loader, return_predictions=False) is None
    assert not any(m._forward_hooks for m in module.modules())
    moments, histograms, patches, lowest, samples, sites = callback.collected
    of_net = patches["2"]["net1"].top
    return [
        callback.images, moments["2"].moments().scatter_uu.tolist(), histograms["2"].parts[0].above[0, 1].tolist(),
        of_net.image_ck.tolist(), of_net.position_ck.tolist(), lowest["1"]["net0"].tolist(),
        samples["2"]["net1"].tolist(), together(sites.values()).moments().scatter_uu.tolist(),
    ]  # fmt: skip


def dataset_of_seed():
    torch.manual_seed(1)
    return dataset(53)


def test_the_plan_is_stated_and_memory_checked_before_the_pass(monkeypatch):
    both, x = nets(), torch.randn(8, 1, 8, 8)
    arguments = {"images": 50, "calibration": dict.fromkeys(both, x), "reading": Reading(blocks=8)}
    lines = StatisticsPass(both, ["1", "2"], **arguments).plan().splitlines()
    assert len(lines) == 3
    row = "1 4 x 6 x 6, 6 x 6 x 6 channel 4, 6 36 1,800 8 float64 1 MB 0 MB"
    assert lines[1].split() == row.split()
    monkeypatch.setattr("convergent.memory.available_memory", lambda: 1)
    with pytest.raises(InputError, match=r"blocks=2.*layers_per_pass=1.*pairs="):
        StatisticsPass(both, ["1", "2"], **arguments)


def test_what_was_collected_of_a_layer_can_be_taken_before_the_next_one_is_finished(monkeypatch):
    both, data, order = nets(), dataset(), []
    centred = accumulate.centred
    monkeypatch.setattr(accumulate, "centred", lambda *given: order.append("finished") or centred(*given))
    callback = PassCallback(
        [StatisticsPass.start(["1", "2"], Reading())], keep=lambda number, layer, _: order.append((number, layer))
    )
    pl.Trainer(accelerator="cpu", callbacks=[callback], **QUIET).predict(Nets(both), DataLoader(data, 30))
    assert order == ["finished", (0, "1"), "finished", (0, "2")]
    assert callback.collected == [{}]


def test_after_a_pass_its_sums_are_gone_whether_or_not_garbage_is_collected(monkeypatch):
    made, start = [], StatisticsPass.__init__

    def init(self, *args, **options):
        start(self, *args, **options)
        made.append(weakref.ref(self))

    monkeypatch.setattr(StatisticsPass, "__init__", init)
    gc.disable()
    try:
        measured(nets(), dataset())
        assert [one() for one in made] == [None]
    finally:
        gc.enable()


def test_a_device_that_is_not_here_is_reported():
    with pytest.raises(InputError, match="device needs to be cpu or a GPU that is here, not gpu7"):
        measured(nets(), dataset(), device="gpu7")


def test_only_the_pairs_asked_for_are_kept():
    three, data = nets((4, 6, 5)), dataset()
    some, every = measured(three, data, pairs=[("net2", "net0")]), measured(three, data)
    assert some.moments["2"].pairs == [(0, 2)]
    expected_ab = every.moments["2"].pair(0, 2).corr_ab
    assert torch.allclose(some.moments["2"].pair("net0", "net2").corr_ab, expected_ab, atol=1e-12)
    assert torch.allclose(some.moments["2"].pair("net2", "net0").corr_ab, expected_ab.T, atol=1e-12)
    with pytest.raises(InputError, match="no moments of net0 with net1"):
        some.moments["2"].pair(0, 1)
    with pytest.raises(InputError, match="There is no net 'net3' among net0, net1, net2"):
        some.moments["2"].pair(0, "net3")


def test_nets_that_differ_are_compared_by_pairs_of_layers():
    torch.manual_seed(0)
    tokens = nn.Sequential(nn.Unflatten(2, (4, 2)), nn.Flatten(3), nn.Flatten(1, 2), nn.Linear(16, 5))  # (n, 4, 5)
    both, data = {"conv": nets((4,))["net0"], "tokens": tokens}, dataset()
    callback = MomentsCallback([["2", "3"]], Reading(sample="pooled", blocks=8, units={"tokens": "last"}))
    pl.Trainer(accelerator="cpu", callbacks=[callback], **QUIET).predict(Nets(both), DataLoader(data, 10))
    pair = callback.moments["2~3"].pair("conv", "tokens")
    with torch.no_grad():
        x_na = both["conv"].eval()[:3](data.tensors[0]).mean((2, 3))
        x_nb = tokens(data.tensors[0]).mean(1)
    assert (pair.corr_ab - Pair.of(x_na, x_nb).corr_ab).abs().max() < 1e-5
    assert (pair.p, pair.q) == (4, 5)


def test_nets_may_see_the_images_in_different_views():
    both, data = {"small": nets((4,))["net0"], "large": nets((4,), 5)["net0"]}, dataset()
    views = [({"whole": x, "cut": x[:, 1:7, 1:7]}, y, n) for x, y, n in data]
    callback = MomentsCallback(["2"], Reading(blocks=8, sample="pooled"))
    module = Nets(both, {"small": "cut", "large": "whole"})
    pl.Trainer(accelerator="cpu", callbacks=[callback], **QUIET).predict(module, DataLoader(views, 10))
    with torch.no_grad():
        x_na = both["small"].eval()[:3](data.tensors[0][:, :, 1:7, 1:7]).mean((2, 3))
        x_nb = both["large"].eval()[:3](data.tensors[0]).mean((2, 3))
    assert (callback.moments["2"].pair(0, 1).corr_ab - Pair.of(x_na, x_nb).corr_ab).abs().max() < 1e-5


def test_a_snapshot_leaves_a_batch_to_read(tmp_path, monkeypatch):
    monkeypatch.setattr(Snapshots, "due", True)
    snapshots = Snapshots(tmp_path, "this", 0)
    loader = DataLoader(dataset(50), batch_size=10)
    callback = MomentsCallback(["1"], Reading(blocks=8), snapshots=snapshots)
    pl.Trainer(accelerator="cpu", callbacks=[callback], **QUIET).predict(Nets(nets()), loader, return_predictions=False)
    assert snapshots.batches(0, 1) == 4  # of 5: with none left Lightning would run no pass at all
    assert callback.images == 50


def test_a_process_that_is_told_to_end_keeps_what_it_read_and_ends(tmp_path):
    snapshots = Snapshots(tmp_path, "this", 60)

    class Told(MomentsCallback):
        def on_predict_batch_start(self, trainer, module, batch, batch_idx, loader=0):
            super().on_predict_batch_start(trainer, module, batch, batch_idx, loader)
            if batch_idx == 2:
                os.kill(os.getpid(), signal.SIGTERM)

    callback, loader = Told(["1"], Reading(blocks=8), snapshots=snapshots), DataLoader(dataset(50), batch_size=10)
    with pytest.raises((SystemExit, KeyboardInterrupt)):
        pl.Trainer(accelerator="cpu", callbacks=[callback], **QUIET).predict(Nets(nets()), loader)
    assert snapshots.batches(0, 1) == 3


def test_snapshots_of_another_pass_are_none(tmp_path):
    snapshots = Snapshots(tmp_path, "this", 0)
    snapshots.save({"x": torch.ones(3)}, 7, 1, 2)
    assert snapshots.batches(1, 2) == 7
    assert snapshots.batches(0, 2) == snapshots.batches(1, 3) == Snapshots(tmp_path, "other", 0).batches(1, 2) == 0
    assert torch.equal(snapshots.load(1, 2)["x"], torch.ones(3))
    snapshots.file(1, 2).write_bytes(b"cut")
    assert snapshots.batches(1, 2) == 0
    snapshots.remove()
    assert not list(tmp_path.iterdir())


def test_a_snapshot_of_another_version_is_reported_and_ignored(tmp_path, monkeypatch, caplog):
    snapshots = Snapshots(tmp_path, "this", 0)
    snapshots.save({"x": torch.ones(3)}, 7, 0, 1)
    monkeypatch.setattr("convergent.streaming.snapshots.program", lambda: "edited")
    assert snapshots.batches(0, 1) == 0
    assert "partial-0-of-1.safetensors is of another pass or version" in caplog.text


def test_a_snapshot_that_does_not_fit_is_reported(tmp_path):
    snapshots = Snapshots(tmp_path, "this", 5)
    snapshots.save({"0/x": torch.ones(3)}, 1, 0, 1)
    callback = MomentsCallback(["1"], Reading(blocks=8), snapshots=snapshots)
    with pytest.raises(InputError, match=r"partial-0-of-1.safetensors does not fit this pass .*; delete it"):
        pl.Trainer(accelerator="cpu", callbacks=[callback], **QUIET).predict(Nets(nets()), DataLoader(dataset(50), 10))


def test_snapshots_take_a_small_share_of_the_time(tmp_path):
    assert Snapshots(tmp_path, "", 0).due
    assert not Snapshots(tmp_path, "", 5).due
    assert not Snapshots(tmp_path, "", 0, _took=1.0).due  # one that takes a second comes every twenty at most


def items(make, n=20):
    """A data set whose items are made of (picture, class, number)."""
    return [make(torch.randn(1, 8, 8), 0, number) for number in range(n)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x, y, n: {"image": x, "label": y}, "batches of .pictures, classes, image .*a dictionary of image, label"),
        (lambda x, y, n: (x, y), r"not \(float32 of shape \(8, 1, 8, 8\), int64 of shape \(8,\)\)"),
        (lambda x, y, n: x, r"not float32 of shape \(8, 1, 8, 8\)"),
        (lambda x, y, n: (x, y, float(n)), r"float64 of shape \(8,\)"),
        (lambda x, y, n: (x, y, str(n)), "a (list|tuple) of 8 str"),
        (lambda x, y, n: (x, y, {"number": n}), "a dictionary of number"),
        (lambda x, y, n: ("path.png", y, n), "a (list|tuple) of 8 str"),
        (lambda x, y, n: (x, y, n + 1), "from 0 to 19 in a data set of 20, but a batch has [0-9]+ to 20"),
        (lambda x, y, n: (x, y, n - 1), "from 0 to 19 .* has -1 to"),
        (lambda x, y, n: ({"cut": x}, y, n), "in the views cut, but net net0 takes view None"),
    ],
)  # fmt: skip
def test_batches_that_are_none_are_refused_in_one_sentence(make, message):
    with pytest.raises(InputError, match=message):
        measured(nets(), items(make))


def test_a_pass_needs_its_nets_and_one_loader_of_a_known_length():
    trainer = pl.Trainer(accelerator="cpu", callbacks=[MomentsCallback(["1"], Reading(blocks=4))], **QUIET)
    loader = DataLoader(dataset(), 9)

    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(dataset())

    class Other(pl.LightningModule):
        def predict_step(self, batch, batch_idx):
            return None

    for module, given in ((Nets(nets()), DataLoader(Stream(), 9)), (Nets(nets()), [loader, loader]), (Other(), loader)):
        with pytest.raises(InputError, match="one DataLoader of a data set"):
            trainer.predict(module, given, return_predictions=False)


class Spectrum(nn.Module):
    def forward(self, x):
        return torch.fft.rfft2(x)


class Sparse(nn.Module):
    def forward(self, x):
        return x.to_sparse()


class Tokens(nn.Module):
    """As many tokens as there are pictures in the batch."""

    def forward(self, x):
        return x.flatten(2).mT[:, : len(x)].expand(-1, -1, 3)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Spectrum(), "Layer 0 of net a returns complex numbers"),
        (Sparse(), "Layer 0 of net a returns a sparse or nested tensor"),
        (Tokens(), "gives 7 positions here, but 8 for the first images; .*pad tokens .*sample=pooled"),
    ],
)
def test_activations_that_are_unusable_are_refused_in_one_sentence(module, message):
    data = dataset(20)
    with pytest.raises(InputError, match=message):
        run_on({"a": nn.Sequential(module)}, data)
    if isinstance(module, Tokens):
        assert run_on({"a": nn.Sequential(module)}, data, sample="pooled").moments["0"].count_k.sum() == 20


def run_on(given, data, **reading):
    callback = MomentsCallback(["0"], Reading(blocks=4, **reading))
    pl.Trainer(accelerator="cpu", callbacks=[callback], **QUIET).predict(
        Nets(given), DataLoader(data, 7), return_predictions=False
    )
    return callback
