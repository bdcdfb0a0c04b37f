"""Single units: what they cost, what substitution leaves of it, and whether what converges is needed."""

import copy
import itertools
from dataclasses import replace

import pytest
import torch
from torch.utils.data import DataLoader

import convergent as cv
from convergent.analysis.results import Result
from convergent.core.alignment import align
from convergent.core.blocks import block_of_image
from convergent.function.function_pass import FunctionPass
from convergent.function.stitches import own_stitches
from convergent.function.substitution import ORDERS, SHARES, needed, sampled_units, subset_stitches, substitution
from convergent.nets.convnet import ConvNet
from convergent.streaming.measure import collect
from function.test_stitch import images


@pytest.fixture(scope="module")
def made():
    """Two nets of which b is a with noise on some units of conv2: alignment, result and report, and what b gives."""
    torch.manual_seed(0)
    nets = {"a": ConvNet(1, 8, 10, (6, 8, 8, 12)).eval()}
    with torch.no_grad():
        for name in ("conv1", "conv2", "conv3", "fc1"):
            getattr(nets["a"], name)[0].bias.add_(0.3)
        nets["b"] = copy.deepcopy(nets["a"])
        nets["b"].conv2[0].weight[:4].add_(0.1 * torch.randn(4, 6, 3, 3))
    loader, reading = DataLoader(images(), 40), cv.Reading(blocks=10)
    pair = cv.measure(nets, loader, ["conv2"], reading)["conv2"].pair("a", "b")
    alignment = align(cv.Matching(), pair)
    stitches = [*own_stitches(pair, 10), *subset_stitches(alignment, 10, own=True)]
    start = FunctionPass.start(("conv2", {"a": "conv2", "b": "conv2"}), reading, stitches, {})
    (judged,) = collect(nets, loader, [start], reading)
    variance_b = pair.total.sd_u[pair.b].square()
    result, report = substitution(judged["conv2"], Result.of(alignment, 120), variance_b)
    return nets, alignment, result, report


def test_a_unit_costs_what_replacing_it_alone_costs(made):
    nets, alignment, result, _ = made
    x, net, unit = images()[:][0], nets["b"], sampled_units(alignment)[0]
    fold_n, rest = block_of_image(120, 10) % 5, torch.nn.Sequential(*list(net)[2:])
    with torch.no_grad():
        activation = net.conv2(net.conv1(x))
        own = net(x).log_softmax(-1)
        for value, costs in (("mean", result.kl_ablated_b), ("partner", result.kl_substituted_b)):
            replaced = activation.clone()
            for fold, prediction in enumerate(alignment.predictions):
                there = fold_n == fold
                mean = prediction.mean_b[unit].float()
                if value == "mean":
                    replaced[there, unit] = mean
                else:
                    x_a = nets["a"].conv2(nets["a"].conv1(x[there])).double()
                    off = torch.einsum(
                        "na...,a->n...", x_a - prediction.mean_a[:, None, None], prediction.weight_ab[:, unit]
                    )
                    replaced[there, unit] = (mean + off * prediction.gain_b[unit]).float()
            kl = (own.exp() * (own - rest(replaced).log_softmax(-1))).sum(1).mean()
            assert costs[unit] == pytest.approx(kl.item(), rel=1e-3, abs=1e-9)


def test_units_that_are_the_same_cost_nothing_and_are_the_best_matched(made):
    _, _, result, report = made
    assert (result.kl_substituted_b[4:] < 1e-9).all()
    assert (result.kl_substituted_b[:4] > 1e-7).all()
    assert (result.kl_ablated_b > 1e-7).all()
    rows = report.tables["substitution"]
    assert [(row["share"], row["order"]) for row in rows] == [*itertools.product(SHARES, ORDERS)]
    of = {(row["order"], row["share"]): row["kl_ratio"] for row in rows}
    assert of["best", 0.5] < 1e-4 < of["worst", 0.5]  # half of the units are the same in both nets
    assert of["best", 1.0] == of["worst", 1.0]
    assert report.scalars["kl_ratio_best_half"] == of["best", 0.5]
    columns = result.rows()[0]
    assert {"kl_ablated", "kl_substituted"} <= set(columns)
    assert "kl_ablated" not in replace(result, kl_ablated_b=None).rows()[0]


def test_what_converges_is_needed_only_where_it_is_so_among_units_of_the_same_variance():
    generator = torch.Generator().manual_seed(0)
    nothing, driven, planted = [], [], []
    for _ in range(300):
        variance_b, noise_b, r_b = (torch.rand(64, generator=generator).double() + 0.01 for _ in range(3))
        nothing.append(needed(noise_b, r_b, variance_b))
        # both follow the variance alone
        driven.append(needed(variance_b.square() * noise_b, 0.9 * variance_b + 0.1 * r_b, variance_b))
        planted.append(needed(variance_b * (1 + 2 * r_b) * noise_b, r_b, variance_b))
    for values, expected in ((nothing, 0.0), (driven, 0.0)):
        mean, se = torch.tensor(values).mean(), torch.tensor(values).std() / 300**0.5
        assert abs(mean - expected) < 0.1 if values is driven else abs(mean - expected) < 3 * se
    assert torch.tensor(planted).mean() > 0.25
    assert needed(torch.ones(3), torch.rand(3), torch.rand(3)) is None
    assert needed(torch.zeros(9), torch.rand(9), torch.rand(9)) is None  # they cost nothing
