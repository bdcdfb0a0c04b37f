"""The paper's net against its published figures."""

import pytest
import torch

from convergent.nets.caffenet import CaffeNet
from convergent.training.optimizers import caffe_sgd

SHAPES = {
    "conv1": (96, 55, 55), "norm1": (96, 27, 27), "conv2": (256, 27, 27), "norm2": (256, 13, 13), "conv3": (384, 13, 13),
    "conv4": (384, 13, 13), "conv5": (256, 13, 13), "pool5": (256, 6, 6), "fc6": (4096,), "fc7": (4096,), "fc8": (1000,),
}  # fmt: skip


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return CaffeNet()


def test_shapes_of_every_layer(net):
    x, shapes = torch.zeros(1, 3, 227, 227), {}
    with torch.no_grad():
        for name, module in net.named_children():
            x = module(x)
            shapes[name] = tuple(x.shape[1:])
    assert {name: shapes[name] for name in SHAPES} == SHAPES


def test_parameters_and_their_initial_moments(net):
    weights = {
        "conv1": 3 * 96 * 121,
        "conv2": 96 * 256 * 25,
        "conv3": 256 * 384 * 9,
        "fc6": 9216 * 4096,
        "fc8": 4096 * 1000,
    }
    for name, count in weights.items():
        layer = net.get_submodule(name if name == "fc8" else f"{name}.0")
        assert layer.weight.numel() == count
        assert layer.weight.std().item() == pytest.approx(0.005 if name == "fc6" else 0.01, rel=0.02)
        assert set(layer.bias.tolist()) == {1.0 if name in ("conv2", "fc6") else 0.0}
    assert sum(p.numel() for p in net.parameters()) == 62_378_344


def test_units_are_rectified_and_pooling_precedes_normalisation(net):
    names = [name for name, _ in net.named_children()]
    assert names.index("pool1") < names.index("norm1") < names.index("conv2")
    assert (net.conv1(torch.randn(1, 3, 227, 227)) >= 0).all()


def test_any_size_and_number_of_classes():
    assert CaffeNet(channels=1, size=67, classes=7)(torch.zeros(2, 1, 67, 67)).shape == (2, 7)


def test_a_narrow_net_has_the_share_of_units_and_signals_that_keep_their_size():
    net = CaffeNet(size=64, classes=24, width=0.25, kernel=8, stride=4, he=True)
    x, shapes = torch.randn(8, 3, 64, 64), {}
    with torch.no_grad():
        for name, module in net.named_children():
            x = module(x)
            shapes[name] = x.shape[1]
    assert [shapes[name] for name in ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")] == [
        24, 64, 96, 96, 64, 1024, 1024, 24,
    ]  # fmt: skip
    assert 0.3 < x.std() < 30
    assert all(set(layer.bias.tolist()) == {0.0} for layer in net.modules() if hasattr(layer, "bias"))


def test_biases_learn_twice_as_fast_and_do_not_decay(net):
    optimizer = caffe_sgd(net.named_parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    weights, biases = optimizer.param_groups
    assert (weights["lr"], weights["weight_decay"], weights["momentum"]) == (0.01, 5e-4, 0.9)
    assert (biases["lr"], biases["weight_decay"], biases["momentum"]) == (0.02, 0.0, 0.9)
    assert len(weights["params"]) == len(biases["params"]) == 8
