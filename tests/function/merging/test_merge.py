"""Nets merged into one: what alignments make of a planted copy, what REPAIR restores, and what is refused."""

import copy
from itertools import permutations

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import nn
from torchvision.models import VisionTransformer

import convergent as cv
from convergent.errors import InputError
from convergent.function.merging.aligners import Aligners
from convergent.function.merging.alignments import nested, one_to_one
from convergent.function.merging.axes import Axis
from convergent.function.merging.line import Judge, averaged
from convergent.function.merging.merger import Merger
from convergent.function.merging.permutations import permuted, random_order
from convergent.function.merging.repair import mixed, repaired, statistics
from convergent.function.merging.rescaling import rescalable, rescaled
from convergent.function.merging.ties import Group, Ties
from convergent.function.merging.weight_matching import by_weights
from convergent.nets.convnet import ConvNet


def convnet(seed):
    torch.manual_seed(seed)
    return ConvNet(1, 8, 10, (6, 7, 8, 9)).eval()


def batches(n=96, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [(torch.randn(n, 1, 8, 8, generator=generator), torch.randint(10, (n,), generator=generator))]


def sure(net):
    """Images with what a net says of them."""
    ((x, _),) = batches(seed=1)
    with torch.no_grad():
        return [(x, net(x).argmax(1))]


def copied(net, seed=3, gain=True):
    """A net with its units in another order and at other scales, which is the same function, and that order."""
    ties = Ties.of(net, batches()[0][0])
    order = random_order(ties, seed)
    scale = {axis: 0.3 + 3 * torch.rand(axis.size) for axis in order} if gain else {}
    return rescaled(permuted(net, ties, order), ties, scale), order


@pytest.fixture(scope="module")
def planted():
    net = convnet(0)
    with torch.no_grad():
        net.fc2.weight.mul_(200)  # it is sure of what it says
    copy_, _ = copied(net)
    before = {key: tensor.clone() for key, tensor in copy_.state_dict().items()}
    copy_.train()  # as its user may have left it
    alignments = ["none", cv.Matching(), "consensus"]
    return cv.merge({"a": net, "b": copy_}, batches(), sure(net), alignments), net, copy_, before


def test_a_permuted_and_rescaled_copy_merges_without_a_barrier(planted):
    barrier = planted[0].barriers().set_index(["alignment", "repair"])["barrier"]
    assert barrier[["matching", "consensus"]].max() <= 1e-6
    assert barrier["none"].min() > 0.1


def test_nets_passed_in_are_left_as_they_were(planted):
    _, net, copy_, before = planted
    assert all(torch.equal(tensor, before[key]) for key, tensor in copy_.state_dict().items())
    assert copy_.training
    assert not net.training
    assert not any(module._forward_hooks for module in (*net.modules(), *copy_.modules()))


def test_a_line_has_eleven_places_and_its_ends_are_the_nets_themselves(planted):
    frame, judge = planted[0].frame(), Judge(sure(planted[1]), torch.device("cpu"))
    line = frame[(frame["alignment"] == "none") & (frame["repair"] == 0)]
    assert line["share_b"].tolist() == pytest.approx(np.linspace(0, 1, 11))
    assert (line["loss"].iloc[0], line["accuracy"].iloc[0]) == judge(planted[1])
    assert (line["loss"].iloc[-1], line["accuracy"].iloc[-1]) == judge(planted[2].eval())
    chord = np.linspace(line["loss"].iloc[0], line["loss"].iloc[-1], 11)
    assert line["above"].to_numpy() == pytest.approx(line["loss"].to_numpy() - chord, abs=1e-12)


def test_a_place_is_the_average_of_the_weights(planted):
    frame, nets = planted[0].frame(), [planted[1], planted[2].eval()]
    by_hand = copy.deepcopy(nets[0])
    weights = [net.state_dict() for net in nets]
    by_hand.load_state_dict({key: 0.7 * weights[0][key] + 0.3 * weights[1][key] for key in weights[0]})
    place = frame[(frame["alignment"] == "none") & (frame["repair"] == 0)].iloc[3]
    assert place["loss"] == pytest.approx(Judge(sure(planted[1]), torch.device("cpu"))(by_hand)[0], abs=1e-6)


def test_a_transformers_heads_are_aligned_too_by_their_weights_where_nobody_measures_them():
    net = VisionTransformer(16, 8, 1, 2, 8, 12, num_classes=4).eval()
    with torch.no_grad():
        net.heads.head.weight.normal_(0, 2)
    x = torch.randn(32, 3, 16, 16)
    ties = Ties.of(net, x)
    nets = {"a": net, "b": permuted(net, ties, random_order(ties, 1))}
    loader = [(x, net(x).argmax(1))]
    barrier = cv.merge(nets, loader, loader, ["none", cv.Matching()], repair=False).barriers()["barrier"]
    assert barrier[0] > 0.01
    assert barrier[1] <= 1e-6


def test_weight_matching_finds_a_permuted_copy_from_any_seed():
    net = convnet(0)
    other, order = copied(net, gain=False)
    ties = Ties.of(net, batches()[0][0])
    orders = [by_weights(ties, net, other, seed) for seed in (0, 1)]
    for found in orders:
        assert len(found) == len(order) > 1
        assert all(torch.equal(units, of.argsort()) for units, of in zip(found.values(), order.values()))


def test_units_that_several_layers_have_are_matched_by_the_sum_of_their_correlations():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.up, self.down = nn.Linear(5, 6), nn.Linear(6, 4), nn.Linear(4, 6)
            self.last, self.relus = nn.Linear(6, 2), nn.ModuleList(nn.ReLU() for _ in range(3))

        def forward(self, x):
            x = self.relus[0](self.first(x))
            return self.last(self.relus[2](x + self.down(self.relus[1](self.up(x)))))

    nets = {name: Residual() for name in "ab"}
    loader = [(torch.randn(200, 5), torch.zeros(200, dtype=torch.long))]
    merger = Merger.of(nets, loader, loader, repair=False, seed=0)
    (stream,) = [group for group in merger.ties.groups if group.atom.size == 6]
    assert stream.points == ("relus.0", "relus.2")
    measured = cv.measure(nets, loader, stream.points)
    every = cv.measure(nets, loader, ["relus.*"])
    (_, aligned), _, _ = Aligners(nets, merger.ties, every, loader[0][0], 0).of(cv.Matching())(["a", "b"])
    correlations = sum(measured[point].pair("a", "b").corr_ab for point in stream.points)
    _, column = linear_sum_assignment(correlations.numpy(), maximize=True)
    scale = aligned.first.bias / nets["b"].first.bias[torch.from_numpy(column)]
    assert torch.allclose(aligned.first.weight, scale[:, None] * nets["b"].first.weight[torch.from_numpy(column)])


def test_heads_and_what_is_within_them_are_ordered_best_together():
    h, d = 3, 3
    group = Group("", Axis(h), (Axis(d), Axis(d)), ())
    weights = {inner: torch.rand(h * d, h * d) for inner in group.inner}
    order = nested(group, {}, weights)

    def value(order_h, inner_of):
        return sum(
            float(weights[inner][a * d + i, order_h[a] * d + inner_of[inner][a][i]])
            for inner in group.inner
            for a in range(h)
            for i in range(d)
        )

    best = value(order[group.atom], {inner: order[inner] for inner in group.inner})

    def within(a, b):
        """The best that the units within head a of one net and head b of the other can do, tried one by one."""
        parts = [weights[inner].reshape(h, d, h, d)[a, :, b] for inner in group.inner]
        return sum(max(float(part[range(d), order].sum()) for order in permutations(range(d))) for part in parts)

    assert best == pytest.approx(
        max(sum(within(a, order_h[a]) for a in range(h)) for order_h in permutations(range(h)))
    )


def test_repair_gives_units_the_mean_and_deviation_that_the_ends_have_on_average():
    ends, (x, _) = [convnet(0), convnet(1)], batches(64)[0]
    of_ends = [statistics(end, [x]) for end in ends]
    net = repaired(averaged(ends, [0.25, 0.75]), mixed(of_ends, [0.25, 0.75]), [x])
    for path, (mean_u, sd_u) in statistics(net, [x]).items():
        mean, sd = (0.25 * of_ends[0][path][of] + 0.75 * of_ends[1][path][of] for of in (0, 1))
        assert torch.allclose(mean_u, mean, atol=1e-5)
        assert torch.allclose(sd_u, sd, atol=1e-5)
    assert list(of_ends[0]) == ["conv1.0", "conv2.0", "conv3.0", "fc1.0"]  # the logits are left


def test_statistics_of_batch_norm_are_measured_anew():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)).eval()
    (x, _), momentum = batches()[0], net[1].momentum
    with torch.no_grad():
        seen = net[0](x)
        repaired(net, {}, [x])
    assert torch.allclose(net[1].running_mean, seen.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(net[1].running_var, seen.var((0, 2, 3)), atol=1e-5)
    assert net[1].momentum == momentum
    assert not net[1].training


def test_only_units_without_a_scale_of_their_own_are_rescaled():
    x = batches()[0][0]
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.ReLU(), nn.Linear(6, 5), nn.GELU(), nn.Linear(5, 3))
    ties = Ties.of(net, x)
    assert [group.name for group in rescalable(net, ties, x)] == ["1.weight"]


def test_a_method_that_is_not_one_to_one_is_refused():
    corr = torch.tensor([[0.9, 0.8], [0.1, 0.2]])
    with pytest.raises(InputError, match="one to one, as matching, but semimatching gives units of fc1"):
        one_to_one(cv.SemiMatching(), corr, "fc1")
    with pytest.raises(InputError, match="least_squares"):
        one_to_one(cv.LeastSquares(), corr, "fc1")
    assert one_to_one(cv.Matching(), torch.zeros(3, 3), "fc1").sort().values.tolist() == [0, 1, 2]  # constant units


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (ConvNet(1, 8, 9, (6, 7, 8, 9)), "need the same classes, but a has 10 and b 9"),
        (ConvNet(1, 8, 10, (6, 5, 8, 9)), r"need one architecture, but conv2\.0\.weight is \(7, 6, 3, 3\) in a and \(5, 6"),
    ],
)  # fmt: skip
def test_nets_that_are_not_of_one_kind_are_refused(other, sentence):
    with pytest.raises(InputError, match=sentence):
        cv.merge({"a": convnet(0), "b": other}, batches(), batches())


def test_what_cannot_be_merged_is_said_in_a_sentence():
    nets = {"a": convnet(0), "b": convnet(1)}
    with pytest.raises(InputError, match="two nets at least"):
        cv.merge({"a": nets["a"]}, batches(), batches())
    with pytest.raises(InputError, match="no generator"):
        cv.merge(nets, iter(batches()), batches())
    with pytest.raises(InputError, match="not 'rebasin'"):
        cv.merge(nets, batches(), batches(), ["rebasin"])
    with pytest.raises(InputError, match="class numbered 12"):
        cv.merge(nets, batches(), [(batches()[0][0], torch.full((96,), 12))])
