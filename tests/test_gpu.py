"""What only a GPU can show: the same moments, no waiting inside the pass, float32 products in full."""

import pytest
import torch

from convergent.core.moments import Moments
from convergent.errors import InputError
from convergent.function.merging.merge import merge
from convergent.methods.matching import Matching
from convergent.nets.convnet import ConvNet
from convergent.streaming.measure import measure
from convergent.streaming.reading import Reading
from convergent.streaming.statistics_pass import StatisticsPass
from convergent.streaming.top_images import TopCounter
from convergent.training.classifier import Learner

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def read(nets, x, batch, settings, **debug):
    """The moments of a pass over images x in batches."""
    with torch.inference_mode():
        reading = StatisticsPass(nets, ["conv1", "fc1"], len(x), dict.fromkeys(nets, x[:32]), settings)
        order = reading.deal.block(torch.arange(reading.deal.images)).argsort(stable=True)
        with reading:
            for image_n in order.split(batch):
                seen = x[image_n.to(x.device)]
                torch.cuda.set_sync_debug_mode(debug.get("mode", "default"))
                reading.begin(image_n)
                for net in nets.values():
                    net(seen)
                reading.end()
                torch.cuda.set_sync_debug_mode("default")
        return reading.finish()


def nets_of(device):
    torch.manual_seed(0)
    return {name: ConvNet(1, 16, 10, [32, 32, 32, 64], 0.0).eval().to(device) for name in ("one", "two")}


@pytest.mark.parametrize("sample", ["every", 20])
@pytest.mark.parametrize("device", [None, "cpu"])
def test_a_gpu_finds_what_the_processor_finds(sample, device):
    x = torch.randn(5000, 1, 16, 16)
    reading = Reading(sample, blocks=4, products="portable")
    on_cpu = read(nets_of("cpu"), x, 100, reading)
    on_gpu = read(nets_of("cuda"), x.cuda(), 100, Reading(sample, blocks=4, device=device))
    for layer in on_cpu:
        assert torch.equal(on_gpu[layer].count_k, on_cpu[layer].count_k)
        assert (on_gpu[layer].moments().total.corr_uu - on_cpu[layer].moments().total.corr_uu).abs().max() < 1e-5
        here, there = (of[layer].pair("one", "two").energy_products[1] for of in (on_cpu, on_gpu))
        assert torch.allclose(here, there, rtol=1e-4)


@pytest.mark.parametrize("there", [True, False])
def test_sums_are_the_same_on_the_gpu_and_on_the_host_and_in_any_order_of_images(monkeypatch, there):
    monkeypatch.setattr("convergent.streaming.beside.room", lambda *_: there)
    x = torch.randn(1000, 1, 16, 16)
    here = measure(nets_of("cuda"), x.split(50), ["conv1", "fc1"], Reading(blocks=8))  # blocks as the numbers have them
    for layer, moments in measure(nets_of("cpu"), x.split(50), ["conv1", "fc1"], Reading(blocks=8)).items():
        assert torch.equal(here[layer].count_k, moments.count_k)
        assert (here[layer].moments().total.corr_uu - moments.moments().total.corr_uu).abs().max() < 1e-5
        assert here[layer].mean_ku.device.type == "cpu"


def test_nan_on_a_gpu_is_reported_at_the_end():
    nets = nets_of("cuda")
    with torch.no_grad():
        nets["two"].conv1[0].weight[3] = torch.nan
    with pytest.raises(InputError, match=r"Layer conv1 of net two gives NaN .*unit 3, from batch 0"):
        measure(nets, torch.randn(100, 1, 16, 16).split(50), ["conv1"])


@pytest.mark.parametrize("devices", [("cuda", "cuda"), ("cuda", "cpu")])
def test_nets_are_measured_wherever_they_are_on_batches_of_the_host(devices):
    batches = torch.randn(500, 1, 16, 16).split(100)
    on_cpu = measure(nets_of("cpu"), batches, ["conv1", "fc1"])
    nets = {name: net.to(device) for (name, net), device in zip(nets_of("cpu").items(), devices)}
    for layer, moments in measure(nets, batches, ["conv1", "fc1"]).items():
        assert torch.equal(moments.count_k, on_cpu[layer].count_k)
        assert (moments.moments().total.corr_uu - on_cpu[layer].moments().total.corr_uu).abs().max() < 1e-5
    assert [next(net.parameters()).device.type for net in nets.values()] == list(devices)


def test_nothing_inside_the_pass_waits_for_the_gpu():
    x = torch.randn(300, 1, 16, 16).cuda()
    read(nets_of("cuda"), x, 50, Reading("every", blocks=1), mode="error")
    read(nets_of("cuda"), x, 50, Reading(10, blocks=1), mode="error")


def test_nothing_inside_a_training_step_waits_for_the_gpu():
    learner = Learner(nets_of("cuda")["one"].train(), 10)
    optimizer = torch.optim.SGD(learner.net.parameters(), 0.1, foreach=True)
    x, target = torch.randn(50, 1, 16, 16).cuda(), torch.randint(10, (50,)).cuda()
    for mode in ("default", "error", "error"):  # the first step makes what the others find
        torch.cuda.set_sync_debug_mode(mode)
        learner.loss(x, target, 0, 0, highest=9).backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        learner.count(x, target, highest=9)
    torch.cuda.set_sync_debug_mode("default")


def test_products_are_full_float32_unless_asked_otherwise():
    x_nu = torch.randn(1_000_000, 12) * 3 + 1
    from convergent.core.products import chosen
    from convergent.streaming.accumulate import Accumulator
    from convergent.streaming.arithmetic import Arithmetic

    errors = {}
    before = torch.get_float32_matmul_precision()
    for products in ("auto", "tf32"):
        torch.set_float32_matmul_precision("high")  # as many nets are run
        product = chosen(products, torch.device("cuda"), torch.float32)
        accumulator = Accumulator("x", {"a": 12}, 500, Arithmetic(torch.zeros(12).cuda(), torch.float32, product))
        for x in x_nu.view(-1, 500, 12).transpose(1, 2).split(100):
            accumulator.begin([0] * len(x))
            accumulator.write("a", x.cuda())
            accumulator.end()
        accumulator.close()
        moments = accumulator.moments(2000).moments().total
        errors[products] = (moments.corr_uu - Moments.of(x_nu).corr_uu).abs().max()
        torch.set_float32_matmul_precision(before)
    assert errors["auto"] < 3e-7 < errors["tf32"]


def test_the_images_that_excite_units_most_are_those_of_the_host():
    x_ncp = torch.randn(40, 5, 9).round(decimals=1)  # with ties
    here, there = TopCounter(5), TopCounter(5, device="cuda")
    for image_n in torch.randperm(40).split(7):
        here.add(x_ncp[image_n], image_n)
        there.add(x_ncp[image_n].cuda(), image_n)
    one, other = here.top(), there.top()
    assert torch.equal(one.image_ck, other.image_ck)
    assert torch.equal(one.activation_ck, other.activation_ck)


def test_nets_on_a_gpu_are_merged_as_on_the_processor():
    x, y = torch.randn(300, 1, 16, 16), torch.randint(10, (300,))
    alignments = ["none", "weights", Matching()]
    barriers = [
        merge(nets_of(device), [(x, y)], [(x, y)], alignments).barriers()["barrier"] for device in ("cpu", "cuda")
    ]
    assert (barriers[0] - barriers[1]).abs().max() < 1e-3
