import random

import pytest
import torch
import torchvision
from torch import nn

from convergent.nets.caffenet import CaffeNet
from convergent.streaming.receptive_fields import Span, receptive_fields


class Branched(nn.Module):
    """Two ways from the image, added, and both beside each other."""

    def __init__(self, one, other, *, added):
        super().__init__()
        self.one, self.other, self.added = one, other, added

    def forward(self, x):
        one, other = self.one(x), self.other(x)
        return one.add_(other) if self.added else torch.cat([one, other], 1)


def _windowed(pick, channels):
    kernel, stride = pick.choice([(1, 1), (2, 2), (3, 1), (3, 2), ((5, 3), (2, 1)), (4, 3)])
    padding = pick.choice([0, 1]) if kernel not in (1, 2) else 0
    if pick.random() < 0.4:
        return nn.AvgPool2d(kernel, stride, padding)  # in place of a maximum, whose gradient is one pixel's
    dilation = pick.choice([1, 2])
    return nn.Conv2d(channels, channels, kernel, stride, padding, dilation)


def random_net(seed, channels=2):
    """Convolutions, poolings and branches, linear with positive weights: each pixel that is seen has a gradient."""
    pick = random.Random(seed)
    parts = [nn.Identity()]
    for _ in range(pick.randint(1, 4)):
        parts.append(_windowed(pick, channels))
        if pick.random() < 0.5:
            sizes = pick.sample([1, 3, 5], 2)
            ways = [nn.Conv2d(channels, channels, size, padding=size // 2) for size in sizes]
            parts.append(Branched(*ways, added=True))
        parts += pick.sample([nn.BatchNorm2d(channels), nn.ReLU(inplace=True), nn.ZeroPad2d((2, 0, 1, 0))], 1)
    net = nn.Sequential(*parts).eval()
    for parameter in net.parameters():
        nn.init.constant_(parameter, 0.5)
    return net


@pytest.mark.parametrize("seed", range(12))
def test_pixels_with_a_gradient_are_those_of_the_field(seed):
    net = random_net(seed)
    x = torch.rand(1, 2, 133, 101).double().add(0.1).requires_grad_()
    y = net.double()(x)
    field = receptive_fields(net, x.detach(), {"last": str(len(net) - 1)})["last"]
    exact = 0
    for place in [(0, 0), (y.shape[2] - 1, y.shape[3] - 1), (y.shape[2] // 2, y.shape[3] // 2)]:
        (gradient,) = torch.autograd.grad(y[0, :, *place].sum(), x, retain_graph=True)
        seen = gradient[0].abs().sum(0) > 0
        for span, position, size, on_axis in zip(field, place, seen.shape, (seen.any(1), seen.any(0))):
            pixels, exact_pixels = span.pixels(position), on_axis.nonzero()[:, 0].tolist()
            assert set(exact_pixels) <= set(pixels)
            if pixels.start >= 0 and pixels.stop <= size:  # padding at the border hides some of it
                exact += 1
                assert (pixels.start, pixels.stop - 1) == (exact_pixels[0], exact_pixels[-1])
    assert exact


def test_caffenet():
    fields = receptive_fields(
        CaffeNet(classes=2), torch.zeros(1, 3, 227, 227), {f"conv{n}": f"conv{n}" for n in range(1, 6)}
    )
    sizes = {name: (field[0].size, field[0].step) for name, field in fields.items()}
    # known of AlexNet's stack: 11, 51, 99, 131, 163 pixels
    assert sizes == {"conv1": (11, 4), "conv2": (51, 8), "conv3": (99, 16), "conv4": (131, 16), "conv5": (163, 16)}


def test_residual_and_dense_nets():
    net = torchvision.models.resnet18().eval()
    fields = receptive_fields(
        net, torch.zeros(1, 3, 64, 64), {"stem": "maxpool", "block": "layer1.0", "next": "layer2.0"}
    )
    assert fields["stem"] == (Span(-5, 4, 11),) * 2
    assert fields["block"] == (Span(-13, 4, 27),) * 2
    assert fields["next"] == (Span(-33, 8, 67),) * 2
    net = torchvision.models.densenet121().eval()
    assert receptive_fields(net, torch.zeros(1, 3, 64, 64), {"all": "features"})["all"][0].size > 64


UNKNOWN = [
    nn.AdaptiveAvgPool2d(2), nn.Upsample(scale_factor=2), nn.GroupNorm(1, 2), nn.Flatten(), nn.ReflectionPad2d(1)
]  # fmt: skip


@pytest.mark.parametrize("last", UNKNOWN)
def test_what_is_not_known_sees_everything(last):
    net = nn.Sequential(nn.Conv2d(2, 2, 3), last, nn.ReLU())
    assert receptive_fields(net, torch.zeros(1, 2, 8, 8), {"x": "2"}) == {"x": None}


def test_a_gate_over_the_whole_image_makes_everything_see_it():
    net = Branched(nn.Conv2d(2, 2, 3, padding=1), nn.AdaptiveAvgPool2d(1), added=True)
    assert receptive_fields(nn.Sequential(net), torch.zeros(1, 2, 8, 8), {"x": "0"}) == {"x": None}


def test_branches_side_by_side_see_what_either_sees():
    net = Branched(nn.Conv2d(2, 2, (3, 5), padding=(1, 2)), nn.Conv2d(2, 2, 1), added=False)
    field = receptive_fields(nn.Sequential(net), torch.zeros(1, 2, 8, 8), {"x": "0"})["x"]
    assert field == (Span(-1, 1, 3), Span(-2, 1, 5))


@pytest.mark.parametrize(
    "joined", [lambda x: torch.cat([x, x], 2), lambda x: x.chunk(2, dim=-1)[1], lambda x: x[:, :, 1:]]
)
def test_maps_put_together_or_cut_see_everything(joined):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.ReLU()

        def forward(self, x):
            return self.last(joined(x))

    assert receptive_fields(Net(), torch.zeros(1, 2, 8, 8), {"x": "last"}) == {"x": None}


def test_halves_of_the_channels_see_what_all_of_them_do():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.last = nn.Conv2d(2, 4, 3), nn.ReLU()

        def forward(self, x):
            return self.last(self.conv(x).chunk(2, 1)[1])

    assert receptive_fields(Net(), torch.zeros(1, 2, 8, 8), {"x": "last"}) == {"x": (Span(0, 1, 3), Span(0, 1, 3))}
