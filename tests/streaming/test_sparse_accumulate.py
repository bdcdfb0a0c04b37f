"""Layers that are nearly all zero: their sparse products give the dense record."""

import pytest
import torch

from convergent.core.packing import Packing
from convergent.errors import InputError
from convergent.streaming import sparse_accumulate
from convergent.streaming.accumulate import Accumulator
from convergent.streaming.activity import Activity
from convergent.streaming.arithmetic import Arithmetic
from convergent.streaming.measure import measure
from convergent.streaming.reading import Reading
from convergent.streaming.sparse_accumulate import SparseAccumulator
from forked import CONTEXT, free_port

WIDTHS = {"one": 30, "two": 40}


def codes(images, positions, active=3, seed=0):
    """Activations of both nets, (n, c, p), of which so many are active; a unit of each is silent, one always active."""
    generator, nets = torch.Generator().manual_seed(seed), {}
    for net, units in WIDTHS.items():
        x_spc = torch.zeros(images, positions, units)
        unit_spk = torch.rand(x_spc[..., 2:].shape, generator=generator).topk(active).indices + 2
        x_spc.scatter_(2, unit_spk, torch.rand(unit_spk.shape, generator=generator) + 0.1)
        x_spc[..., 0] = 2 + torch.rand(images, positions, generator=generator)
        nets[net] = x_spc.transpose(1, 2)
    return nets


def dense(packing, positions, blocks):
    return Accumulator("layer", WIDTHS, positions, Arithmetic(torch.zeros(packing.width)), blocks, packing)


def sparse(packing, positions, blocks):
    return SparseAccumulator("layer", WIDTHS, positions, blocks, packing, Activity(30, 0.1, 9.0, 1e4))


def fed(sums, nets, block_n, batch=7, first=0):
    for start in range(first, len(block_n), batch):
        some = slice(start, min(start + batch, len(block_n)))
        sums.begin(block_n[some].tolist())
        for net, x_ncp in nets.items():
            sums.write(net, x_ncp[some])
        sums.end()
    return sums


def differences(one, other):
    """The largest of all parts of two records, of sums of products relative to the units' own."""
    scale_ku = one.moments().scatter_uu.diagonal(dim1=1, dim2=2).clamp(min=1e-30).sqrt()
    relative = (one.moments().scatter_uu - other.moments().scatter_uu) / (scale_ku[:, :, None] * scale_ku[:, None])
    yield relative.abs().nan_to_num().max()
    yield (one.count_k - other.count_k).abs().max()
    yield (one.mean_ku - other.mean_ku).abs().max()
    assert (one.energies is None) == (other.energies is None)
    if one.energies is not None:
        for name in ("mean_ki", "with_energies_kij", "with_units_kiu"):
            here, there = (getattr(of.energies, name) for of in (one, other))
            yield ((here - there).abs() / there.abs().max()).max()


@pytest.mark.parametrize("order", ["block by block", "shuffled"])
@pytest.mark.parametrize("positions", [1, 6])
@pytest.mark.parametrize("energies", [True, False])
def test_sparse_products_give_the_dense_record(order, positions, energies, monkeypatch):
    monkeypatch.setattr(sparse_accumulate, "_PRODUCTS", (300, 300))  # many sums of products, not one
    images, blocks = 90, 3
    block_n = torch.arange(images) * blocks // images
    block_n = block_n[torch.randperm(images)] if order == "shuffled" else block_n
    packing, nets = Packing.of(list(WIDTHS.values()), energies=energies), codes(images, positions)
    records = []
    for make in (dense, sparse):
        sums = fed(make(packing, positions, blocks), nets, block_n)
        sums.close()
        records.append(sums.moments(images))
    assert max(differences(*records)) < 1e-12
    assert not records[1].active("one")[1]
    assert records[1].active("one")[[0, 2]].all()


def test_squares_alone_within_nets():
    packing, nets, block_n = Packing.of(list(WIDTHS.values()), within=False), codes(50, 2), torch.arange(50) % 2
    records = []
    for make in (dense, sparse):
        sums = fed(make(packing, 2, 2), nets, block_n)
        sums.close()
        records.append(sums.moments(50))
    for pair, s_kab in records[0].scatter.items():
        assert torch.allclose(records[1].scatter[pair], s_kab, rtol=1e-12, atol=1e-12)


def test_a_pass_goes_on_where_it_was_stopped(monkeypatch):
    monkeypatch.setattr(sparse_accumulate, "_PRODUCTS", (300, 300))
    packing, nets, block_n = Packing.of(list(WIDTHS.values())), codes(90, 2), torch.arange(90) * 3 // 90
    whole = fed(sparse(packing, 2, 3), nets, block_n)
    part = fed(sparse(packing, 2, 3), {net: x_ncp[:42] for net, x_ncp in nets.items()}, block_n[:42])
    rest = sparse(packing, 2, 3)
    rest.load_state(part.state())
    fed(rest, nets, block_n, first=42)
    records = []
    for sums in (whole, rest):
        sums.close()
        records.append(sums.moments(90))
    assert all(torch.equal(records[1].scatter[pair], s_kab) for pair, s_kab in records[0].scatter.items())


def _one_of_two(rank, port, queue):
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    packing, block_n = Packing.of(list(WIDTHS.values())), torch.arange(90) * 3 // 90
    mine = block_n < 1 if rank else block_n >= 1  # a block that only one of them has
    nets = {net: x_ncp[mine] for net, x_ncp in codes(90, 2).items()}
    sums = fed(sparse(packing, 2, 3), nets, block_n[mine])
    sums.close()
    sums.over_processes()
    queue.put({pair: s_kab.numpy() for pair, s_kab in sums.moments(90).scatter.items()})
    torch.distributed.destroy_process_group()


def test_two_processes_have_the_sums_of_one():
    packing, block_n = Packing.of(list(WIDTHS.values())), torch.arange(90) * 3 // 90
    alone = fed(sparse(packing, 2, 3), codes(90, 2), block_n)
    alone.close()
    scatter = alone.moments(90).scatter
    port, queue = free_port(), CONTEXT.Queue()
    processes = [CONTEXT.Process(target=_one_of_two, args=(rank, port, queue)) for rank in (0, 1)]
    for process in processes:
        process.start()
    both = [queue.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    for of in both:
        for pair, s_kab in scatter.items():
            assert (torch.from_numpy(of[pair]) - s_kab).abs().max() < 1e-12


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_nan_and_infinity_are_refused_with_the_unit(bad):
    nets = codes(20, 1)
    nets["two"][13, 5] = bad
    with pytest.raises(InputError, match=r"net two gives NaN or infinite activations \(unit 5, from batch 1 on\)"):
        fed(sparse(Packing.of(list(WIDTHS.values())), 1, 2), nets, torch.zeros(20, dtype=torch.long))


class TopK(torch.nn.Module):
    """So many units, of which few are active."""

    def __init__(self, units, active):
        super().__init__()
        self.linear, self.active = torch.nn.Linear(16, units), active

    def forward(self, x):
        x = self.linear(x)
        return torch.zeros_like(x).scatter(1, (top := x.topk(self.active)).indices, top.values)


@pytest.mark.parametrize(("units", "active", "expected"), [(600, 8, "sparse"), (600, 60, "dense"), (100, 2, "dense")])
def test_wide_layers_that_are_nearly_all_zero_have_sparse_products(units, active, expected, monkeypatch):
    made = []
    monkeypatch.setattr(SparseAccumulator, "__init__", _noted(SparseAccumulator.__init__, made))
    nets, x = {name: torch.nn.Sequential(TopK(units, active)) for name in "ab"}, torch.randn(200, 16)
    auto = measure(nets, [x], ["0"], Reading(blocks=4))["0"]
    assert bool(made) == (expected == "sparse")
    portable = measure(nets, [x], ["0"], Reading(blocks=4, products="portable"))["0"]
    assert len(made) == (expected == "sparse")
    assert (auto.pair("a", "b").corr_ab - portable.pair("a", "b").corr_ab).abs().max() < 1e-12


def _noted(function, made):
    def noting(self, *args, **options):
        made.append(self)
        function(self, *args, **options)

    return noting
