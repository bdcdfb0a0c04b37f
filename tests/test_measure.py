"""The statistics pass of Lightning: exact, one pass, saved once, found again."""

import multiprocessing
import time

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from convergent.data.order import BlockOrder
from convergent.errors import InputError
from convergent.measure import MomentsCallback, Nets
from convergent.moments import Moments
from convergent.statistics_pass import StatisticsPass

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}


def nets(widths=(4, 6), kernel=3):
    torch.manual_seed(0)
    return {
        f"net{i}": nn.Sequential(nn.Conv2d(1, w, kernel), nn.BatchNorm2d(w), nn.ReLU(inplace=True), nn.Dropout(0.5))
        for i, w in enumerate(widths)
    }


def dataset(n=50):
    return TensorDataset(torch.randn(n, 1, 8, 8), torch.zeros(n), torch.arange(n))


def measured(nets, data, loader=None, **how):
    callback = MomentsCallback(["1", "2"], **{"blocks": 8, **how})
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
    assert callback.images == 50
    for layer in ("1", "2"):
        moments = callback.moments[layer]
        assert len(moments.count) == 8
        truth = expected(both, data, layer)
        assert moments.total.count == truth.count == 50 * 36
        # the nets' own forward pass varies with the batch; what is done with it is exact, see test_accumulate
        assert (moments.total.corr_uu - truth.corr_uu).abs().max() < 1e-6
    assert (callback.moments["1"].total.mean_u.abs().sum()) != 0


def test_nets_keep_mode_buffers_and_no_hooks():
    both = nets()
    both["net0"].train()
    module = Nets(both)
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    callback = MomentsCallback(["2"], blocks=4)
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
    assert pooled.moments["2"].total.count == 50


def test_random_positions_do_not_depend_on_the_batches():
    both, data = nets(), dataset()
    some = [measured(both, data, DataLoader(data, batch_size=size), sample=5).moments["2"] for size in (7, 50)]
    assert some[0].total.count == 50 * 5
    assert (some[0].total.corr_uu - some[1].total.corr_uu).abs().max() < 1e-6


def test_wide_layers_get_fewer_blocks_nested_in_the_others():
    both, data = nets(), dataset()
    wide = measured(both, data, block_memory=10 * 10 * 8 * 3)  # three blocks of ten units would fit: two it is
    narrow = measured(both, data)
    assert [len(c.moments["2"].count) for c in (wide, narrow)] == [2, 8]
    quarters = narrow.moments["2"]
    half = Moments(*(t[:4] for t in (quarters.count, quarters.mean_u, quarters.scatter_uu))).merged()
    assert torch.allclose(half.scatter_uu, wide.moments["2"].scatter_uu[0])


def test_two_processes_give_the_very_same_blocks():
    both, data = nets(), dataset_of_seed()
    alone = measured(both, data, DataLoader(data, batch_sampler=Blocks(53, 8, 4)))
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    port = 20000 + int(time.time() * 1000) % 20000
    workers = [context.Process(target=_rank, args=(rank, port, queue)) for rank in range(2)]
    for worker in workers:
        worker.start()
    counts, means, scatters, images = queue.get(timeout=120)
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert images == 53
    for layer in ("1", "2"):
        assert torch.equal(torch.tensor(counts[layer], dtype=torch.float64), alone.moments[layer].count)
        assert torch.equal(torch.tensor(means[layer], dtype=torch.float64), alone.moments[layer].mean_u)
        assert torch.equal(torch.tensor(scatters[layer], dtype=torch.float64), alone.moments[layer].scatter_uu)


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
    callback = MomentsCallback(["1", "2"], blocks=8)
    trainer = pl.Trainer(
        accelerator="cpu", devices=2, strategy="ddp", callbacks=[callback], use_distributed_sampler=False, **QUIET
    )
    loader = DataLoader(data, batch_sampler=Blocks(53, 8, 4, rank, 2))
    trainer.predict(Nets(both), loader, return_predictions=False)
    torch.distributed.destroy_process_group()
    if rank == 0:
        lists = [
            {layer: getattr(m, part).tolist() for layer, m in callback.moments.items()}
            for part in ("count", "mean_u", "scatter_uu")
        ]
        queue.put((*lists, callback.images))


def dataset_of_seed():
    torch.manual_seed(1)
    return dataset(53)


def test_the_plan_is_stated_and_memory_checked_before_the_pass(monkeypatch):
    both = nets()
    how = {"images": 50, "calibration": torch.randn(8, 1, 8, 8), "blocks": 8}
    lines = StatisticsPass(both, ["1", "2"], **how).plan().splitlines()
    assert len(lines) == 3
    assert lines[1].split() == ["1", "4,", "6", "36", "8", "float64", "0", "MB"]
    monkeypatch.setattr("convergent.statistics_pass.available_memory", lambda: 1)
    with pytest.raises(InputError, match=r"GB are free; ask for fewer blocks \(blocks=2, block_memory=\)"):
        StatisticsPass(both, ["1", "2"], **how)
