"""The statistics pass and training on a GPU. Lines of JSON; without a GPU a sentence that says so, and nothing is measured.

python tests/benchmarks/gpu.py

Of the pass: seconds of the bare forward pass and of the same with statistics, whose sums are made on the GPU or on the host;
the largest error of a correlation beside products and sums in float64 of the same activations; how often a batch waits for
the GPU, counted by a profile. Then images per second of experiment=paper_fast on pictures of a store (training.py), on one
GPU and by DDP on all of them, and whether all GPUs together find the moments that one finds.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from convergent.nets.caffenet import CaffeNet
from convergent.streaming.reading import Reading
from convergent.streaming.statistics_pass import StatisticsPass
from streaming import machine

HERE, PROJECT = Path(__file__).parent, Path(__file__).parents[2]
LAYERS = [*(f"conv{i}" for i in range(1, 6)), "fc6", "fc7", "fc8"]
# What the processor does that lasts until the GPU is done.
_WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "Memcpy DtoH")

# By name: the options of the reading; see `nets_of` and `run` for what is said of the nets.
WAYS: dict[str, dict[str, Any]] = {
    **{way: {"products": "portable"} for way in ("float32", "channels_last", "bfloat16")},
    "tf32": {"products": "tf32"},
    "host": {"device": "cpu"},
}


class Rough(StatisticsPass):
    """The pass as it is of a million samples and more: products in float32 however few there are."""

    exact = False


def hardware() -> dict[str, Any]:
    """The GPUs and the versions of what drives them."""
    gpus = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return machine() | {
        "gpu": gpus[0].name if gpus else None,
        "gpus": len(gpus),
        "gpu_gb": gpus[0].total_memory / 1e9 if gpus else None,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def wait(device: torch.device) -> None:
    """Until the GPU has done all."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def nets_of(way: str, device: torch.device, width: float) -> dict[str, nn.Module]:
    """Two CaffeNets."""
    torch.manual_seed(0)
    layout = torch.channels_last if way == "channels_last" else torch.contiguous_format
    nets = [CaffeNet(width=width, he=width < 1).eval() for _ in range(2)]
    return {f"net{i}": net.to(device, memory_format=layout) for i, net in enumerate(nets)}


def batch_of(way: str, device: torch.device, size: int) -> Tensor:
    """Random pictures as the nets want them, where they are."""
    x = torch.randn(size, 3, 227, 227, generator=torch.Generator().manual_seed(0)).to(device)
    return x.contiguous(memory_format=torch.channels_last) if way == "channels_last" else x


def run(
    nets: dict[str, nn.Module],
    x: Tensor,
    passes: Iterable[StatisticsPass] = (),
    image_n: Tensor | None = None,
    *,
    half: bool = False,
) -> None:
    """One batch, its forward pass in bfloat16 or not, by autocast as trainer.precision=bf16-mixed has it."""
    for each in passes:
        each.begin(image_n)
    with torch.autocast(x.device.type, torch.bfloat16, enabled=half):
        for net in nets.values():
            net(x)
    for each in passes:
        each.end()


@contextmanager
def hooked(passes: Iterable[StatisticsPass]) -> Iterator[None]:
    """While open, the passes see what the nets do."""
    with torch.inference_mode(), ExitStack() as hooks:
        for each in passes:
            hooks.enter_context(each)
        yield


def measured_pass(way: str, device: torch.device, batch: int, batches: int, width: float = 1.0) -> dict[str, Any]:
    """Seconds per image, bare and with statistics, and of what comes once."""
    nets = nets_of(way, device, width)
    x, images = batch_of(way, device, batch), 50_000
    reading = Reading(**WAYS[way])
    calibration = dict.fromkeys(nets, x[:8])
    began = time.perf_counter()
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=way == "bfloat16"):
        each = StatisticsPass(nets, LAYERS, images, calibration, reading)
    wait(device)
    start_s, seconds = time.perf_counter() - began, {"bare_s": 0.0, "with_s": 0.0}
    order = each.deal.block(torch.arange(images)).argsort(stable=True).split(batch)[: batches + 2]
    for name, passes in (("bare_s", []), ("with_s", [each])):
        with hooked(passes):
            for number, image_n in enumerate(order):
                if number == 2:  # the first two warm up
                    wait(device)
                    began = time.perf_counter()
                run(nets, x, passes, image_n, half=way == "bfloat16")
            wait(device)
            seconds[name] = (time.perf_counter() - began) / (batches * batch)
    began = time.perf_counter()
    with torch.inference_mode():
        each.finish()
    finish_s = time.perf_counter() - began
    peak = torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None
    record = {"way": f"pass {way}", "batch": batch, "images": batches * batch, **seconds, "peak_gb": peak}
    return record | {"ratio": seconds["with_s"] / seconds["bare_s"], "start_s": start_s, "finish_s": finish_s}


def error(way: str, device: torch.device, images: int = 256, width: float = 1.0) -> dict[str, Any]:
    """The largest error of a correlation beside the same activations multiplied and summed in float64, by layer."""
    nets = nets_of(way, device, width)
    x = batch_of(way, device, images)
    calibration, settings = dict.fromkeys(nets, x[:8]), {"blocks": 1, **WAYS[way]}
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=way == "bfloat16"):
        passes = [
            kind(nets, LAYERS, images, calibration, Reading(**of))
            for kind, of in ((Rough, settings), (StatisticsPass, {"blocks": 1}))
        ]
    with hooked(passes):
        for image_n in torch.arange(images).split(max(1, images // 4)):
            run(nets, x[image_n.to(device)], passes, image_n, half=way == "bfloat16")
        rough, exact = (each.finish() for each in passes)
    errors = {
        layer: float((rough[layer].pair(0, 1).corr_ab - exact[layer].pair(0, 1).corr_ab).abs().max())
        for layer in LAYERS
    }
    return {"way": f"error {way}", "images": images, "by_layer": errors, "most": max(errors.values())}


def waits(events: Iterable[str]) -> Counter:
    """How often each thing that waits for the GPU is among a profile's events."""
    return Counter(wait_ for event in events for wait_ in _WAITS if wait_ in event)


def synchronisations(device: torch.device, batch: int, width: float = 1.0) -> dict[str, Any]:
    """Waits per batch of the pass: those of twelve batches less those of four, so that begin and end do not count.

    All batches are of one block, whose sums go to the host at its end.
    """
    nets = nets_of("float32", device, width)
    x, counts = batch_of("float32", device, batch), []
    kinds = [torch.profiler.ProfilerActivity.CPU]
    kinds += [torch.profiler.ProfilerActivity.CUDA] if device.type == "cuda" else []
    for batches in (4, 12):
        with torch.inference_mode():
            each = StatisticsPass(nets, LAYERS, 50_000, dict.fromkeys(nets, x[:8]), Reading(blocks=1))
        with hooked([each]):
            run(nets, x, [each], torch.arange(batch))
            wait(device)
            with torch.profiler.profile(activities=kinds) as profile:
                for number in range(1, batches + 1):
                    run(nets, x, [each], torch.arange(batch) + number * batch)
                wait(device)
            counts.append(waits(event.name for event in profile.events()))
    few, many = counts
    return {
        "way": "waits",
        "per_batch": {name: (many[name] - few[name]) / 8 for name in _WAITS},
        "profiled": dict(many),
    }


def together(place: Path, gpus: int, accelerator: str = "gpu") -> dict[str, Any]:
    """Whether as many processes find the moments of one, and the seconds of both, of the command align."""
    moments, seconds = [], []
    net = "{_target_: convergent.nets.convnet.ConvNet, channels: 1, size: 8, classes: 10, widths: [32,32,32,64]}"
    for devices in (1, gpus):
        root = place / f"{devices}-processes"
        options = [f"nets=[{net},{net}]", "layers=[conv1,conv2,conv3,fc1]", "name=it", "logger=csv", "pictures=null"]
        options += ["trainer=ddp", f"trainer.devices={devices}", f"trainer.accelerator={accelerator}", f"root={root}"]
        began = time.perf_counter()
        command = [sys.executable, str(PROJECT / "src" / "align.py"), *options, "evaluation.nulls=[]"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds.append(time.perf_counter() - began)
        if done.returncode:
            return {"way": "together", "gpus": gpus, "failed": (done.stdout + done.stderr)[-500:]}
        files = sorted((root / "outputs" / "moments").glob("*/*.safetensors"))
        moments.append({(file.name, name): x for file in files for name, x in load_file(file).items()})
    one, all_ = moments
    apart = max(float((one[key] - all_[key]).abs().max() / one[key].abs().max().clamp(min=1)) for key in one)
    return {"way": "together", "gpus": gpus, "difference": apart, "one_s": seconds[0], "all_s": seconds[1]}


def trained(gpus: int) -> Iterator[dict[str, Any]]:
    """The lines of training.py."""
    command = [sys.executable, str(HERE / "training.py"), "--gpus", str(gpus)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    for line in done.stdout.splitlines():
        if line.startswith("{") and "way" in (record := json.loads(line)):
            yield record
    if done.returncode:
        yield {"way": "training", "devices": gpus, "failed": f"exit code {done.returncode}"}


def records(device: torch.device, batch: int = 256, batches: int = 100, width: float = 1.0) -> Iterator[dict[str, Any]]:
    """All that one process measures of the pass."""
    yield hardware()
    for way in WAYS if device.type == "cuda" else [way for way in WAYS if way != "tf32"]:
        yield tried(f"pass {way}", measured_pass, way, device, batch, batches, width)
        if way != "host":
            yield tried(f"error {way}", error, way, device, min(batch, 256), width)
    yield tried("waits", synchronisations, device, batch, width)


def tried(way: str, measure: Callable[..., dict[str, Any]], *given: Any) -> dict[str, Any]:
    """What is measured, or why it cannot be: one thing that a GPU refuses does not take the rest along."""
    try:
        return measure(*given)
    except (RuntimeError, ValueError) as failure:
        return {"way": way, "failed": str(failure).splitlines()[0][:300]}


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    if not torch.cuda.is_available():
        print("skipped: torch finds no CUDA device here, so nothing is measured", file=sys.stderr)
        return
    for record in records(torch.device("cuda")):
        print(json.dumps(record), flush=True)
    gpus = torch.cuda.device_count()
    for count in dict.fromkeys((1, gpus)):
        for record in trained(count):
            print(json.dumps(record), flush=True)
    with tempfile.TemporaryDirectory() as place:
        print(json.dumps(together(Path(place), gpus)), flush=True)


if __name__ == "__main__":
    main()
