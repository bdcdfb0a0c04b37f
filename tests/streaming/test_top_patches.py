"""The patches of the statistics pass are those of brute force over all activations."""

import pytest
import torch
from torch import nn

from convergent.streaming.reading import Reading
from convergent.streaming.receptive_fields import Span
from convergent.streaming.top_patches import TopPatches


@pytest.fixture
def nets():
    conv = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 5))
    return {"one": conv.eval(), "two": nn.Sequential(nn.Conv2d(1, 6, 3, stride=2), nn.ReLU()).eval()}


LAYERS = [{"one": "1", "two": "1"}, {"one": "3", "two": "0"}]


def read(collector, nets, x, batches):
    with torch.no_grad(), collector:
        for images in batches:
            collector.begin(images)
            for net in nets.values():
                net(x[images])
            collector.end()


def started(nets, x, **options):
    return TopPatches.start(LAYERS, Reading(), **options)(
        nets, len(x), lambda n: iter([(torch.arange(n), dict.fromkeys(nets, x[:n]))])
    )


@pytest.mark.parametrize("lowest", [False, True])
def test_brute_force(nets, lowest):
    x = torch.randn(40, 1, 7, 7)
    collector = started(nets, x, k=5, lowest=lowest)
    read(collector, nets, x, torch.randperm(40).split(6))
    top = collector.finish()
    assert list(top) == ["1", "3~0"]
    x_ncp = nets["one"][:2](x).flatten(2)
    best_nc = x_ncp.amin(2) if lowest else x_ncp.amax(2)
    order = best_nc.argsort(dim=0, descending=not lowest, stable=True)[:5].T
    patches = top["1"]["one"]
    assert torch.equal(patches.top.image_ck, order)
    for unit in range(4):
        for rank, image in enumerate(order[unit].tolist()):
            assert x_ncp[image, unit, patches.top.position_ck[unit, rank]] == patches.top.activation_ck[unit, rank]
    assert patches.field == (Span(0, 2, 3), Span(0, 2, 3))
    assert patches.across == 3
    assert top["3~0"]["one"].field is None
    assert top["3~0"]["two"].top.image_ck.shape == (6, 5)


def test_a_pass_that_was_stopped_goes_on(nets):
    x, order = torch.randn(30, 1, 7, 7), torch.randperm(30)
    whole, first, second = (started(nets, x) for _ in range(3))
    read(whole, nets, x, order.split(5))
    read(first, nets, x, order[:15].split(5))
    second.load_state({name: tensor.clone() for name, tensor in first.state().items()})
    read(second, nets, x, order[15:].split(5))
    one, other = whole.finish(), second.finish()
    for layer, of_nets in one.items():
        for net, patches in of_nets.items():
            assert torch.equal(patches.top.image_ck, other[layer][net].top.image_ck)
            assert torch.equal(patches.top.position_ck, other[layer][net].top.position_ck)
            assert patches.across == other[layer][net].across


def test_channels_last_axis_sees_the_whole_image():
    class Last(nn.Module):
        def forward(self, x):
            return x.permute(0, 2, 3, 1).flatten(1, 2)

    nets = {"one": nn.Sequential(nn.Conv2d(1, 4, 3), Last())}
    x = torch.randn(3, 1, 7, 7)
    collector = TopPatches.start([{"one": "1"}], Reading())(
        nets, 3, lambda n: iter([(torch.arange(n), {"one": x[:n]})])
    )
    read(collector, nets, x, [torch.arange(3)])
    patches = collector.finish()["1"]["one"]
    assert patches.field is None
    assert patches.top.image_ck.shape == (4, 9)
    assert "whole image" in collector.plan()
