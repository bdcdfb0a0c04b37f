"""A population is several layers' units side by side: as if they came out of one layer, rotated each in its own."""

import pytest
import torch
from torch import nn

from convergent.core.moments import Moments
from convergent.errors import InputError
from convergent.streaming.capture import Capture
from convergent.streaming.layers import resolve
from convergent.streaming.measure import collect, measure
from convergent.streaming.reading import Reading
from convergent.streaming.rotated_pass import SavedRotations


class Stack(nn.Module):
    """Token by token, a few layers one after another."""

    def __init__(self, depth, width=5):
        super().__init__()
        self.h = nn.ModuleList(nn.Sequential(nn.Linear(4, width), nn.GELU(), nn.Linear(width, 4)) for _ in range(depth))

    def forward(self, x):
        for layer in self.h:
            x = x + layer(x)
        return x


@pytest.fixture
def nets():
    return {"a": Stack(2).double(), "b": Stack(3).double()}


def test_its_moments_are_those_of_all_its_layers_activations_side_by_side(nets):
    x = torch.randn(50, 3, 4).double()
    moments = measure(nets, [x[:20], x[20:]], ["mlp=h.*.1"], Reading(blocks=7))["mlp"]
    acts = {"a": [], "b": []}
    for name, net in nets.items():
        for layer in net.h:
            layer[1].register_forward_hook(lambda _, __, y, name=name: acts[name].append(y.detach()))
        net(x)
    expected = Moments.of(torch.cat([torch.cat(acts[name], -1).flatten(0, 1) for name in "ab"], 1))
    total = moments.moments().total
    assert [units.stop - units.start for units in moments.units] == [10, 15]
    assert (total.cov_uu - expected.cov_uu).abs().max() < 1e-12 * expected.cov_uu.abs().max()


def test_each_of_its_layers_is_rotated_before_its_own_nonlinearity(nets):
    x = torch.randn(300, 2, 4).double()
    start = SavedRotations(1).start(["mlp=h.*.1"], Reading(), None)
    (rotated,) = collect(nets, [x], [start], Reading())
    assert not rotated["mlp"].weaker
    pair = rotated["mlp"].pair(0, 1, 0)
    assert (pair.p, pair.q) == (10, 15)
    layers, seen = resolve(nets, ["mlp=h.*.1"]), {}
    from convergent.streaming.rotations import Rotations

    with torch.no_grad():
        first = lambda n: iter([(torch.arange(300), dict.fromkeys(nets, x))])  # noqa: E731
        rotations = Rotations(nets, layers, Reading(), first, lambda _: 1)
        with Capture(nets, layers, lambda net, _, y: seen.__setitem__(net, y.clone()), rotations) as capture:
            capture.run(dict.fromkeys(nets, x))
    recorded, turned = seen["b"], seen["b, rotation 0"]
    assert recorded.shape == turned.shape == (300, 2, 15)
    for k in range(3):  # a rotation of one layer's pre-activations keeps the sum of their variances
        before, after = (_pre(of[..., 5 * k : 5 * k + 5]).flatten(0, 1) for of in (recorded, turned))
        assert torch.allclose(before.var(0).sum(), after.var(0).sum(), rtol=0.05)
        assert not torch.allclose(before, after, atol=0.1)


def _pre(y):
    """Roughly what GELU was of: exact enough for sums of variances, for few values lie where it is not monotone."""
    grid = torch.linspace(-0.75, 9, 40001).double()
    return grid[torch.searchsorted(nn.functional.gelu(grid), y.contiguous()).clamp(max=40000)]


def test_a_pattern_without_a_layer_is_told(nets):
    with pytest.raises(InputError, match="means no layer of net a"):
        resolve(nets, ["mlp=nothing.*"])
