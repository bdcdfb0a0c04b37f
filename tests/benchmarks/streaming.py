"""What the benchmarks share: the pass's accumulator on given activations, and what machine they ran on."""

import platform
import re
import sys
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2] / "src"))

from convergent.core.moments import Moments
from convergent.core.products import Product, chosen
from convergent.streaming.accumulate import Accumulator
from convergent.streaming.arithmetic import Arithmetic

Batch = tuple[Tensor, Tensor]  # the two nets' activations, each (n images, c units, p positions)


def streamed(batches: Iterable[Batch], images: int, dtype: torch.dtype, product: Product, blocks: int = 1) -> Moments:
    """The joint moments of two nets' units, calibrated on the first batch as the pass does it."""
    accumulator, done = None, 0
    for batch in batches:
        if accumulator is None:
            x_us = torch.cat([x_ncp.double().transpose(0, 1).flatten(1) for x_ncp in batch])
            widths = {name: x_ncp.shape[1] for name, x_ncp in zip(("one", "two"), batch)}
            arithmetic = Arithmetic.of(x_us, [batch[0].dtype], dtype, product)
            accumulator = Accumulator("layer", widths, batch[0].shape[2], arithmetic, blocks)
            del x_us
        accumulator.begin([image * blocks // images for image in range(done, done + len(batch[0]))])
        for net, x_ncp in zip(accumulator.nets, batch):
            accumulator.write(net, x_ncp)
        accumulator.end()
        done += len(batch[0])
    assert done == images, f"{images} images were announced, {done} came"
    accumulator.close()
    return accumulator.moments(images).moments().total


def machine() -> dict[str, str]:
    """Processor, its vector instructions, the backend that is fastest on it, and versions."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    models = [re.sub(r"\(R\)|\(TM\)| Processor$", "", model) for model in models]
    return {
        "processor": models[0] if models else platform.processor() or platform.machine(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "auto": chosen("auto", torch.device("cpu"), torch.float32).__name__,
        "torch": torch.__version__,
    }
