"""The pass over ordinary loaders and nets: exact whatever the loader, the batch and the net."""

from collections import UserDict
from dataclasses import dataclass

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from convergent.core.moments import Moments
from convergent.errors import InputError
from convergent.streaming.callback import MomentsCallback
from convergent.streaming.measure import measure
from convergent.streaming.module import Nets
from convergent.streaming.reading import Reading

N = 60


def nets(widths=(4, 6)):
    return {name: nn.Sequential(nn.Linear(5, w), nn.ReLU(), nn.Dropout(0.5)).double() for name, w in zip("ab", widths)}


@pytest.fixture
def x():
    return torch.randn(N, 5).double()


def truth(both, x, layer="1"):
    with torch.no_grad():
        return Moments.of(torch.cat([net[: int(layer) + 1](x) for net in both.values()], 1))


def same(moments, expected, tolerance=1e-12):
    total = moments.moments().total
    assert total.count == expected.count
    for ours, theirs in ((total.mean_u, expected.mean_u), (total.cov_uu, expected.cov_uu)):
        assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


class Stream(IterableDataset):
    def __init__(self, x):
        self.x = x

    def __iter__(self):
        return iter(self.x)


LOADERS = {
    "a data set": lambda x: DataLoader(TensorDataset(x), 7),
    "pictures and classes": lambda x: DataLoader(TensorDataset(x, torch.zeros(N)), 11, shuffle=True),
    "with numbers": lambda x: DataLoader(TensorDataset(x, torch.zeros(N), torch.arange(N)), 8),
    "a list": lambda x: list(x.split(9)),
    "a tuple": lambda x: x.split(9),
    "a generator": lambda x: (part for part in x.split(13)),
    "a generator of single images": lambda x: (part for part in x.split(1)),
    "one batch": lambda x: [x],
    "a stream": lambda x: DataLoader(Stream(x), 10),
    "batches as items": lambda x: DataLoader(Stream(list(x.split(10))), batch_size=None),
    "a sampler of its own": lambda x: DataLoader(TensorDataset(x), 7, sampler=list(range(N))[::-1]),
}


@pytest.mark.parametrize("kind", LOADERS)
def test_the_moments_are_those_of_all_activations_whatever_the_loader(kind, x):
    both = nets()
    moments = measure(both, LOADERS[kind](x), ["1"])["1"]
    assert moments.images == N
    assert moments.nets == ["a", "b"]
    same(moments, truth(both, x))
    assert len(moments.count_k) == N  # of 64 blocks those that have an image


def test_moments_are_those_of_the_commands_pass_bit_for_bit():
    both, x = {name: net.float() for name, net in nets().items()}, torch.randn(N, 5)
    data = TensorDataset(x, torch.zeros(N), torch.arange(N))
    callback, quiet = MomentsCallback(["0", "1"], Reading(blocks=8)), {"logger": False, "enable_progress_bar": False}
    trainer = pl.Trainer(accelerator="cpu", callbacks=[callback], enable_checkpointing=False, **quiet)
    trainer.predict(Nets(both), DataLoader(data, 7), return_predictions=False)
    for given in (data, TensorDataset(x)):
        ours = measure(both, DataLoader(given, 7), ["0", "1"], Reading(blocks=8))
        for layer, theirs in callback.moments.items():
            assert torch.equal(ours[layer].count_k, theirs.count_k)
            assert torch.equal(ours[layer].mean_ku, theirs.mean_ku)
            assert all(torch.equal(ours[layer].scatter[ij], theirs.scatter[ij]) for ij in theirs.scatter)


def test_blocks_of_a_loader_without_length_are_of_equal_sizes_up_to_one_and_not_of_the_batches(x):
    both, reading = nets(), Reading(blocks=8)
    parts = [measure(both, (part for part in x.split(size)), ["1"], reading)["1"] for size in (7, 60)]
    assert parts[0].count_k.max() - parts[0].count_k.min() <= 1
    assert torch.equal(parts[0].count_k, parts[1].count_k)
    assert torch.allclose(parts[0].mean_ku, parts[1].mean_ku, rtol=1e-12)


def test_nets_are_left_as_they_were_even_after_an_error(x):
    both = nets()
    both["a"].train()
    both["b"].eval()
    both["a"][2].eval()
    state = torch.get_rng_state()
    measure(both, [x], ["1"])

    class Stops:
        def __iter__(self):
            yield x
            raise KeyError("the disk is gone")

    with pytest.raises(KeyError):
        measure(both, Stops(), ["1"])
    assert torch.equal(torch.get_rng_state(), state)
    assert both["a"].training
    assert not both["a"][2].training
    assert not both["b"].training
    assert not any(module._forward_hooks for net in both.values() for module in net.modules())


class Words(nn.Module):
    """A transformer that takes a tokenizer's batch."""

    def __init__(self, width=8):
        super().__init__()
        self.embedding = nn.Embedding(50, width)
        layer = nn.TransformerEncoderLayer(width, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, 3)

    def forward(self, input_ids, attention_mask):
        x = self.encoder(self.embedding(input_ids), src_key_padding_mask=attention_mask == 0)
        return self.head(x[:, 0])


def texts(n=20, most=9):
    generator = torch.Generator().manual_seed(3)
    lengths = torch.randint(2, most + 1, (n,), generator=generator).tolist()
    return [torch.randint(50, (length,), generator=generator) for length in lengths]


def padded(some):
    mask = nn.utils.rnn.pad_sequence([torch.ones(len(text)) for text in some], batch_first=True).long()
    return UserDict(input_ids=nn.utils.rnn.pad_sequence(some, batch_first=True), attention_mask=mask)


@pytest.mark.parametrize("sample", ["every", "pooled"])
@pytest.mark.parametrize("drop", [(), (0,)])
def test_a_padded_batch_gives_what_texts_give_that_are_not_padded(sample, drop):
    both = {"a": Words().double(), "b": Words(12).double()}
    reading = Reading(sample=sample, drop=drop, blocks=4)
    layers = ["encoder.layers.0", "encoder.layers.1", "head"]
    one, many = (
        measure(both, [padded(texts()[i : i + size]) for i in range(0, 20, size)], layers, reading) for size in (1, 7)
    )
    samples = 20 if sample == "pooled" else sum(len(text) - len(drop) for text in texts())
    assert one["head"].count_k.sum() == 20
    for layer in layers:
        expected = one[layer].moments().total
        if layer != "head":
            assert expected.count == samples
        same(many[layer], expected)


def test_masked_positions_are_the_ones_of_the_mask(x):
    both = {name: nn.Sequential(nn.Identity(), nn.Linear(5, w)).double() for name, w in (("a", 3), ("b", 4))}
    x_ntc, mask_nt = torch.randn(12, 6, 5).double(), torch.rand(12, 6) < 0.5
    mask_nt[3] = False  # a text of padding alone
    reading = Reading(mask=lambda batch: mask_nt[batch[1]], blocks=3)
    moments = measure(both, [(x_ntc[i : i + 5], torch.arange(12)[i : i + 5]) for i in (0, 5, 10)], ["1"], reading)["1"]
    with torch.no_grad():
        x_su = torch.cat([net(x_ntc[mask_nt]) for net in both.values()], 1)
    same(moments, Moments.of(x_su))
    some = measure(both, [(x_ntc, torch.arange(12))], ["1"], Reading(mask=reading.mask, sample=3, blocks=3))["1"]
    assert 0 < some.count_k.sum() < mask_nt.sum()


def test_positions_may_be_dropped():
    both = {name: nn.Sequential(nn.Linear(5, w)).double() for name, w in (("a", 3), ("b", 4))}
    x_ntc = torch.randn(12, 6, 5).double()
    moments = measure(both, [x_ntc], ["0"], Reading(drop=[0, -1]))["0"]
    with torch.no_grad():
        same(moments, Moments.of(torch.cat([net(x_ntc[:, 1:-1]).flatten(0, 1) for net in both.values()], 1)))
    with pytest.raises(InputError, match="has 6 positions, all of which are dropped"):
        measure(both, [x_ntc], ["0"], Reading(drop=range(6)))


class Recurrent(nn.Module):
    """A cell that is called once for every position."""

    def __init__(self, width):
        super().__init__()
        self.width, self.cell = width, nn.LSTMCell(5, width)

    def forward(self, x_ntc):
        state = None
        for x_nc in x_ntc.unbind(1):
            state = self.cell(x_nc, state)
        return state[0]


def test_a_recurrent_cell_is_compared_call_by_call():
    both = {"a": Recurrent(3).double(), "b": Recurrent(4).double()}
    x_ntc = torch.randn(N, 6, 5).double()
    for output, place in ((None, 0), (1, 1)):
        moments = measure(both, [x_ntc], ["cell#0", "cell#5"], Reading(output=output))
        with torch.no_grad():
            states = []
            for net in both.values():
                state = None
                for x_nc in x_ntc.unbind(1):
                    state = net.cell(x_nc, state)
                states.append(state[place])
        same(moments["cell#5"], Moments.of(torch.cat(states, 1)))
        assert (moments["cell#0"].mean_ku.sum() - moments["cell#5"].mean_ku.sum()).abs() > 1e-6
    with pytest.raises(InputError, match=r"called more than once .* as cell#0"):
        measure(both, [x_ntc], ["cell"])


@dataclass
class Graphs:
    """A batch of a kind of its own."""

    features: torch.Tensor

    def to(self, device):
        return Graphs(self.features.to(device))


def test_forward_says_how_a_net_takes_any_batch(x):
    both = nets()
    taken = Reading(forward=lambda net, batch: net(batch["inputs"]["left"]))
    same(measure(both, [{"inputs": {"left": x}, "label": x}], ["1"], taken)["1"], truth(both, x))
    three = Reading(forward=lambda net, batch: net(batch[0]))
    same(measure(both, [(x, x, torch.zeros(N).long())], ["1"], three)["1"], truth(both, x))


class Fails(nn.Module):
    def forward(self, x):
        return x[:, :0]


class First(nn.Module):
    """A layer whose first axis is not the batch."""

    def forward(self, x):
        return x.T


@pytest.mark.parametrize(
    ("loader", "layers", "message"),
    [
        ([], ["1"], "The loader gives no batch"),
        (iter(()), ["1"], "The loader gives no batch; a generator is read but once"),
        (torch.zeros(3, 5), ["1"], r"not be float32 of shape \(3, 5\); give a DataLoader, or .batch."),
        ((torch.zeros(3, 5), torch.zeros(3)), ["1"], "one batch after another"),
        (TensorDataset(torch.zeros(3, 5)), ["1"], "one batch after another, not be a TensorDataset; give a DataLoader"),
        (["cat.png"], ["1"], "A batch needs to be a tensor, .*, not a str; say how .*forward="),
        ([{"input": torch.zeros(3, 5).double()}], ["relu", "1"], "Net a has no layer 'relu'; near names are 0, 1, 2"),
        (
            [{"pixels": torch.zeros(3, 5).double()}],
            ["1"],
            r"Net a does not take a batch of pixels \(.*input.*forward=",
        ),
        ([(torch.zeros(3, 5).double(), 0, torch.zeros(3).long())], ["1"], "numbers of its images, but one comes twice"),
        ([(torch.zeros(3, 5).double(), 0, torch.rand(3))], ["1"], "whole ones, not float32"),
        ([(torch.zeros(3, 5).double(), 0, torch.arange(1, 4))], ["1"], "from 0 to 2 in a data set of 3"),
        ([torch.full((3, 5), torch.nan).double()], ["1"], "NaN or infinite activations"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_sentence(loader, layers, message):
    with pytest.raises(InputError, match=message) as caught:
        measure(nets(), loader, layers)
    assert str(caught.value).rstrip(".").count(". ") == 0


def test_nets_and_layers_that_cannot_be_are_refused_in_one_sentence(x):
    net = nets()["a"]
    for given, message in (
        ({"a": net, "b": net}, "Nets a and b are one and the same module"),
        ({}, "There are no nets"),
        ({"a": "resnet18"}, "Nets need to be modules by name, .* not 'a': a str"),
        ([net, "resnet18"], "not 'net1': a str"),
    ):
        with pytest.raises(InputError, match=message):
            measure(given, [x], ["1"])
    with pytest.raises(InputError, match=r"gives 5 activations for a batch of 60 images; .*batch_first=True"):
        measure({"a": nn.Sequential(First())}, [x], ["0"])


def test_masks_that_do_not_fit_are_refused_in_one_sentence():
    net, x_ntc = {"a": nn.Sequential(nn.Linear(5, 3)).double()}, torch.randn(4, 6, 5).double()
    for mask, message in (
        (lambda x: x[:, :, 0, None].bool(), r"a row for each of the 4 images .*, not bool of shape \(4, 6, 1\)"),
        (lambda x: torch.ones(4, 5), "Layer 0 of net a has 6 positions, but the mask 5; .*mask=None"),
        (lambda x: [1, 1], "A mask needs to be a tensor"),
        (lambda x: torch.ones(3, 6), "for each of the 4 images"),
    ):
        with pytest.raises(InputError, match=message):
            measure(net, [x_ntc], ["0"], Reading(mask=mask))
    with pytest.raises(InputError, match="has no mask 'padding'"):
        measure(net, [{"input": x_ntc}], ["0"], Reading(mask="padding"))
    with pytest.raises(InputError, match="have no centre"):
        measure(net, [x_ntc], ["0"], Reading(mask=lambda x: torch.ones(4, 6), sample="centre"))
