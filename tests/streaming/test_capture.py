"""Hooks: what is captured, and that the nets are left as they were."""

import hashlib

import pytest
import torch
from torch import nn

from convergent.errors import InputError
from convergent.streaming.capture import Capture


def run(net, layers, x):
    seen, by_net = {}, {layer: {"n": layer} for layer in layers}
    with Capture({"n": net}, by_net, lambda _, layer, y: seen.__setitem__(layer, y.clone())) as capture:
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
    capture = Capture({"n": net}, {"0": {"n": "0"}}, lambda *_: None)
    with pytest.raises(RuntimeError), capture:
        net(torch.zeros(1, 3))
    assert not net[0]._forward_hooks


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


def test_a_net_is_left_as_it_was():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
    digest = lambda: hashlib.sha256(b"".join(t.numpy().tobytes() for t in net.state_dict().values())).hexdigest()  # noqa: E731
    before = digest()
    run(net, ["2"], torch.randn(5, 1, 8, 8))
    assert digest() == before
