"""Hooks: what is captured, and that the nets are left as they were."""

import hashlib

import pytest
import torch
from torch import nn

from convergent.capture import Capture, find_layer, random_positions, samples
from convergent.errors import InputError


def run(net, layers, x):
    seen = {}
    with Capture({"n": net}, layers, lambda _, layer, y: seen.__setitem__(layer, y.clone())) as capture:
        capture.begin()
        net(x)
        capture.end()
    return seen


def test_what_an_in_place_module_overwrites_later_is_captured_before():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True)).eval()
    seen = run(net, ["1", "2"], torch.randn(5, 1, 8, 8))
    assert (seen["1"] < 0).any()
    assert torch.equal(seen["2"], seen["1"].clamp(min=0))


def test_hooks_go_even_when_the_pass_fails():
    net = nn.Sequential(nn.Linear(2, 2))
    capture = Capture({"n": net}, ["0"], lambda *_: None)
    with pytest.raises(RuntimeError), capture:
        net(torch.zeros(1, 3))
    assert not net[0]._forward_hooks


def test_an_unknown_layer_is_told_with_near_names():
    net = nn.ModuleDict({"conv1": nn.Linear(1, 1), "conv2": nn.Linear(1, 1)})
    with pytest.raises(InputError, match="Net n has no layer 'cnov1'; near names are conv1"):
        find_layer(net, "cnov1", "n")
    with pytest.raises(InputError, match="no layer ''"):
        find_layer(net, "", "n")


def test_a_module_called_twice_is_refused():
    shared = nn.Linear(2, 2)
    net = nn.Sequential(shared, nn.ReLU(), shared)
    with pytest.raises(InputError, match="called more than once"):
        run(net, ["0"], torch.zeros(1, 2))


def test_a_layer_that_is_never_reached_is_refused():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x):
            return self.used(x)

    with pytest.raises(InputError, match="Layer unused of net n was never called"):
        run(Net(), ["used", "unused"], torch.zeros(1, 2))


def test_a_layer_that_returns_no_tensor_is_refused():
    with pytest.raises(InputError, match="returns a tuple"):
        run(nn.Sequential(nn.LSTM(2, 3)), ["0"], torch.zeros(4, 1, 2))


@pytest.mark.parametrize(
    ("shape", "sample", "expected"),
    [
        ((5, 7), "every", (5, 7, 1)),
        ((5, 7, 3, 4), "every", (5, 7, 12)),
        ((5, 9, 7), "every", (5, 7, 9)),
        ((5, 7, 3, 4), "pooled", (5, 7, 1)),
        ((5, 7, 3, 4), "centre", (5, 7, 1)),
        ((5, 7), "centre", (5, 7, 1)),
    ],
)
def test_samples_of_a_layer(shape, sample, expected):
    x = torch.randn(shape)
    taken = samples(x, sample, "here")
    assert taken.shape == expected
    if len(shape) == 4 and sample == "every":
        assert torch.equal(taken[2, 3], x[2, 3].flatten())
        assert taken.data_ptr() == x.data_ptr()  # a view: nothing is copied twice
    if sample == "pooled":
        assert torch.allclose(taken[:, :, 0], x.mean((2, 3)))
    if len(shape) == 4 and sample == "centre":
        assert torch.equal(taken[:, :, 0], x[:, :, 1, 2])


def test_random_positions_are_those_of_the_image_whatever_the_batch_or_the_net():
    x, other = torch.randn(6, 3, 7, 9), torch.randn(6, 5, 7, 9)
    image_n = torch.tensor([8, 3, 1000, 7, 0, 5])
    taken = samples(x, 10, "here", image_n)
    assert taken.shape == (6, 3, 10)
    assert torch.equal(samples(x[[4, 1]], 10, "here", image_n[[4, 1]]), taken[[4, 1]])
    chosen = random_positions(image_n, 63, 10)
    assert torch.equal(taken[2], x[2].flatten(1)[:, chosen[2]])
    assert torch.equal(samples(other, 10, "here", image_n)[2], other[2].flatten(1)[:, chosen[2]])
    assert all(len(set(row)) == 10 for row in chosen.tolist())
    assert samples(x, 63, "here", image_n).shape == (6, 3, 63)


def test_random_positions_are_no_stride_and_favour_none():
    chosen = random_positions(torch.arange(20_000), 49, 7)
    counts = torch.bincount(chosen.flatten(), minlength=49).double()
    assert ((counts - 20_000 / 7).abs() < 6 * (20_000 * 6 / 49) ** 0.5).all()  # six binomial standard deviations
    assert chosen.diff(dim=1).unique().numel() > 20


def test_channels_last_activations_are_the_same_samples():
    x = torch.randn(2, 3, 4, 5)
    assert torch.equal(samples(x.to(memory_format=torch.channels_last), "every", "here"), samples(x, "every", "here"))


@pytest.mark.parametrize(
    ("shape", "sample"), [((2, 3, 4, 5, 6), "every"), ((2, 3, 4, 4), "some"), ((2, 3, 4, 4), 0), ((2, 3, 4), "centre")]
)
def test_what_is_no_sample_is_refused(shape, sample):
    with pytest.raises(InputError, match=r"needed are|needs to be"):
        samples(torch.zeros(shape), sample, "here")


def test_a_net_is_left_as_it_was():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
    digest = lambda: hashlib.sha256(b"".join(t.numpy().tobytes() for t in net.state_dict().values())).hexdigest()  # noqa: E731
    before = digest()
    run(net, ["2"], torch.randn(5, 1, 8, 8))
    assert digest() == before
