"""Hooks: what is captured, and that the nets are left as they were."""

import hashlib
from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from convergent.errors import InputError
from convergent.streaming.capture import Capture


def run(net, layers, x, output=None):
    seen, by_net = {}, {layer: {"n": layer} for layer in layers}
    keep = lambda _, layer, y: seen.__setitem__(layer, y.clone())  # noqa: E731
    with Capture({"n": net}, by_net, keep, output=output) as capture:
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


def test_of_a_module_called_twice_each_call_has_a_name():
    shared = nn.Linear(2, 2)
    net, x = nn.Sequential(shared, nn.ReLU(), shared), torch.randn(3, 2)
    seen = run(net, ["0#0", "0#1"], x)
    assert torch.equal(seen["0#0"], shared(x))
    assert torch.equal(seen["0#1"], shared(shared(x).relu()))
    with pytest.raises(InputError, match=r"0 of net n is called more than once .*, as 0#0 for the first one"):
        run(net, ["0"], x)
    with pytest.raises(InputError, match="Layer 0#2 of net n was called 2 times only"):
        run(net, ["0#2"], x)
    with pytest.raises(InputError, match="has no layer 'zero#0'; near names are 0, 1, 2"):
        run(net, ["zero#0"], x)


def test_a_module_that_two_nets_share_is_refused():
    shared = nn.Linear(2, 2)
    nets = {name: nn.Sequential(shared, nn.Linear(2, width)) for name, width in (("a", 3), ("b", 4))}
    Capture(nets, {"1": dict.fromkeys("ab", "1")}, lambda *_: None)
    with pytest.raises(InputError, match="Layer 0 of nets a and b is one and the same module"):
        Capture(nets, {"0": dict.fromkeys("ab", "0")}, lambda *_: None)


def test_a_layer_that_is_never_reached_is_refused():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x):
            return self.used(x)

    with pytest.raises(InputError, match="Layer unused of net n was never called"):
        run(Net(), ["used", "unused"], torch.zeros(1, 2))


@dataclass
class Record:
    hidden: torch.Tensor
    weights: torch.Tensor


class Returns(nn.Module):
    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, x):
        return self.make(x, 2 * x)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda x, y: (x, y), 1),
        (lambda x, y: [x, (y, x)], -1),
        (lambda x, y: {"hidden": x, "weights": y}, "weights"),
        (Record, "weights"),
        (namedtuple("Named", ["hidden", "weights"]), "weights"),
        (namedtuple("Named", ["hidden", "weights"]), 1),
    ],
)
def test_of_an_output_of_several_tensors_the_first_or_the_named_one_is_taken(make, name):
    net, x = nn.Sequential(Returns(make)), torch.randn(4, 3)
    assert torch.equal(run(net, ["0"], x)["0"], x)
    assert torch.equal(run(net, ["0"], x, name)["0"], 2 * x)


def test_a_layer_that_returns_no_tensor_is_refused():
    for make, message in ((lambda x, y: "text", "returns a str, not a tensor"), (lambda x, y: (), "returns a tuple")):
        with pytest.raises(InputError, match=message):
            run(nn.Sequential(Returns(make)), ["0"], torch.zeros(4, 2))
    with pytest.raises(InputError, match="returns hidden, weights, but no attention; name one of these as output="):
        run(nn.Sequential(Returns(Record)), ["0"], torch.zeros(4, 2), "attention")


def test_a_net_is_left_as_it_was():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
    digest = lambda: hashlib.sha256(b"".join(t.numpy().tobytes() for t in net.state_dict().values())).hexdigest()  # noqa: E731
    before = digest()
    run(net, ["2"], torch.randn(5, 1, 8, 8))
    assert digest() == before
