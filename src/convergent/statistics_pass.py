"""The statistics pass: every layer of all nets, accumulated side by side while the nets read the images once.

Axes: `n` images of a batch, `c` units of one net, `u` units of all nets, `p` positions, `k` blocks of images.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from convergent.accumulate import FLOAT64_BELOW, OFF_GRID, Accumulator, grid_shift, on_grid
from convergent.capture import Capture
from convergent.errors import InputError
from convergent.layer_moments import LayerMoments
from convergent.layers import Layer, by_unit, layout, resolve, samples
from convergent.pairs import block_of_image
from convergent.products import chosen

# Columns of the table of what is planned; the first few are text.
_HEADINGS = ("layer", "activation", "units are", "units", "positions", "samples", "blocks", "products", "memory")
_LEFT = 4


@dataclass(frozen=True)
class Reading:
    """How activations are read.

    Attributes:
        sample: of a layer with positions, see `layers.samples`.
        units: which axis of an activation they are, see `layers.by_unit`; or a dictionary that says so per net.
        blocks: of images; layers too wide for `block_memory` get a half, a quarter, ... of them.
        block_memory: bytes that one layer's blocks may take.
        products: backend of the float32 matrix products, see `products.chosen`.
        device: where products are made and summed, as torch names it; None for where the nets are.
    """

    sample: str | int = "every"
    units: str | Mapping[str, str] = "auto"
    blocks: int = 64
    block_memory: float = 1e9
    products: str = "auto"
    device: str | None = None

    def units_of(self, net: str) -> str:
        """Where a net's activations have their units."""
        return self.units if isinstance(self.units, str) else self.units.get(net, "auto")

    def samples(self, net: str, layer: str, activation: Tensor, image_n: Tensor | None = None) -> Tensor:
        """The samples of an activation, shape (n images, c units, p positions)."""
        where = f"Layer {layer} of net {net}"
        return samples(by_unit(activation, self.units_of(net), where), self.sample, where, image_n)


class StatisticsPass:
    """Open it, run all nets on each batch between `begin` and `end`, and take the moments with `finish`.

    >>> nets = {"a": nn.Sequential(nn.Linear(4, 3)), "b": nn.Sequential(nn.Linear(4, 2))}
    >>> x = torch.randn(10, 4)
    >>> calibration = {"a": x, "b": x}
    >>> with torch.no_grad(), StatisticsPass(nets, ["0"], 10, calibration, Reading(blocks=5)) as reading:
    ...     reading.begin(torch.arange(10))
    ...     _ = [net(x) for net in nets.values()]
    ...     reading.end()
    >>> reading.finish()["0"].pair("a", "b").corr_ab.shape
    torch.Size([3, 2])
    """

    def __init__(
        self,
        nets: Mapping[str, nn.Module],
        layers: Sequence[str | Sequence[str] | Layer],
        images: int,
        calibration: Mapping[str, Tensor],
        how: Reading | None = None,
        pairs: Iterable[tuple[str, str]] | None = None,
    ) -> None:
        """Look at the layers' shapes and scales, and plan.

        Args:
            nets: by name.
            layers: what is compared, see `layers.resolve`.
            images: how many there will be, in all processes together.
            calibration: a few images for each net, the same in all processes; units are shifted by their mean there.
            how: activations are read.
            pairs: names of the nets that are to be compared; all with all by default.

        Raises:
            InputError: if a layer cannot be captured, the nets disagree on its positions, or memory does not suffice.
        """
        self.how = how or Reading()
        self.layers = resolve(nets, layers)
        self.block_n = block_of_image(images, self.how.blocks)
        numbers = {name: number for number, name in enumerate(nets)}
        self._pairs = None if pairs is None else [(numbers[a], numbers[b]) for a, b in pairs]
        self._image_n = torch.empty(0)
        self._images = 0
        self._shapes: dict[str, dict[str, list[int]]] = {layer: {} for layer in self.layers}
        seen = self._calibrate(nets, calibration)
        self._accumulators = {layer: self._accumulator(layer, seen[layer]) for layer in self.layers}
        self._check_memory()
        self._capture = Capture(nets, self.layers, self._write)

    def __enter__(self) -> Self:
        self._capture.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._capture.__exit__()

    def begin(self, image_n: Tensor) -> None:
        """Start a batch of these images, numbers on the host."""
        block_n = self.block_n[image_n]
        self._images += len(image_n)
        self._image_n = image_n
        self._capture.begin()
        for accumulator in self._accumulators.values():
            accumulator.begin((block_n * accumulator.blocks // self._finest).tolist())

    def end(self) -> None:
        """Finish the batch: multiply what is complete."""
        self._capture.end()
        for accumulator in self._accumulators.values():
            accumulator.end()

    def finish(self) -> dict[str, LayerMoments]:
        """The moments of every layer, summed over all processes; they take over the memory of the sums.

        Raises:
            InputError: if an activation was NaN or infinite.
        """
        images = torch.tensor([float(self._images)], dtype=torch.float64)
        accumulators = self._accumulators.values()
        _over_processes(images, next(iter(accumulators)).device)
        for accumulator in accumulators:
            accumulator.close()
            for sums_f in accumulator.sums_kf:  # block by block bounds the memory that this takes
                _over_processes(sums_f, accumulator.device)
        return {layer: accumulator.moments(int(images)) for layer, accumulator in self._accumulators.items()}

    def state(self) -> dict[str, Tensor]:
        """All that was read so far, for a process that takes the pass up where this one was killed."""
        state = {"images": torch.tensor(self._images)}
        for layer, accumulator in self._accumulators.items():
            state |= {f"{layer}/{name}": tensor for name, tensor in accumulator.state().items()}
        return state

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on where `state` was taken."""
        self._images = int(state["images"])
        for layer, accumulator in self._accumulators.items():
            head = f"{layer}/"
            accumulator.load_state({name[len(head) :]: x for name, x in state.items() if name.startswith(head)})

    def plan(self) -> str:
        """A table of what is compared and what it takes, a line per layer."""
        columns = []
        for number, column in enumerate(zip(_HEADINGS, *(self._planned(layer) for layer in self.layers))):
            width = max(map(len, column))
            columns.append([cell.ljust(width) if number < _LEFT else cell.rjust(width) for cell in column])
        return "\n".join("  ".join(row) for row in zip(*columns))

    def _planned(self, layer: str) -> tuple[str, ...]:
        accumulator, shapes = self._accumulators[layer], self._shapes[layer]
        where = [layout([1, *shape], self.how.units_of(net)) for net, shape in shapes.items()]
        widths = [units.stop - units.start for units in accumulator.units.values()]
        samples = len(self.block_n) * accumulator.positions
        return (
            layer,
            _told(" x ".join(map(str, shape)) for shape in shapes.values()),
            _told(where),
            f"{len(widths)} nets x {widths[0]}" if len(set(widths)) == 1 else _told(map(str, widths)),
            f"{accumulator.positions:,}",
            f"{samples:,}",
            str(accumulator.blocks),
            str(accumulator.dtype).removeprefix("torch."),
            f"{accumulator.memory / 1e6:,.0f} MB",
        )

    def _check_memory(self) -> None:
        needed = sum(accumulator.memory for accumulator in self._accumulators.values())
        free = available_memory()
        if needed > free:
            raise InputError(
                f"The sums of these layers take {needed / 1e9:.1f} GB of memory, but {free / 1e9:.1f} GB are free; ask for "
                f"fewer blocks (blocks={self._finest // 4}, block_memory=), for the layers in several passes "
                "(layers_per_pass=1), or for some pairs of nets only (pairs=[[NET,NET],...])."
            )

    @property
    def _finest(self) -> int:
        return int(self.block_n.max()) + 1

    def _accumulator(self, layer: str, seen: Mapping[str, Tensor]) -> Accumulator:
        positions = {net: x_ncp.shape[2] for net, x_ncp in seen.items()}
        if len(set(positions.values())) > 1:
            told = ", ".join(f"{p} in {net}" for net, p in positions.items())
            raise InputError(
                f"Layer {layer} has unequal numbers of positions ({told}); compare them with sample=pooled."
            )
        x_us = torch.cat([x_ncp.double().transpose(0, 1).flatten(1) for x_ncp in seen.values()])
        shift_u = grid_shift(x_us.mean(1).nan_to_num(), x_us.std(1, correction=0).nan_to_num())
        if self.how.device is not None:
            try:
                shift_u = shift_u.to(self.how.device)
            except (RuntimeError, AssertionError) as error:  # torch raises either
                raise InputError(
                    f"device needs to be cpu or a GPU that is here, not {self.how.device} ({str(error).splitlines()[0]})."
                ) from None
        p = next(iter(positions.values()))
        dtype = torch.float64 if len(self.block_n) * p < FLOAT64_BELOW else torch.float32
        product = chosen(self.how.products, shift_u.device, dtype)
        widths = {net: x_ncp.shape[1] for net, x_ncp in seen.items()}
        kinds = {x_ncp.dtype for x_ncp in seen.values()}
        quantised = dtype == torch.float32 and any(on_grid(x_us, kind) for kind in kinds)
        scale = OFF_GRID if quantised else 1.0
        found = Accumulator(layer, widths, p, shift_u, dtype, self._finest, self._pairs, product, scale)
        while found.blocks > 1 and found.memory > self.how.block_memory:
            found.blocks //= 2
        return found

    def _calibrate(self, nets: Mapping[str, nn.Module], x: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """The samples of every layer of every net for a few images: {layer: {net: (n images, c units, p positions)}}."""
        seen: dict[str, dict[str, Tensor]] = {layer: {} for layer in self.layers}

        def keep(net: str, layer: str, activation: Tensor) -> None:
            self._shapes[layer][net] = list(activation.shape[1:])
            seen[layer][net] = self.how.samples(net, layer, activation).clone()

        with Capture(nets, self.layers, keep) as capture:
            capture.begin()
            for name, net in nets.items():
                net(x[name])
            capture.end()
        return seen

    def _write(self, net: str, layer: str, activation: Tensor) -> None:
        if isinstance(self.how.sample, int) and self._image_n.device != activation.device:
            self._image_n = self._image_n.pin_memory().to(activation.device, non_blocking=True)
        self._accumulators[layer].write(net, self.how.samples(net, layer, activation, self._image_n))


def available_memory() -> float:
    """Bytes of host memory that can be had without swapping; infinite where the system does not tell."""
    meminfo = Path("/proc/meminfo")
    lines = meminfo.read_text().splitlines() if meminfo.exists() else []
    kilobytes = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(kilobytes[0]) * 1024 if kilobytes else float("inf")


def _over_processes(sums_f: Tensor, device: torch.device) -> None:
    """Add a tensor of the host up over all processes, in place."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return
    if torch.distributed.get_backend() != "nccl":
        torch.distributed.all_reduce(sums_f)
        return
    on_device = sums_f.to("cuda" if device.type == "cpu" else device)
    torch.distributed.all_reduce(on_device)
    sums_f.copy_(on_device)


def _told(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values))
