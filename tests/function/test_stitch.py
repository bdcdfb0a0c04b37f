"""One net's units in the place of another's: exact where nets are the same, refused where they do not fit."""

import copy
import itertools
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models import resnet18
from torchvision.models.vision_transformer import VisionTransformer

import convergent as cv
from convergent.core.alignment import align
from convergent.core.blocks import block_of_image
from convergent.function.function_pass import FunctionPass
from convergent.function.judgement import judgements, reports_of
from convergent.function.stitch import Site
from convergent.function.stitches import Source, common_stitches, own_stitches, stitches_of
from convergent.nets.caffenet import CaffeNet
from convergent.nets.convnet import ConvNet
from convergent.streaming.measure import collect
from convergent.streaming.rotations import rotated_name

SMALL = {
    "convnet": lambda: ConvNet(1, 8, 10, (6, 8, 8, 12)),
    "resnet": lambda: small_resnet(),
    "vit": lambda: small_vit(),
}


def small_resnet():
    net = resnet18(num_classes=10)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return net


def small_vit():
    net = VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=10
    )
    nn.init.normal_(net.heads.head.weight)
    return net


def scrambled(net: ConvNet, seed: int = 0) -> ConvNet:
    """The same function with the units of every layer in another order and on another scale."""
    generator, other = torch.Generator().manual_seed(seed), copy.deepcopy(net)
    names = ["conv1", "conv2", "conv3", "fc1"]
    layers = [getattr(other, name)[0] for name in names] + [other.fc2]
    with torch.no_grad():
        for layer, after in itertools.pairwise(layers):
            order = torch.randperm(len(layer.bias), generator=generator)
            scale = torch.rand(len(order), generator=generator) + 0.5
            shape = [-1] + [1] * (layer.weight.ndim - 1)
            layer.weight.copy_(layer.weight[order] * scale.view(shape))
            layer.bias.copy_(layer.bias[order] * scale)
            inner = after.weight.unflatten(1, (len(order), -1))[:, order] / scale.view(
                1, -1, *[1] * (after.weight.ndim - 1)
            )
            after.weight.copy_(inner.flatten(1, 2) if after.weight.ndim == 2 else inner[:, :, 0])
    return other


def images(n: int = 120, size: int = 8, channels: int = 1) -> TensorDataset:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(n, channels, size, size, generator=generator)
    return TensorDataset(x, torch.randint(10, (n,), generator=generator))


def judged(nets, layer, method=None, data=None, lowest=None, blocks=10, folds=5):
    """All maps of net a into net b in one layer, judged on the images of the folds that each was not fitted to."""
    data = data or images()
    reading = cv.Reading(blocks=blocks)
    loader = DataLoader(data, 40)
    pair = replace(cv.measure(nets, loader, [layer], reading)[layer].pair("a", "b"), held_out_folds=folds)
    alignment = align(method or cv.Matching(), pair)
    stitches = [*own_stitches(pair, blocks), *stitches_of(alignment, blocks, {}), *common_stitches(pair, blocks, None)]
    paths = (layer, dict.fromkeys(nets, layer))
    (result,) = collect(nets, loader, [FunctionPass.start(paths, reading, stitches, lowest or {})], reading)
    return result[layer]


def by_name(of_layer, version="plain"):
    own = ("identity", "ablated")
    return {
        stitch.name: of
        for stitch, of in judgements(of_layer, "a", "b")
        if stitch.versions[0] == version or stitch.name in own
    }


@pytest.mark.parametrize(
    ("net", "layer"),
    [
        ("convnet", "conv2"), ("convnet", "fc1"), ("resnet", "layer1"), ("resnet", "layer1.0.bn1"),
        ("resnet", "layer2.0.conv2"),
        ("vit", "encoder.layers.encoder_layer_0"), ("vit", "encoder.layers.encoder_layer_0.mlp.1"),
    ],
)  # fmt: skip
def test_a_net_with_its_own_layer_in_its_place_decides_alike(net, layer):
    torch.manual_seed(0)
    nets = {name: SMALL[net]().eval() for name in "ab"}
    size = {"convnet": (8, 1)}.get(net, (32, 3))
    of_layer = judged(nets, layer, data=images(24, *size), blocks=6)
    of = by_name(of_layer)
    assert of["identity"].mean("same_decision").estimate == 1
    assert of["ablated"].kept.estimate == 0
    place = next(v for v, stitch in enumerate(of_layer.stitches) if stitch.name == "identity")
    assert of_layer.difference_v[place] <= 1e-5 * (1 if net != "resnet" else 10)  # its logits go to 20
    assert of["permuted"].mean("kl").estimate > 1e-7


def test_an_activation_put_back_in_its_place_changes_no_bit():
    torch.manual_seed(0)
    for net, path, size, channels in (
        (CaffeNet(3, 227, 10), "conv3", 227, 3), (small_resnet(), "layer2.0.bn2", 32, 3), (small_vit(), "encoder.ln", 32, 3),
    ):  # fmt: skip
        site, x = Site(net.eval(), path), torch.rand(2, channels, size, size)
        with torch.no_grad():
            own = net(x)
            with site.replaced(lambda activation, site=site: site.as_output(site.by_unit(activation), activation)):
                assert torch.equal(net(x), own)
            with site.replaced(torch.zeros_like):
                assert not torch.equal(net(x), own)


def test_a_permuted_and_rescaled_copy_is_stitched_exactly():
    torch.manual_seed(0)
    a = ConvNet(1, 8, 10, (6, 8, 8, 12)).eval()
    with torch.no_grad():
        for name in ("conv1", "conv2", "conv3", "fc1"):
            getattr(a, name)[0].bias.add_(0.3)  # no unit that only few images excite
    nets = {"a": a, "b": scrambled(a)}
    assert torch.allclose(nets["a"](images()[:5][0]), nets["b"](images()[:5][0]), atol=1e-6)
    for layer in ("conv1", "conv2", "conv3", "fc1"):
        of_layer = judged(nets, layer)
        for version in ("plain", "restored"):
            method = by_name(of_layer, version)["method"]
            assert method.mean("same_decision").estimate == 1
            assert abs(method.mean("kl").estimate) < 1e-10
            assert method.kept.estimate == pytest.approx(1, abs=1e-9)
        permuted = by_name(of_layer)["permuted"]
        assert permuted.kept.estimate < 0.5


def test_every_image_is_judged_by_the_map_that_it_was_left_out_of():
    torch.manual_seed(0)
    nets = {name: nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).eval() for name in "ab"}
    x, fold_b = torch.rand(30, 3), torch.arange(5.0)
    reading, loader = cv.Reading(blocks=10), DataLoader(TensorDataset(x, torch.zeros(30, dtype=torch.long)), 7)
    pair = cv.measure(nets, loader, ["0"], reading)["0"].pair("a", "b")
    _, ablated = own_stitches(pair, 10)
    marked = [replace(of, mean_b=torch.full((4,), fold)) for fold, of in zip(fold_b, ablated.predictions)]
    stitch = replace(ablated, name="method", a="a", predictions=marked)
    (result,) = collect(nets, loader, [FunctionPass.start(("0", {"a": "0", "b": "0"}), reading, [stitch], {})], reading)
    log_fc = nets["b"][1](fold_b[:, None].expand(5, 4)).log_softmax(-1)
    fold_n = block_of_image(30, 10) % 5
    expected = -log_fc[fold_n][:, 0].sum()
    assert result["0"].sums_vks[0, :, 3].sum() == pytest.approx(expected.item(), rel=1e-5)
    assert not torch.allclose(log_fc[0], log_fc[1])


def test_nothing_is_left_on_the_nets():
    torch.manual_seed(0)
    nets = {name: small_resnet().eval() for name in "ab"}
    before = {name: copy.deepcopy(net.state_dict()) for name, net in nets.items()}
    judged(nets, "layer1.0.bn1", data=images(24, 32, 3), blocks=6)
    for name, net in nets.items():
        assert all(torch.equal(x, before[name][key]) for key, x in net.state_dict().items())
        assert not any(part._forward_hooks or part._forward_pre_hooks for part in net.modules())


def test_a_stitched_net_is_a_module_that_can_be_measured_against_its_own():
    torch.manual_seed(0)
    a, b = (ConvNet(1, 8, 10, (6, 8, 8, 12)).eval() for _ in "ab")
    loader = DataLoader(images(), 40)
    pair = cv.measure({"a": a, "b": b}, loader, ["conv2"])["conv2"].pair("a", "b")
    itself = align(
        cv.Matching(), cv.measure({"a": b, "b": copy.deepcopy(b)}, loader, ["conv2"])["conv2"].pair("a", "b")
    )
    stitched = {
        "own": cv.Stitched(b, b, "conv2", itself),
        "other": cv.Stitched(a, b, "conv2", align(cv.Matching(), pair)),
    }
    mean_r = {}
    for name, net in stitched.items():
        layers = cv.measure({"stitched": net, "b": b}, loader, [["b.fc1", "fc1"]])
        alignment = align(cv.Matching(), next(iter(layers.values())).pair("stitched", "b"))
        mean_r[name] = alignment.r_b[alignment.counted_b].mean().item()
    assert mean_r["own"] == pytest.approx(1, abs=1e-5)
    assert mean_r["other"] < 0.99
    x = images()[:7][0]
    assert torch.allclose(stitched["own"](x), b(x), atol=1e-5)
    bounded = cv.Stitched(a, b, "conv2", align(cv.Matching(), pair), lowest=0.0)
    assert not torch.allclose(bounded(x), stitched["other"](x))  # predictions of a rectified layer below zero


class Pieces(nn.Module):
    """A layer that gives a tuple, another that is called twice, and one that the output does not depend on."""

    def __init__(self):
        super().__init__()
        self.first, self.twice, self.aside = Tuple(), nn.Linear(4, 4), nn.Linear(4, 4)
        self.last = nn.Linear(4, 3)

    def forward(self, x):
        hidden, _ = self.first(x)
        self.aside(hidden)
        return self.last(self.twice(self.twice(hidden)))


class Tuple(nn.Linear):
    def __init__(self):
        super().__init__(5, 4)

    def forward(self, x):
        return super().forward(x), x


@pytest.mark.parametrize("layer", ["first", "twice#0", "twice#1"])
def test_parts_of_outputs_and_single_calls_are_replaced(layer):
    torch.manual_seed(0)
    nets = {name: Pieces().eval() for name in "ab"}
    data = TensorDataset(torch.rand(60, 5), torch.zeros(60, dtype=torch.long))
    of = by_name(judged(nets, layer, cv.LeastSquares(0.01), data))
    assert of["identity"].kept.estimate == pytest.approx(1, abs=1e-6)
    assert of["method"].kept.estimate > of["permuted"].kept.estimate
    assert of["ablated"].mean("kl").estimate > 0


def test_what_cannot_be_judged_is_refused_in_one_sentence():
    torch.manual_seed(0)
    nets = {name: Pieces().eval() for name in "ab"}
    data = TensorDataset(torch.rand(60, 5), torch.zeros(60, dtype=torch.long))
    with pytest.raises(cv.InputError, match="Layer aside of net b does not reach the net's output"):
        judged(nets, "aside", data=data)
    nets["b"].last = nn.Linear(4, 2)
    nets["b"].eval()
    reading, loader = cv.Reading(blocks=10), DataLoader(data, 20)
    layer = cv.measure(nets, loader, ["first"], reading)["first"]
    both = [stitch for ab in ("ab", "ba") for stitch in own_stitches(layer.pair(*ab), 10)]
    paths = {"a": "first", "b": "first"}
    with pytest.raises(cv.InputError, match=r"need the same classes \(3 in a, 2 in b\)"):
        collect(nets, loader, [FunctionPass.start(("first", paths), reading, both, {})], reading)
    for path in ("first:input", "first+twice"):
        with pytest.raises(cv.InputError, match="is no module's output, so nothing can take its place"):
            Site(nets["a"], path)
    flat = {name: nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3), nn.Flatten(0)).eval() for name in "ab"}
    with pytest.raises(cv.InputError, match="gives a tensor of shape"):
        judged(flat, "0", data=data)
    wide = cv.Stitched(nets["a"], nets["b"], ["first", "twice#1"], align(cv.Matching(), layer.pair("a", "b")))
    wide._b = Site(wide.b, "last")
    with pytest.raises(cv.InputError, match="has 2 units and the other net's 4, but the alignment is of 4 and 4"):
        wide(data[:3][0])


def test_maps_that_were_fitted_to_some_positions_are_put_in_place_at_all_of_them():
    torch.manual_seed(0)
    nets = {name: ConvNet(1, 8, 10, (6, 8, 8, 12)).eval() for name in "ab"}
    loader, paths = DataLoader(images(40), 40), ("conv2", dict.fromkeys(nets, "conv2"))
    few = cv.Reading(blocks=4, sample=3)
    pair = replace(cv.measure(nets, loader, ["conv2"], few)["conv2"].pair("a", "b"), held_out_folds=2)
    controls = {"rotated": Source(pair, rotated_name("a", 0), 4)}
    stitches = [*own_stitches(pair, 4), *stitches_of(align(cv.Matching(), pair), 4, controls)]
    results = []
    for reading in (few, replace(few, sample="every")):
        (result,) = collect(nets, loader, [FunctionPass.start(paths, reading, stitches, {})], reading)
        results.append(result["conv2"].sums_vks)
    assert torch.equal(results[0].nan_to_num(), results[1].nan_to_num())
    assert len(results[0]) == 2 + 2 * 2


def test_positions_that_are_no_samples_stay_as_they_are():
    torch.manual_seed(0)
    nets = {name: ConvNet(1, 8, 10, (6, 8, 8, 12)).eval() for name in "ab"}
    loader, paths = DataLoader(images(40), 40), ("conv2", dict.fromkeys(nets, "conv2"))
    positions = cv.Reading(blocks=4)
    pair = replace(cv.measure(nets, loader, ["conv2"], positions)["conv2"].pair("a", "b"), held_out_folds=2)
    changed = []
    for drop in (
        [],
        [0, 10**6],
        list(range(10**3)),
    ):  # more than there are is no mistake: layers differ in their number
        reading = replace(positions, drop=drop)
        start = FunctionPass.start(paths, reading, own_stitches(pair, 4), {})
        (result,) = collect(nets, loader, [start], reading)
        changed.append(float(by_name_of_b(result["conv2"])["ablated"]))
    assert changed[0] > 0
    assert changed[1] not in (0, changed[0])
    assert changed[2] == 0


def by_name_of_b(of_layer):
    return {stitch.name: of for stitch, of in zip(of_layer.stitches, of_layer.difference_v)}


def test_tokens_that_predict_nothing_count_nowhere():
    torch.manual_seed(0)
    nets = {name: nn.Sequential(nn.Embedding(9, 6), nn.Linear(6, 5), nn.Linear(5, 9)).eval() for name in "ab"}
    token_np, reading = torch.randint(9, (40, 7)), cv.Reading(blocks=10)
    target_np = torch.cat([token_np[:, 1:], torch.full((40, 1), -100)], 1)
    loader = DataLoader(TensorDataset(token_np, target_np), 8)
    pair = cv.measure(nets, loader, ["1"], reading)["1"].pair("a", "b")
    stitches = [*own_stitches(pair, 10), *stitches_of(align(cv.LeastSquares(), pair), 10, {})]

    class Labelled(FunctionPass):  # as in the commands, whose batches say what comes next
        def begin(self, image_n, *also):
            super().begin(image_n, *also)
            self.label(target_np[image_n])

    start = Labelled.start(("1", {"a": "1", "b": "1"}), reading, stitches, {})
    (result,) = collect(nets, loader, [start], reading)
    of = by_name(result["1"])
    assert of["identity"].sums_ks[:, 0].sum() == 40 * 6
    logits = nets["b"](token_np)[:, :-1]
    expected = nn.functional.cross_entropy(logits.flatten(0, 1), token_np[:, 1:].flatten())
    assert of["identity"].mean("loss").estimate == pytest.approx(expected.item(), rel=1e-5)
    assert of["identity"].kept.estimate == pytest.approx(1, abs=1e-6)
    assert of["ablated"].mean("kl").estimate > 0


def test_reports_have_a_row_per_map_and_scalars_by_control():
    torch.manual_seed(0)
    nets = {name: ConvNet(1, 8, 10, (6, 8, 8, 12)).eval() for name in "ab"}
    (report,) = reports_of("conv3", judged(nets, "conv3"))
    rows = report.tables["function"]
    both = [(name, version) for name in ("method", "permuted", "least_squares") for version in (0, 1)]
    assert [(row["map"], row["restored"]) for row in rows] == [*both, ("identity", 0), ("ablated", 0)]
    assert all(row["images"] == 120 and row["kept_low"] <= row["kept"] <= row["kept_high"] for row in rows)
    assert report.scalars["kept"] == rows[0]["kept"]
    assert report.scalars["kept_least_squares_restored"] == rows[5]["kept"] > rows[3]["kept"]
