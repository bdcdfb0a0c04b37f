import pytest
import torch
from torch import nn

from convergent.report.ascent import Ascent


def test_a_filter_prefers_itself():
    net = nn.Sequential(nn.Conv2d(1, 4, 5), nn.ReLU()).eval()
    images = Ascent(jitter=0, smoothness=0, steps=64).pictures(net, "1", [0, 1, 2, 3], (1, 9, 9), -1, 1)
    pictures, reached = images.picture_uchw, images.activation_u
    assert images.position == 12
    for unit, picture in enumerate(pictures):
        weight = net[0].weight[unit, 0].detach()
        assert torch.equal(picture[0, 2:7, 2:7].sign(), weight.sign())  # the map's centre sees these pixels
        assert reached[unit] == pytest.approx(float(weight.abs().sum() + net[0].bias[unit].detach()), rel=1e-4)
        assert picture[0, 0].abs().max() < 0.1  # what the unit does not see stays as faint as it was


def test_a_known_pattern_is_found_through_rectifiers_that_begin_silent():
    pattern = torch.randn(2, 1, 8, 8)
    net = nn.Sequential(nn.Conv2d(1, 2, 8), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(2, 2), nn.ReLU()).eval()
    with torch.no_grad():
        net[0].weight.copy_(pattern)
        net[0].bias.fill_(-20.0)  # silent for anything but its pattern
        net[3].weight.copy_(torch.eye(2))
        net[3].bias.zero_()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    images = Ascent(jitter=0).pictures(net, "4", [0, 1], (1, 8, 8), -3, 3)
    pictures, reached = images.picture_uchw, images.activation_u
    assert (reached > 1).all()
    assert (pictures.sign() == pattern.sign()).float().mean() > 0.95  # within bounds each pixel goes as far as it may
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())


def test_smooth_pictures_are_smooth_and_bounds_hold():
    net = nn.Sequential(nn.Conv2d(3, 2, 7)).eval()
    low = torch.tensor([-0.5, -1.0, -2.0])[:, None, None]

    def rough(weight):
        pictures = Ascent(smoothness=weight, steps=40).pictures(net, "0", [0, 1], (3, 16, 16), low, 1).picture_uchw
        assert (pictures >= low).all()
        assert (pictures <= 1).all()
        return float(pictures.diff(dim=3).square().mean())

    assert rough(20.0) < rough(0.0) / 2


def test_the_same_seed_gives_the_same_picture():
    net = nn.Sequential(nn.Conv2d(1, 2, 3)).eval()
    one, other = (Ascent(steps=5).pictures(net, "0", [1], (1, 6, 6)).picture_uchw for _ in range(2))
    assert torch.equal(one, other)
