"""The statistics pass: every layer of all nets, accumulated side by side while the nets read the images once.

Axes: `n` images of a batch, `c` units of one net, `u` units of all nets, `p` positions, `k` blocks of images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from convergent.accumulate import FLOAT64_BELOW, Accumulator, Sums, grid_shift
from convergent.capture import Capture, samples
from convergent.errors import InputError
from convergent.moments import Moments
from convergent.pairs import block_of_image
from convergent.products import chosen


class StatisticsPass:
    """Open it, run all nets on each batch between `begin` and `end`, and take the moments with `finish`.

    >>> nets = {"a": nn.Sequential(nn.Linear(4, 3)), "b": nn.Sequential(nn.Linear(4, 2))}
    >>> x = torch.randn(10, 4)
    >>> with torch.no_grad(), StatisticsPass(nets, ["0"], images=10, calibration=x, blocks=5) as reading:
    ...     reading.begin(torch.arange(10))
    ...     _ = [net(x) for net in nets.values()]
    ...     reading.end()
    >>> reading.finish()["0"].mean_u.shape  # five blocks, three units of a beside two of b
    torch.Size([5, 5])
    """

    def __init__(
        self,
        nets: Mapping[str, nn.Module],
        layers: Sequence[str],
        images: int,
        calibration: Tensor,
        sample: str | int = "every",
        blocks: int = 64,
        block_memory: float = 1e9,
        products: str = "auto",
    ) -> None:
        """Look at the layers' shapes and scales, and plan.

        Args:
            nets: by name.
            layers: names of modules, the same in all nets.
            images: how many there will be, in all processes together.
            calibration: a few pictures, the same in all processes; units are shifted by their mean there.
            sample: of a convolutional layer, see `capture.samples`.
            blocks: of images; layers too wide for `block_memory` get a half, a quarter, ... of them.
            block_memory: bytes that one layer's blocks may take.
            products: backend of the float32 matrix products, see `products.chosen`.

        Raises:
            InputError: if a layer cannot be captured, the nets disagree on its positions, or memory does not suffice.
        """
        self.layers, self.sample, self.block_memory = list(layers), sample, block_memory
        self.products = products
        self.block_n = block_of_image(images, blocks)
        self.units: dict[str, dict[str, slice]] = {}
        seen = calibrate(nets, calibration, layers, sample)
        self._accumulators = {layer: self._accumulator(layer, seen[layer]) for layer in self.layers}
        self._check_memory()
        self._capture = Capture(nets, self.layers, self._write)

    def __enter__(self) -> Self:
        self._capture.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._capture.__exit__()

    @property
    def _finest(self) -> int:
        return int(self.block_n.max()) + 1

    def blocks(self, layer: str) -> int:
        """How many blocks a layer gets: the finest, halved until they fit."""
        blocks, units = self._finest, len(self._accumulators[layer].shift_u)
        while blocks > 1 and blocks * units**2 * 8 > self.block_memory:
            blocks //= 2
        return blocks

    def memory(self, layer: str) -> int:
        """Bytes of host memory that a layer's sums take by the end of the pass."""
        return self.blocks(layer) * len(self._accumulators[layer].shift_u) ** 2 * 8

    def plan(self) -> str:
        """A table of what is measured and what it takes, a line per layer."""
        width = max(map(len, ["layer", *self.layers]))
        lines = [f"{'layer':{width}}  {'units of each net':>20}  positions  blocks  products     memory"]
        for layer, accumulator in self._accumulators.items():
            widths = [units.stop - units.start for units in self.units[layer].values()]
            told = f"{len(widths)} x {widths[0]}" if len(set(widths)) == 1 else ", ".join(map(str, widths))
            kind = str(accumulator.dtype).removeprefix("torch.")
            cells = f"{told:>20}  {accumulator.positions:9,}  {self.blocks(layer):6}  {kind:>8}"
            lines.append(f"{layer:{width}}  {cells}  {self.memory(layer) / 1e6:6,.0f} MB")
        return "\n".join(lines)

    def _check_memory(self) -> None:
        needed = sum(map(self.memory, self.layers))
        free = available_memory()
        if needed > free:
            raise InputError(
                f"The sums of these layers take {needed / 1e9:.1f} GB of memory, but {free / 1e9:.1f} GB are free; ask for "
                f"fewer blocks (blocks={self._finest // 4}, block_memory=) or for the layers in groups (layers=[...])."
            )

    def begin(self, image_n: Tensor) -> None:
        """Start a batch of these images."""
        self._image_n = image_n
        block_n = self.block_n[image_n.cpu()]
        self._capture.begin()
        for layer, accumulator in self._accumulators.items():
            accumulator.begin((block_n * self.blocks(layer) // self._finest).tolist())

    def end(self) -> None:
        """Finish the batch: multiply what is complete."""
        self._capture.end()
        for accumulator in self._accumulators.values():
            accumulator.end()

    def finish(self) -> dict[str, Moments]:
        """The moments of every layer, with a leading block axis, summed over all processes.

        Raises:
            InputError: if an activation was NaN or infinite.
        """
        moments = {}
        for layer, accumulator in self._accumulators.items():
            accumulator.close()
            blocks = range(self.blocks(layer))
            sums = [_over_processes(accumulator.done.pop(block, None), accumulator.shift_u) for block in blocks]
            moments[layer] = Moments.stack([s.moments(accumulator.shift_u.cpu()) for s in sums])
        return moments

    def _accumulator(self, layer: str, seen: Mapping[str, Tensor]) -> Accumulator:
        edges = torch.tensor([0, *(x_ncp.shape[1] for x_ncp in seen.values())]).cumsum(0).tolist()
        self.units[layer] = {net: slice(*edges[i : i + 2]) for i, net in enumerate(seen)}
        positions = {net: x_ncp.shape[2] for net, x_ncp in seen.items()}
        if len(set(positions.values())) > 1:
            told = ", ".join(f"{p} in {net}" for net, p in positions.items())
            raise InputError(
                f"Layer {layer} has unequal numbers of positions ({told}); compare them with sample=pooled."
            )
        x_us = torch.cat([x_ncp.double().transpose(0, 1).flatten(1) for x_ncp in seen.values()])
        shift_u = grid_shift(x_us.mean(1).nan_to_num(), x_us.std(1, correction=0).nan_to_num())
        p = next(iter(positions.values()))
        dtype = torch.float64 if len(self.block_n) * p < FLOAT64_BELOW else torch.float32
        product = chosen(self.products, shift_u.device, dtype)
        return Accumulator(layer, self.units[layer], p, shift_u, dtype, product)

    def _write(self, net: str, layer: str, activation: Tensor) -> None:
        where = f"Layer {layer} of net {net}"
        self._accumulators[layer].write(net, samples(activation, self.sample, where, self._image_n))


def calibrate(
    nets: Mapping[str, nn.Module], x: Tensor, layers: Sequence[str], sample: str | int
) -> dict[str, dict[str, Tensor]]:
    """The samples of every layer of every net for a few pictures: {layer: {net: (n images, c units, p positions)}}."""
    seen: dict[str, dict[str, Tensor]] = {layer: {} for layer in layers}

    def keep(net: str, layer: str, activation: Tensor) -> None:
        seen[layer][net] = samples(activation, sample, f"Layer {layer} of net {net}").clone()

    with Capture(nets, layers, keep) as capture:
        capture.begin()
        for net in nets.values():
            net(x)
        capture.end()
    return seen


def available_memory() -> float:
    """Bytes of host memory that can be had without swapping; infinite where the system does not tell."""
    meminfo = Path("/proc/meminfo")
    lines = meminfo.read_text().splitlines() if meminfo.exists() else []
    kilobytes = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(kilobytes[0]) * 1024 if kilobytes else float("inf")


def _over_processes(sums: Sums | None, shift_u: Tensor) -> Sums:
    """The sums of one block over all processes; one block at a time bounds the memory that this takes."""
    u = len(shift_u)
    sums = sums or Sums(0.0, torch.zeros(u, dtype=torch.float64), torch.zeros(u, u, dtype=torch.float64))
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return sums
    flat = torch.cat([torch.tensor([sums.count], dtype=torch.float64), sums.s_u, sums.s_uu.flatten()])
    flat = flat.to(shift_u.device)
    torch.distributed.all_reduce(flat)
    flat = flat.cpu()
    return Sums(flat[0].item(), flat[1 : u + 1], flat[u + 1 :].view(u, u))
