"""Joint histograms counted while nets read the images: exact, fold by fold, beside the moments."""

from functools import reduce
from operator import add

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from convergent.analysis.information import nats as nats_of
from convergent.core.alignment import align
from convergent.core.blocks import block_of_image
from convergent.core.histogram_counter import HistogramCounter
from convergent.core.histogram_edges import edges_of
from convergent.core.histogram_source import Counting
from convergent.core.mutual_information import information
from convergent.core.pairs import Pair
from convergent.errors import InputError
from convergent.methods.mutual_information import MutualInformation
from convergent.storage.tensors import opened, save_tensors
from convergent.streaming.callback import HistogramsCallback, MomentsCallback, _first_images
from convergent.streaming.histograms.histogram_pass import HistogramPass, calibration_images
from convergent.streaming.histograms.saved_histograms import SavedHistograms
from convergent.streaming.layers import random_positions
from convergent.streaming.measure import collect
from convergent.streaming.module import Nets
from convergent.streaming.reading import Reading

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
WIDTHS = (3, 4, 2)


def nets():
    torch.manual_seed(0)
    return {f"net{i}": nn.Sequential(nn.Conv2d(1, w, 3), nn.ReLU(inplace=True)) for i, w in enumerate(WIDTHS)}


def dataset(n=60):
    return TensorDataset(torch.randn(n, 1, 8, 8), torch.zeros(n), torch.arange(n))


def counted(nets, loader, *more, samples=1_000_000, folds=5, pairs=None, **reading):
    counting = Counting(bins=5, samples=samples, folds=folds)
    callback = HistogramsCallback(["1"], counting, Reading(blocks=8, **reading), pairs)
    pl.Trainer(accelerator="cpu", callbacks=[*more, callback], use_distributed_sampler=False, **QUIET).predict(
        Nets(nets), loader, return_predictions=False
    )
    return callback.histograms["1"]


def activations(nets, data):
    """Shape (images, units of all nets, positions)."""
    with torch.no_grad():
        return torch.cat([net.eval()(data.tensors[0].clone()) for net in nets.values()], 1).flatten(2)


def in_memory(x_nup, edges_ue, of_image=slice(None)):
    counter = HistogramCounter({f"net{i}": w for i, w in enumerate(WIDTHS)}, edges_ue)
    counter.add(x_nup[of_image].transpose(0, 1).flatten(1))
    return counter.histograms()


def assert_equal(one, two):
    assert one.count == two.count
    assert torch.equal(one.counts_ui, two.counts_ui)
    assert one.above.keys() == two.above.keys()
    assert all(torch.equal(one.above[pair], two.above[pair]) for pair in one.above)


def loaders(data):
    return [DataLoader(data, 60), DataLoader(data, 7), DataLoader(data, 11, shuffle=True)]


def test_counts_are_those_of_all_activations_fold_by_fold():
    three, data = nets(), dataset()
    x_nup = activations(three, data)
    histograms = counted(three, DataLoader(data, 60))
    edges_ue = edges_of(x_nup.transpose(0, 1).flatten(1), 5)
    assert torch.allclose(
        histograms.parts[0].edges_ue, edges_ue, atol=1e-6
    )  # the nets' own rounding varies with the batch
    fold_n = block_of_image(60, 8) % 5
    for fold, part in enumerate(histograms.parts):
        assert_equal(part, in_memory(x_nup, part.edges_ue, fold_n == fold))
    assert reduce(add, histograms.parts).count == 60 * 36


def test_batches_and_their_order_change_nothing(monkeypatch):
    monkeypatch.setattr(
        "convergent.streaming.histograms.layer_histograms.SAMPLES", 300
    )  # so that some wait for others, and some do not
    three, data = nets(), dataset()
    data.tensors[0].mul_(4).round_()  # few distinct numbers and weights: the nets' sums are exact
    for net in three.values():
        net[0].weight.data.mul_(8).round_()
        net[0].bias.data.zero_()
    first, *others = [counted(three, loader, samples=600) for loader in loaders(data)]
    assert sum(part.count for part in first.parts) == 600
    for other in others:
        for one, two in zip(first.parts, other.parts):
            assert_equal(one, two)


def test_some_positions_are_the_seeded_ones():
    three, data = nets(), dataset()
    histograms = reduce(add, counted(three, DataLoader(data, 60), samples=6 * 60, folds=1).parts)
    chosen_np = random_positions(torch.arange(60), 36, 6)
    x_nup = activations(three, data).gather(2, chosen_np[:, None].expand(-1, 9, -1))
    assert_equal(histograms, in_memory(x_nup, histograms.edges_ue))


def test_of_padded_texts_the_same_share_of_every_length_is_counted():
    both = {name: nn.Sequential(nn.Linear(3, width)) for name, width in (("a", 2), ("b", 4))}
    mask_nt = torch.ones(6, 8, dtype=torch.bool)
    mask_nt[0, 2:] = False
    x_ntc = torch.randn(6, 8, 3).masked_fill_(~mask_nt[:, :, None], torch.nan)  # of which none may be taken
    batches = [(x_ntc[:3], mask_nt[:3], torch.arange(3)), (x_ntc[3:, :4], mask_nt[3:, :4], torch.arange(3, 6))]
    reading = Reading(mask=lambda batch: batch[1], forward=lambda net, batch: net(batch[0]), blocks=4)
    start = HistogramPass.start(["0"], reading, None, Counting(bins=3, samples=6 * 4, folds=2))
    (histograms,) = collect(both, batches, [start], reading)
    counts = [part.count for part in histograms["0"].parts]
    of_first = int(
        (random_positions(torch.arange(1), 8, 4) < 2).sum()
    )  # half of the positions, two of which are no padding
    assert sum(counts) == of_first + 2 * 4 + 3 * 2
    assert all(counts)


def test_a_layer_that_is_called_twice_is_counted_call_by_call():
    shared = {name: nn.Linear(3, 3) for name in "ab"}
    both, x_nc = {name: nn.Sequential(layer, layer) for name, layer in shared.items()}, torch.randn(50, 3)
    start = HistogramPass.start(["0#0", "0#1"], Reading(), None, Counting(bins=4, folds=1))
    (histograms,) = collect(both, [x_nc], [start], Reading())
    x_ncs = {"0#0": [layer(x_nc) for layer in shared.values()], "0#1": [net(x_nc) for net in both.values()]}
    for layer, x_nas in x_ncs.items():
        x_us = torch.cat(x_nas, 1).T.detach()
        counter = HistogramCounter(dict.fromkeys("ab", 3), edges_of(x_us, 4))
        counter.add(x_us)
        assert_equal(histograms[layer].parts[0], counter.histograms())


@pytest.mark.parametrize("block_memory", [1e9, 3600])
def test_beside_moments_the_folds_are_the_same_images(block_memory):
    three, data = nets(), dataset()
    moments = MomentsCallback(["1"], Reading(blocks=8, block_memory=block_memory))
    histograms = counted(three, DataLoader(data, 60), moments, block_memory=block_memory)
    layer = moments.moments["1"]
    assert (len(layer.count_k) == 8) == (block_memory == 1e9)
    pair = histograms.with_moments(layer.pair(2, 0))
    folds = len(histograms.parts)
    assert folds == min(5, len(layer.count_k))
    for fit, rest in pair.folds(5):
        assert fit.joint.histograms(5).count == fit.count
        assert rest.joint.histograms(5).count == rest.count
    assert [part.count for part in histograms.parts] == [rest.count for _, rest in pair.folds(5)]
    with pytest.raises(InputError, match=r"counted in \d folds of the images, not in 2"):
        next(pair.folds(2))
    with pytest.raises(InputError, match="have 5 bins, not 10"):
        MutualInformation()(pair)


def test_from_a_pass_and_from_samples_at_hand_partners_are_the_same():
    three, data = nets(), dataset()
    moments = MomentsCallback(["1"], Reading(blocks=8))
    histograms = counted(three, DataLoader(data, 60), moments)
    x_su = activations(three, data).transpose(1, 2).flatten(0, 1)
    method = MutualInformation(bins=5)
    for a, b in ((0, 1), (1, 0), (2, 1)):
        units = [slice(sum(WIDTHS[:net]), sum(WIDTHS[: net + 1])) for net in (a, b)]
        pair = histograms.with_moments(moments.moments["1"].pair(a, b))
        expected = Pair.of(x_su[:, units[0]], x_su[:, units[1]])
        for one, two in ((pair, expected), (pair.flip(), expected.flip())):
            assert torch.equal(method(one).partner_b, method(two).partner_b)
            nats = [nats_of(align(method, each)).scalars["nats"] for each in (one, two)]
            assert nats[0] == pytest.approx(nats[1], abs=1e-3)


def dense(units=24):
    torch.manual_seed(1)
    return {name: nn.Sequential(nn.Flatten(), nn.Linear(64, units), nn.ReLU()) for name in ("one", "two")}


def test_edges_are_those_of_all_images_where_there_are_no_more_than_digits_has():
    two, data = dense(), dataset(1797)
    moments = MomentsCallback(["2"], Reading(blocks=8))
    callback = HistogramsCallback(["2"], reading=Reading(blocks=8))
    loader = DataLoader(data, 100)
    pl.Trainer(accelerator="cpu", callbacks=[moments, callback], **QUIET).predict(Nets(two), loader)
    pair = callback.histograms["2"].with_moments(moments.moments["2"].pair("one", "two"))
    with torch.no_grad():
        exact = Pair.of(*(net.eval()(data.tensors[0]) for net in two.values()))
    nats = [information(each.joint.histograms(10), 0, 1) for each in (pair, exact)]
    assert (nats[0] - nats[1]).abs().max() < 1e-3
    assert torch.equal(*(MutualInformation()(each).partner_b for each in (pair, exact)))


def test_workers_read_the_same_first_images(monkeypatch):
    two, data = Nets(dense()), dataset(100)
    alone = list(_first_images(two, DataLoader(data, 10), 90))
    monkeypatch.setattr("convergent.streaming.loader._ALONE", 40)
    state = torch.get_rng_state()
    by_workers = list(_first_images(two, DataLoader(data, 10, num_workers=2), 90))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.cat([image_n for image_n, _ in alone]).tolist() == block_of_image(100, 100).argsort()[:90].tolist()
    for (image_n, seen), (image_m, seen_again) in zip(alone, by_workers, strict=True):
        assert torch.equal(image_n, image_m)
        assert torch.equal(seen["one"], seen_again["one"])


def test_edges_of_ten_thousand_of_many_more_samples_are_near_enough():
    generator = torch.Generator().manual_seed(0)
    x_us = torch.randn(16, 4, generator=generator) @ torch.randn(4, 100_000, generator=generator)
    x_us = (x_us + torch.randn(x_us.shape, generator=generator)).sub(torch.linspace(-3, 3, 16)[:, None]).clamp(min=0)

    def nats(edges_ue):
        counter = HistogramCounter({"one": 8, "two": 8}, edges_ue)
        counter.add(x_us)
        return information(counter.histograms(), 0, 1)

    assert (nats(edges_of(x_us[:, :10_000])) - nats(edges_of(x_us))).abs().max() < 1e-3


def test_images_that_give_edges_are_all_or_a_bounded_part():
    assert [calibration_images(n) for n in (60, 10_000, 50_000, 800_000, 1_281_167)] == [
        60,
        10_000,
        10_000,
        16_000,
        20_000,
    ]


def test_wide_layers_give_fewer_positions(monkeypatch):
    monkeypatch.setattr(
        "convergent.streaming.histograms.histogram_pass._BYTES", 4 * 9 * 60 * 5
    )  # five positions of all images
    seen = []
    monkeypatch.setattr(
        "convergent.streaming.histograms.histogram_pass.edges_of",
        lambda x_us, bins: seen.append(x_us.shape) or edges_of(x_us, bins),
    )
    three, data = nets(), dataset()
    histograms = counted(three, DataLoader(data, 60))
    (shape,) = seen
    assert shape == (9, 60 * 5)
    assert reduce(add, histograms.parts).count == 60 * 36  # all are counted


def test_files_hold_what_was_counted(tmp_path):
    histograms = counted(nets(), DataLoader(dataset(), 60), pairs=[("net2", "net0")])
    product = SavedHistograms(Counting(5, 10**6, 5))
    product.save(histograms, tmp_path / "x")
    again = product.load(tmp_path / "x", "1", ["net0", "net1", "net2"])
    for one, two in zip(histograms.parts, again.parts):
        assert_equal(one, two)
        assert torch.equal(one.edges_ue, two.edges_ue)
    assert list(again.parts[0].above) == [(0, 2)]
    with pytest.raises(InputError, match="no histograms of net0 with net1"):
        again.joint("net1", "net0")
    assert product.folder == "histograms,bins=5,samples=1000000,folds=5"


def test_a_pass_taken_up_from_its_saved_state_counts_nothing_twice(tmp_path):
    three, data = nets(), dataset()
    x_n, image_n = data.tensors[0], torch.arange(60)

    def started():
        first = iter([(image_n[:30], dict.fromkeys(three, x_n[:30]))])
        return HistogramPass.start(["1"])(three, 60, lambda n: first)

    def read(reading, batches):
        with torch.no_grad(), reading:
            for batch in batches:
                reading.begin(image_n[batch])
                for net in three.values():
                    net(x_n[batch])
                reading.end()
        return reading

    batches = [slice(first, first + 10) for first in range(0, 60, 10)]
    whole = read(started(), batches).finish()["1"]
    killed, resumed = read(started(), batches[:3]), started()
    save_tensors(killed.state(), tmp_path / "state.safetensors")
    with opened(tmp_path / "state.safetensors") as saved:
        state = {name: saved.get_tensor(name) for name in saved.keys()}  # noqa: SIM118  (no mapping)
    assert state["1/0/samples"] == 0  # too few yet for a product: they wait, and are in the state
    read(killed, batches[3:5])  # is no longer of its concern
    resumed.load_state(state)
    resumed_pass = read(resumed, batches[3:])
    for one, two in zip(resumed_pass.finish()["1"].parts, whole.parts):
        assert_equal(one, two)
    assert resumed_pass.images == 60


def test_mistakes_are_one_sentence(monkeypatch):
    three, data = nets(), dataset()
    loader = DataLoader(data, 60)
    with torch.no_grad():
        three["net1"][0].weight[2] = torch.nan
    with pytest.raises(InputError, match=r"Layer 1 of net net1 gives NaN .*unit 2, in the first images"):
        counted(three, loader)
    assert not any(module._forward_hooks for net in three.values() for module in net.modules())
    three = nets()
    monkeypatch.setattr("convergent.streaming.histograms.histogram_pass._CALIBRATION", 1000)
    late = dataset(1100)
    last = block_of_image(1100, 1100).argsort()[-1]  # not among the first thousand
    late.tensors[0][last, 0, 0, 0] = torch.inf
    with pytest.raises(InputError, match=r"Layer 1: Net net0 gives NaN or infinite activations \(unit"):
        counted(three, DataLoader(late, 100))
    with pytest.raises(InputError, match="device needs to be cpu or a GPU that is here, not gpu7"):
        counted(three, loader, device="gpu7")
    three["net1"] = nn.Sequential(nn.Conv2d(1, 2, 5), nn.ReLU())
    with pytest.raises(InputError, match=r"unequal numbers of positions \(16 in net1, 36 in another net\)"):
        counted(three, loader)
    monkeypatch.setattr("convergent.memory.available_memory", lambda: 1)
    with pytest.raises(InputError, match=r"fewer bins.*folds=2.*layers_per_pass=1.*pairs="):
        counted(nets(), loader)
