"""Names and patterns of layers, and what the units and samples of an activation are."""

import pytest
import torch
from torch import nn

from convergent.errors import InputError
from convergent.streaming.layers import by_unit, find_layer, layout, random_positions, resolve
from convergent.streaming.layers import samples as samples_of


def samples(x, sample, where="here", image_n=None, units="auto"):
    return samples_of(by_unit(x, units, where), sample, where, image_n)


def blocks(count, inner="relu"):
    stages = [nn.Sequential(nn.Linear(2, 2), nn.ReLU()) for _ in range(count)]
    return nn.ModuleDict({f"layer{i}": stage for i, stage in enumerate(stages)} | {"head": nn.Linear(2, 2)})


def test_patterns_stand_for_one_part_between_dots():
    nets = {"a": blocks(2), "b": blocks(2)}
    assert list(resolve(nets, ["layer*"])) == ["layer0", "layer1"]
    assert list(resolve(nets, ["layer*.1", "head"])) == ["layer0.1", "layer1.1", "head"]
    assert list(resolve(nets, ["*.0"])) == ["layer0.0", "layer1.0"]
    assert resolve(nets, ["layer[1]"]) == {"layer1": {"a": "layer1", "b": "layer1"}}


def test_layers_of_nets_that_differ_are_named_net_by_net():
    nets = {"a": blocks(2), "b": blocks(3)}
    by_order = resolve(nets, [["layer1", "layer2"]])
    assert by_order == {"layer1~layer2": {"a": "layer1", "b": "layer2"}}
    assert resolve(nets, [{"b": "layer2", "a": "layer1"}]) == by_order
    assert list(resolve(nets, [["head", "head"]])) == ["head"]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (["layer*"], r"means layer0, layer1 in net a but layer0, layer1, layer2 in net b; say which"),
        (["conv*"], r"Pattern 'conv\*' means no layer of net a; its layers are layer0"),
        ([["layer0"]], r"needs one path for each of a, b, not \['layer0'\]"),
        ([["layer0", "layer1", "head"]], "needs one path for each"),
        ([{"a": "layer0", "c": "layer1"}], "needs one path for each"),
        (["layer2"], "Net a has no layer 'layer2'; near names are layer"),
        ([["layer1", "layer7"]], "Net b has no layer 'layer7'"),
    ],
)
def test_layers_that_are_not_there_are_reported(wanted, message):
    with pytest.raises(InputError, match=message):
        resolve({"a": blocks(2), "b": blocks(3)}, wanted)


@pytest.mark.parametrize(
    ("shape", "guess"),
    [
        ((5, 7), "channel"),
        ((5, 197, 768), "last"),
        ((5, 64, 8, 8), "channel"),
        ((5, 8, 8, 64), "last"),
        ((5, 8, 8, 8), "channel"),
    ],
)
def test_the_guess_where_units_are(shape, guess):
    assert layout(shape, "auto") == guess
    assert layout(shape, "flat") == "flat"


@pytest.mark.parametrize(
    ("shape", "units", "expected"),
    [
        ((5, 6, 7), "channel", (5, 6, 7)),
        ((5, 6, 7), "last", (5, 7, 6)),
        ((5, 6, 7, 8), "last", (5, 8, 42)),
        ((5, 6, 7, 8), "flat", (5, 336, 1)),
        ((5, 6, 7, 8, 9), "channel", (5, 6, 504)),
    ],
)
def test_units_are_where_one_says(shape, units, expected):
    x = torch.randn(shape)
    taken = samples(x, "every", units=units)
    assert taken.shape == expected
    assert taken.data_ptr() == x.data_ptr()
    if shape == (5, 6, 7, 8) and units == "last":
        assert torch.equal(taken[1, 3], x[1, :, :, 3].flatten())


def test_an_axis_that_is_none_is_refused():
    with pytest.raises(InputError, match="units needs to be one of auto, channel, last, flat, not 'first'"):
        by_unit(torch.zeros(2, 3), "first", "here")
    with pytest.raises(InputError, match=r"here gives activations of shape \(2,\)"):
        by_unit(torch.zeros(2), "auto", "here")


def test_an_unknown_layer_is_reported_with_near_names():
    net = nn.ModuleDict({"conv1": nn.Linear(1, 1), "conv2": nn.Linear(1, 1)})
    with pytest.raises(InputError, match="Net n has no layer 'cnov1'; near names are conv1"):
        find_layer(net, "cnov1", "n")
    with pytest.raises(InputError, match="no layer ''"):
        find_layer(net, "", "n")


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
    ("shape", "sample"), [((2, 3, 4, 4), "some"), ((2, 3, 4, 4), True), ((2, 3, 4, 4), 0), ((2, 3, 4), "centre")]
)
def test_what_is_no_sample_is_refused(shape, sample):
    with pytest.raises(InputError, match=r"no pictures|needs to be"):
        samples(torch.zeros(shape), sample, "here")
