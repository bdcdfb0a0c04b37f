"""What the statistics pass costs over the bare forward pass of the same nets on the same batches.

One thread, process CPU time, bare and measured batches interleaved, after a warm-up; `whole` is the ratio of the sums.
Layers with one row per image are multiplied once in 4,096 images: for fewer images their share of such a product is timed
apart and added:

    python tests/benchmarks/statistics_pass.py caffenet:2 resnet18:2
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack

import torch
from torchvision.models import get_model

from convergent.nets.caffenet import CaffeNet
from convergent.streaming.arithmetic import add_products
from convergent.streaming.reading import Reading
from convergent.streaming.rotated_pass import SavedRotations
from convergent.streaming.statistics_pass import StatisticsPass
from streaming import machine

ROWS = 4096  # of a product

CASES = {
    "caffenet": (CaffeNet, 227, 64, [*(f"conv{i}" for i in range(1, 6)), "fc6", "fc7", "fc8"]),
    "resnet18": (lambda: get_model("resnet18"), 224, 16, [f"layer{i}.{j}" for i in range(1, 5) for j in range(2)]),
    "resnet50": (
        lambda: get_model("resnet50"), 224, 64, [f"layer{i}.{j}" for i, n in enumerate((3, 4, 6, 3), 1) for j in range(n)],
    ),
}  # fmt: skip


def forward(nets: dict, x: torch.Tensor) -> None:
    """Run every net."""
    for net in nets.values():
        net(x)


def rare_products(reading: StatisticsPass) -> float:
    """Seconds of the products of layers with one row per image, which fall once in so many images."""
    spent = 0.0
    for accumulator in (accumulator for parts in reading.accumulators.values() for accumulator in parts):
        if accumulator.positions == 1:
            x_us = torch.randn(accumulator.packing.width, ROWS, dtype=accumulator.dtype)
            open_f = torch.zeros(accumulator.packing.size, dtype=torch.float64)
            for _ in range(2):  # the first takes the memory from the system
                start = time.process_time()
                add_products(open_f, x_us, accumulator.packing, accumulator.product)
                last = time.process_time() - start
            spent += last
    return spent


def collectors(nets: dict, layers: list, x: torch.Tensor, reading: Reading, rotations: bool) -> list[StatisticsPass]:
    """What reads the nets: the statistics, and those of nets on rotated axes where these are asked for."""

    def first(count: int) -> Iterator:
        for image_n in torch.arange(min(count, 256)).split(len(x)):
            yield image_n, dict.fromkeys(nets, x[: len(image_n)])

    more = [SavedRotations().start(layers, reading, None)(nets, 50_000, first)] if rotations else []
    return [StatisticsPass(nets, layers, 50_000, dict.fromkeys(nets, x[:8]), reading), *more]


def measured(case: str, k: int, count: int, reading: Reading, rotations: bool) -> dict:
    """Seconds of the pass with statistics over seconds of the bare forward pass, for `count` images."""
    make, size, batch, layers = CASES[case]
    torch.manual_seed(0)
    nets = {f"net{i}": make().eval() for i in range(k)}
    x = torch.randn(batch, 3, size, size)
    bare_s, with_s = [], []
    with torch.inference_mode():
        start = time.process_time()
        passes = collectors(nets, layers, x, reading, rotations)
        started = time.process_time() - start
        order = passes[0].deal.block(torch.arange(50_000)).argsort(stable=True)  # block after block, as it is read
        forward(nets, x)
        for first in range(0, count + batch, batch):
            start = time.process_time()
            forward(nets, x)
            bare_s.append(time.process_time() - start)
            start = time.process_time()
            with ExitStack() as hooks:
                for each in passes:
                    hooks.enter_context(each)
                    each.begin(order[first : first + batch])
                forward(nets, x)
                for each in passes:
                    each.end()
            with_s.append(time.process_time() - start)
        bare_s, with_s = bare_s[1:], with_s[1:]  # the first batch warms up
        start = time.process_time()
        finished, *_ = [each.finish() for each in passes]
        last = time.process_time() - start
    result = {
        "case": f"{case}:{k}",
        "products": reading.products,
        "sample": reading.sample,
        "batch": batch,
        "images": count,
    }
    result |= {"rotations": {layer: [len(each.rotations.draws[layer]) for each in passes[1:]] for layer in layers}}
    result |= {"blocks": {layer: len(moments.count_k) for layer, moments in finished.items()}}
    ratios = [w / b for w, b in zip(with_s, bare_s)]
    result |= {"median_of_batches": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}
    late_s = sum(map(rare_products, passes)) * count / ROWS if count < ROWS else 0.0
    result |= {
        "whole": (sum(with_s) + late_s) / sum(bare_s),
        "of_it_rare": late_s / sum(bare_s),
        "bare_s_per_image": sum(bare_s) / count,
    }
    return result | {"start_s": started, "finish_s": last}  # once per pass, whatever the number of images


def main() -> None:
    """Measure the cases named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=["caffenet:2", "resnet18:2"])
    parser.add_argument("--images", type=int, default=512, help="of each way")
    parser.add_argument("--blocks", type=int, default=64)
    parser.add_argument("--sample", default="every", type=lambda text: int(text) if text.isdigit() else text)
    parser.add_argument("--products", default="auto")
    parser.add_argument("--rotations", action="store_true", help="and the null's random rotations")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(json.dumps(machine()), flush=True)
    for case in options.cases:
        name, _, k = case.partition(":")
        reading = Reading(options.sample, blocks=options.blocks, products=options.products)
        print(json.dumps(measured(name, int(k or 2), options.images, reading, options.rotations)), flush=True)


if __name__ == "__main__":
    main()
