import copy

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from convergent.core.moments import Moments
from convergent.core.pairs import Pair
from convergent.core.products import portable
from convergent.core.rotation import turning
from convergent.nets.convnet import ConvNet
from convergent.streaming.layers import random_positions
from convergent.streaming.pre_activations import PreActivations
from convergent.streaming.reading import Reading
from convergent.streaming.rotated_pass import SavedRotations
from convergent.streaming.rotations import Rotations, rotated_name


def nets(k=2, **options):
    made = {}
    for seed in range(k):
        torch.manual_seed(seed)
        made[f"seed={seed}"] = ConvNet(1, 8, 10, (6, 8, 8, 12), **options).eval()
    return made


def read(product, of, layers, x_n, reading=None, batch=16, order=None):
    """A pass over pictures by one product."""

    def first(n):
        for images in torch.arange(min(n, len(x_n))).split(32):
            yield images, dict.fromkeys(of, x_n[images])

    order = torch.arange(len(x_n)) if order is None else order
    with torch.no_grad():
        collector = product.start(layers, reading or Reading(blocks=20), None)(of, len(x_n), first)
        with collector:
            for images in order.split(batch):
                collector.begin(images)
                for net in of.values():
                    net(x_n[images])
                collector.end()
        return collector, collector.finish()


def test_a_rotated_net_is_what_rotated_pre_activations_give_behind_its_own_nonlinearity():
    of, x_n = nets(), torch.randn(100, 1, 8, 8)
    _, rotations = read(SavedRotations(2), of, ["conv2", "fc1"], x_n)
    with torch.no_grad():
        for layer, before in (("fc1", 6), ("conv2", 1)):
            pre = {}
            x = {}
            for name, net in of.items():
                below = nn.Sequential(*list(net.children())[:before])(x_n)
                h = getattr(net, layer)[0](below)
                h = h if h.ndim == 2 else h.permute(0, 2, 3, 1).flatten(0, 2)
                pre[name], x[name] = h.double(), h.relu().double()
            turns = Rotations(
                of,
                {layer: dict.fromkeys(of, layer)},
                Reading(),
                lambda _: iter([(torch.arange(100), dict.fromkeys(of, x_n))]),
                lambda _: 2,
            )._turns
            for draw in (0, 1):
                ((turn_cc, offset_c),) = turns["seed=1", layer][draw]
                rotated_nb = (pre["seed=1"] @ turn_cc.double() + offset_c.double()).relu()
                expected = Pair.of(x["seed=0"], rotated_nb)
                pair = rotations[layer].pair(0, 1, draw)
                assert (pair.corr_ab - expected.corr_ab).abs().max() < 1e-5
                assert (pair.corr_bb - expected.corr_bb).abs().max() < 1e-5
                assert (pair.name_a, pair.name_b) == ("seed=0", "seed=1")


def test_rotated_units_fire_as_often_as_the_units_themselves_and_span_the_same_pre_activations():
    of, x_n = nets(1) | {"other": nets(3)["seed=2"]}, torch.randn(300, 1, 8, 8)
    _, rotations = read(SavedRotations(1), of, ["conv1"], x_n)
    (moments,) = rotations["conv1"].parts
    itself, rotated = (moments.moments([name]).total for name in ("other", rotated_name("other", 0)))
    assert (itself.mean_u - rotated.mean_u).abs().max() < 0.25 * itself.mean_u.max()
    assert (itself.sd_u - rotated.sd_u).abs().max() < 0.25 * itself.sd_u.max()


@pytest.mark.parametrize("batch", [7, 100])
def test_order_and_batches_change_nothing(batch):
    of, x_n = nets(), torch.randn(100, 1, 8, 8)
    _, one = read(SavedRotations(2), of, ["conv3"], x_n)
    _, other = read(SavedRotations(2), of, ["conv3"], x_n, batch=batch, order=torch.randperm(100))
    for a, b in ((0, 1), (1, 0)):
        assert (one["conv3"].pair(a, b, 1).corr_ab - other["conv3"].pair(a, b, 1).corr_ab).abs().max() < 1e-6


def test_few_rotations_have_blocks_and_there_are_more_in_narrow_layers(tmp_path):
    of, x_n = nets(3), torch.randn(60, 1, 8, 8)
    _, rotations = read(SavedRotations(), of, ["conv1"], x_n)
    SavedRotations().save(rotations["conv1"], tmp_path / "conv1.safetensors")
    again = SavedRotations().load(tmp_path / "conv1.safetensors", "conv1", list(of))
    assert list(again.draws) == list(range(10))
    for draw, blocks in ((0, 10), (2, 10), (3, 1), (9, 1)):
        assert again.pair(0, 2, draw).blocks == blocks
        for both in (False, True):
            ours, saved = (every.pair(2, 1, draw, both=both) for every in (rotations["conv1"], again))
            assert torch.equal(ours.corr_ab, saved.corr_ab)
            assert ours.active_b.any()


def test_rotations_beyond_the_few_have_the_correlations_with_other_nets_and_none_within_a_net():
    of, x_n = nets(3), torch.randn(60, 1, 8, 8)
    collector, rotations = read(SavedRotations(4), of, ["conv2"], x_n)
    scored, other = (rotations["conv2"].pair(0, 1, draw) for draw in (0, 3))
    assert torch.isfinite(scored.corr_aa).all()
    assert other.corr_aa.isnan().sum() == other.p * (other.p - 1)
    assert torch.equal(scored.total.sd_u[scored.a], scored.total.sd_u[scored.a])
    assert (scored.total.sd_u[scored.a] - other.total.sd_u[other.a]).abs().max() < 1e-5
    (turns,) = collector.rotations._turns["seed=1", "conv2"][3]
    pre, x = {}, {}
    with torch.no_grad():
        for name, net in of.items():
            h = net.conv2[0](net.conv1(x_n)).permute(0, 2, 3, 1).flatten(0, 2)
            pre[name], x[name] = h, h.relu()
        expected = Pair.of(x["seed=0"], turns(pre["seed=1"].T).T.relu())
    assert (other.corr_ab - expected.corr_ab).abs().max() < 1e-5


def test_a_pass_that_was_stopped_goes_on_with_the_same_bits():
    of, x_n = nets(3), torch.randn(60, 1, 8, 8)
    start = SavedRotations(5).start(["conv2"], Reading(blocks=20), None)
    first = lambda n: iter([(torch.arange(60), dict.fromkeys(of, x_n))])  # noqa: E731

    def run(collector, batches):
        with collector:
            for images in batches:
                collector.begin(images)
                for net in of.values():
                    net(x_n[images])
                collector.end()
        return collector

    with torch.no_grad():
        batches = torch.arange(60).split(16)
        whole = run(start(of, 60, first), batches).finish()["conv2"]
        state, again = run(start(of, 60, first), batches[:2]).state(), start(of, 60, first)
        again.load_state(state)
        resumed = run(again, batches[2:]).finish()["conv2"]
    for draw in (0, 4):
        for both in (False, True):
            assert torch.equal(whole.pair(0, 2, draw, both=both).corr_ab, resumed.pair(0, 2, draw, both=both).corr_ab)


def test_two_nets_need_no_comparison_on_axes_that_are_both_rotated():
    _, rotations = read(SavedRotations(2), nets(2), ["conv1"], torch.randn(60, 1, 8, 8))
    with pytest.raises(ValueError, match="not among the pairs"):
        rotations["conv1"].pair(0, 1, 0, both=True)


def test_a_wide_layer_has_no_rotations_beyond_those_with_blocks(tmp_path):
    of, x_n = {f"{seed}": nn.Sequential(nn.Linear(3, 500), nn.ReLU()).eval() for seed in range(2)}, torch.randn(60, 3)
    _, rotations = read(SavedRotations(), of, ["1"], x_n)
    SavedRotations().save(rotations["1"], tmp_path / "1.safetensors")
    again = SavedRotations().load(tmp_path / "1.safetensors", "1", list(of))
    assert list(again.draws) == [0, 1, 2]
    assert len(again.parts) == 1


@pytest.mark.parametrize("pooled", [False, True])
def test_of_many_positions_some_random_ones_are_read_the_same_of_all_nets(monkeypatch, pooled):
    monkeypatch.setattr("convergent.streaming.rotated_pass._SAMPLES", 1)
    monkeypatch.setattr("convergent.streaming.rotated_pass._POSITIONS", 5)
    of, x_n = {}, torch.randn(300, 1, 9, 9)
    for seed in range(2):
        torch.manual_seed(seed)
        parts = [nn.Conv2d(1, 6, 3), nn.ReLU(), *([nn.MaxPool2d(2, 1)] if pooled else [])]
        of[f"{seed}"] = nn.Sequential(nn.Sequential(*parts)).eval()
    collector, some = read(SavedRotations(1), of, ["0"], x_n)
    assert collector.accumulators["0"][0].positions == 5
    assert collector.rotations._positions["1", "0"] == (49 if pooled else 5)  # pooling needs its neighbours
    monkeypatch.setattr("convergent.streaming.rotated_pass._POSITIONS", 49)
    _, every = read(SavedRotations(1), of, ["0"], x_n)
    some, every = some["0"].pair(0, 1, 0), every["0"].pair(0, 1, 0)
    assert some.count == 1500
    assert 0 < (some.corr_ab - every.corr_ab).abs().max() < 0.1
    (turn,) = collector.rotations._turns["1", "0"][0]
    with torch.no_grad():  # from these positions of both nets, by hand
        positions_np = random_positions(torch.arange(300), 36 if pooled else 49, 5)
        pre = of["1"][0][0](x_n)
        rotated = of["1"][0][1:](turn(pre.transpose(0, 1).flatten(1)).view(6, 300, 7, 7).transpose(0, 1))
        x_na, x_nb = (
            x.flatten(2).gather(2, positions_np[:, None].expand(-1, 6, -1)).transpose(1, 2).flatten(0, 1)
            for x in (of["0"](x_n), rotated)
        )
    assert (some.corr_ab - Pair.of(x_na, x_nb).corr_ab).abs().max() < 1e-5


def test_positions_of_tokens_and_of_pictures_with_units_in_the_last_axis_are_chosen_alike(monkeypatch):
    monkeypatch.setattr("convergent.streaming.rotated_pass._SAMPLES", 1)
    monkeypatch.setattr("convergent.streaming.rotated_pass._POSITIONS", 4)
    of = {f"{seed}": nn.Sequential(nn.Linear(3, 7), nn.ReLU()).eval() for seed in range(2)}
    x_n = torch.randn(80, 25, 3)
    _, tokens = read(SavedRotations(1), of, ["1"], x_n, Reading(units="last"))
    _, pictures = read(SavedRotations(1), of, ["1"], x_n.view(80, 5, 5, 3), Reading(units="last"))
    tokens, pictures = (read_rotations["1"].pair(0, 1, 0) for read_rotations in (tokens, pictures))
    assert (tokens.count, tokens.q) == (320, 7)
    assert (tokens.corr_ab - pictures.corr_ab).abs().max() < 1e-5


def test_the_plan_says_what_the_rotations_take():
    of = {f"{seed}": nn.Sequential(nn.Linear(3, 500), nn.ReLU()).eval() for seed in range(2)}
    collector, _ = read(SavedRotations(), of, ["1"], torch.randn(60, 3))
    # 2 nets x 3 rotations; products of 8 nets with themselves, halved, and of each rotated net with the other one
    work = 6 * 500**2 + 4 * 500**2 + 6 * 500**2
    assert f"{work / 1e6:,.0f} M " in collector.plan()
    assert "multiplications" in collector.plan()


@pytest.mark.parametrize("fastest", [True, False])
def test_small_layers_have_the_same_bits_whichever_product_is_timed_to_be_the_fastest(monkeypatch, fastest):
    monkeypatch.setattr("convergent.core.products._faster", lambda: fastest)
    collector, _ = read(SavedRotations(1), nets(), ["conv1", "fc1"], torch.randn(50, 1, 8, 8))
    assert {part.product for parts in collector.accumulators.values() for part in parts} == {portable}


def test_each_net_and_layer_is_rotated_by_its_own_rotation():
    of = {name: copy.deepcopy(nets(1)["seed=0"]) for name in "abc"}
    _, rotations = read(SavedRotations(1), of, ["conv2"], torch.randn(50, 1, 8, 8))
    both = rotations["conv2"].pair(0, 1, 0, both=True)
    assert not torch.allclose(both.corr_aa, both.corr_bb)


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate, self.value, self.unit, self.out = nn.Linear(5, 8), nn.Linear(5, 8), nn.Identity(), nn.Linear(8, 5)
        self.stream, self.joined = nn.Identity(), nn.Identity()

    def forward(self, x):
        x = self.stream(x + self.out(self.unit(F.silu(self.gate(x)) * self.value(x))))
        return self.joined(torch.cat([x.relu(), x.tanh()], 1))


ENDS = {
    "resnet18": {
        "before": ["relu", "maxpool", "layer1.0", "layer1", "avgpool"],
        "linear": ["conv1", "bn1", "fc"],
    },
    "mobilenet_v3_small": {"before": ["features.0", "features.12"], "linear": ["features.1"]},
    "vgg11_bn": {"before": ["features.2", "features", "classifier.2"], "linear": ["features.1", "classifier"]},
    "gated": {"before": ["unit"], "linear": ["stream"], "after": ["joined"]},
}


@pytest.mark.parametrize("name", ENDS)
def test_nonlinearities_are_seen_in_modules_and_functions_and_done_again_exactly(name):
    gated = name == "gated"
    net, watching, kinds = Gated() if gated else torchvision.models.get_model(name), PreActivations(), {}
    net, x = net.eval(), torch.randn(7, 5) if gated else torch.randn(2, 3, 32, 32)
    layers = {layer: kind for kind, layers in ENDS[name].items() for layer in layers}

    def look(layer, output):
        with PreActivations.looking_away():
            nonlinearity = watching.nonlinearity(output)
            kinds[layer] = "before" if nonlinearity else "linear" if watching.mixes(output) else "after"
            if nonlinearity:
                assert torch.equal(
                    nonlinearity.again([source.clone() for source in nonlinearity.sources], output), output
                )

    for layer in layers:
        net.get_submodule(layer).register_forward_hook(lambda _module, _x, output, layer=layer: look(layer, output))
    with torch.no_grad():
        expected = net(x)
        with watching:
            assert torch.equal(net(x), expected)
    assert kinds == layers


def test_a_gated_unit_has_gate_and_value_rotated_by_one_matrix():
    net = {"one": Gated().eval(), "two": Gated().eval()}
    x_n = torch.randn(64, 5)
    first = lambda n: iter([(torch.arange(64), dict.fromkeys(net, x_n))])  # noqa: E731
    with torch.no_grad():
        rotations = Rotations(net, {"unit": dict.fromkeys(net, "unit")}, Reading(), first, lambda _: 1)
    (gate, _), (value, _) = rotations._turns["one", "unit"][0]
    pre = {name: Moments.of(getattr(net["one"], name)(x_n)) for name in ("gate", "value")}
    for name, turn_cc in (("gate", gate), ("value", value)):
        expected, _ = turning(pre[name], torch.Generator().manual_seed(0))
        assert turn_cc.shape == expected.shape
    q = [turn / torch.outer(1 / pre[name].sd_u, pre[name].sd_u) for name, turn in (("gate", gate), ("value", value))]
    q = [x / x.norm(dim=0) for x in q]
    assert (q[0] - q[1]).abs().max() < 1e-4


def test_a_net_that_takes_another_path_later_is_reported():
    class Fickle(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Identity()

        def forward(self, x):
            return self.layer(x @ torch.ones(4, 3) if len(x) < 20 else torch.relu(x @ torch.ones(4, 3)))

    of = {"a": Fickle(), "b": Fickle()}
    with pytest.raises(ValueError, match="ends in another function here"):
        read(SavedRotations(1), of, ["layer"], torch.randn(40, 4), batch=10)
