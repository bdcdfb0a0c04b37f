"""The statistics pass: every layer of all nets, accumulated side by side while the nets read the images once.

Axes: `n` images of a batch, `c` units of one net, `u` units of all nets, `p` positions, `k` blocks of images.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from convergent.core.layer_moments import LayerMoments
from convergent.core.packing import blocks_within
from convergent.core.products import chosen
from convergent.errors import InputError
from convergent.memory import check_memory
from convergent.streaming.accumulate import FLOAT64_BELOW, OFF_GRID, Accumulator, grid_shift, on_grid
from convergent.streaming.capture import Capture
from convergent.streaming.collector import (
    Collector,
    First,
    Start,
    over_processes,
    part_of,
    table_of,
)
from convergent.streaming.deal import Deal
from convergent.streaming.inputs import Seen, mask_of, run
from convergent.streaming.layers import Layer
from convergent.streaming.reading import Reading
from convergent.streaming.rotations import Rotations

# Columns of the table of what is planned; the first few are text.
_HEADINGS = (
    "layer",
    "activation",
    "units are",
    "units",
    "positions",
    "samples",
    "blocks",
    "products",
    "pass",
    "method",
)
_LEFT = 4

CALIBRATION = 32  # images


class StatisticsPass(Collector):
    """Collects the second moments of all layers.

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

    exact = True  # small layers are summed in float64

    def __init__(
        self,
        nets: Mapping[str, nn.Module],
        layers: Sequence[str | Sequence[str] | Layer],
        images: int | None,
        calibration: Mapping[str, Seen],
        how: Reading | None = None,
        pairs: Iterable[tuple[str, str]] | None = None,
        rotations: Rotations | None = None,
    ) -> None:
        """Look at the layers' shapes and scales, and plan.

        Args:
            nets: by name.
            layers: what is compared, see `layers.resolve`.
            images: how many there will be, in all processes together; None where nobody knows.
            calibration: what each net sees of a few images, the same in all processes; their mean is the units' shift.
            how: activations are read.
            pairs: names of the nets that are to be compared; all with all by default.
            rotations: of the nets, that are to be compared too.

        Raises:
            InputError: if a layer cannot be captured, the nets disagree on its positions, or memory does not suffice.
        """
        super().__init__(nets, layers, how or Reading(), rotations)
        self.deal = Deal(images, self.how.blocks)
        self.pairs = None if pairs is None else list(pairs)
        self._shapes: dict[str, dict[str, list[int]]] = {layer: {} for layer in self.layers}
        self._masked: set[str] = set()  # layers whose samples are the unmasked positions
        self._per_image: dict[str, float] = {}  # samples, of the calibration
        seen = self._calibrate(nets, calibration)
        self.accumulators = {layer: self._accumulator(layer, seen[layer]) for layer in self.layers}
        self._check_memory()

    @classmethod
    def start(
        cls,
        layers: Sequence[str | Sequence[str] | Layer],
        how: Reading | None = None,
        pairs: Iterable[tuple[str, str]] | None = None,
    ) -> Start:
        """What starts this collector in a pass; arguments as for the class."""
        wanted = None if pairs is None else list(pairs)

        def started(nets: Mapping[str, nn.Module], images: int | None, first: First) -> StatisticsPass:
            _, x = next(first(CALIBRATION))
            return cls(nets, layers, images, x, how, wanted)

        return started

    def begin(self, image_n: Tensor, mask_np: Tensor | None = None) -> None:
        """Start a batch of these images: numbers, and where some positions are padding which are not, on the host."""
        super().begin(image_n, mask_np)
        block_n = self.deal.block(image_n)
        block_s = block_n[self.unmasked.image_s] if self.unmasked else block_n
        for layer, accumulator in self.accumulators.items():
            of_layer = block_s if layer in self._masked else block_n
            accumulator.begin((of_layer * accumulator.blocks // self.deal.blocks).tolist())

    def see(self, net: str, layer: str, activation: Tensor) -> None:
        """Copy an activation into the buffer."""
        self.accumulators[layer].write(net, self.samples(net, layer, activation))

    def end(self) -> None:
        """Finish the batch: multiply what is complete."""
        super().end()
        for accumulator in self.accumulators.values():
            accumulator.end()

    def collected(self) -> dict[str, LayerMoments]:
        """The moments of every layer, summed over all processes; they take over the memory of the sums.

        Raises:
            InputError: if an activation was NaN or infinite.
        """
        for accumulator in self.accumulators.values():
            accumulator.close()
            for sums_f in accumulator.sums_kf:  # block by block bounds the memory that this takes
                over_processes(sums_f, accumulator.device)
        moments = {layer: accumulator.moments(self.images) for layer, accumulator in self.accumulators.items()}
        return moments if self.deal.images else {layer: of.without_empty_blocks() for layer, of in moments.items()}

    def state(self) -> dict[str, Tensor]:
        """All that was read so far, for a process that takes the pass up where this one was killed."""
        state = {"images": torch.tensor(self.images)}
        for layer, accumulator in self.accumulators.items():
            state |= {f"{layer}/{name}": tensor for name, tensor in accumulator.state().items()}
        return state

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on where `state` was taken."""
        self.images = int(state["images"])
        for layer, accumulator in self.accumulators.items():
            accumulator.load_state(part_of(state, layer))

    def plan(self) -> str:
        """A table of what is compared and what it takes, a line per layer."""
        return table_of(_HEADINGS, [self._planned(layer) for layer in self.layers], _LEFT)

    def _planned(self, layer: str) -> tuple[str, ...]:
        accumulator, shapes = self.accumulators[layer], self._shapes[layer]
        where = [self.units(net, layer, [1, *shape]) for net, shape in shapes.items()]
        widths = [units.stop - units.start for units in accumulator.units.values()]
        samples = round((self.deal.images or 0) * self._per_image[layer])
        return (
            layer,
            _told(" x ".join(map(str, shape)) for shape in shapes.values()),
            _told(where),
            f"{len(widths)} nets x {widths[0]}" if len(set(widths)) == 1 else _told(map(str, widths)),
            f"{accumulator.positions:,}",
            f"{samples:,}",
            str(accumulator.blocks),
            str(accumulator.dtype).removeprefix("torch."),
            f"{accumulator.pass_memory / 1e6:,.0f} MB",
            f"{accumulator.method_memory / 1e6:,.0f} MB",
        )

    def _check_memory(self) -> None:
        """Refuse a pass that does not fit, or whose moments could not be aligned afterwards.

        Raises:
            InputError: that says what takes more than there is.
        """
        advice = (
            f"ask for fewer blocks (blocks={max(1, self.deal.blocks // 4)}, block_memory=), for the layers in several "
            "passes (layers_per_pass=1), or for some pairs of nets only (pairs=[[NET,NET],...])"
        )
        pass_bytes = sum(accumulator.pass_memory for accumulator in self.accumulators.values())
        check_memory(pass_bytes, "The sums of these layers, with a copy to be saved,", advice)
        for layer, accumulator in self.accumulators.items():
            what = f"The moments of two nets in layer {layer}, with what a method makes of them,"
            check_memory(accumulator.method_memory, what, advice)

    def _accumulator(self, layer: str, seen: Mapping[str, Tensor]) -> Accumulator:
        positions = {net: x_ncp.shape[2] for net, x_ncp in seen.items()}
        if len(set(positions.values())) > 1:
            told = ", ".join(f"{p} in {net}" for net, p in positions.items())
            raise InputError(
                f"Layer {layer} has unequal numbers of positions ({told}); compare them with sample=pooled."
            )
        x_us = torch.cat([x_ncp.double().transpose(0, 1).flatten(1) for x_ncp in seen.values()])
        shift_u = grid_shift(x_us.mean(1).nan_to_num(), x_us.std(1, correction=0).nan_to_num())
        shift_u = self.how.placed(shift_u)
        p = next(iter(positions.values()))
        small = (self.deal.images or 0) * self._per_image[layer] < FLOAT64_BELOW
        dtype = torch.float64 if small and self.exact else torch.float32
        # which product is the fastest is timed: where that matters little, it may not change the bits of another run
        product = chosen(
            "portable" if small and self.how.products == "auto" else self.how.products, shift_u.device, dtype
        )
        widths = {net: x_ncp.shape[1] for net, x_ncp in seen.items()}
        kinds = {x_ncp.dtype for x_ncp in seen.values()}
        quantised = dtype == torch.float32 and any(on_grid(x_us, kind) for kind in kinds)
        scale = OFF_GRID if quantised else 1.0
        finest = self.deal.blocks
        found = Accumulator(layer, widths, p, shift_u, dtype, finest, self.pairs_of(layer), product, scale)
        found.blocks = blocks_within(found.packing, finest, self.how.block_memory)
        return found

    def pairs_of(self, _layer: str) -> list[tuple[int, int]] | None:
        """The numbers of the nets of a layer that are to be compared; None for all with all."""
        numbers = {name: number for number, name in enumerate(self.nets)}
        return None if self.pairs is None else [(numbers[a], numbers[b]) for a, b in self.pairs]

    def _calibrate(self, nets: Mapping[str, nn.Module], x: Mapping[str, Seen]) -> dict[str, dict[str, Tensor]]:
        """The samples of every layer of every net for a few images: {layer: {net: (n images, c units, p positions)}}."""
        seen: dict[str, dict[str, Tensor]] = {layer: {} for layer in self.layers}
        if (mask_np := mask_of(x)) is not None:
            self.name_images(torch.arange(len(mask_np)), mask_np)

        def keep(net: str, layer: str, activation: Tensor) -> None:
            self._shapes[layer][net] = list(activation.shape[1:])
            seen[layer][net] = x_ncp = self.how.placed(self.samples(net, layer, activation)).clone()
            self._per_image[layer] = x_ncp[:, 0].numel() / len(activation)
            if self.unmasked and self.by_unit(net, layer, activation).ndim > 2:
                self._masked.add(layer)

        with Capture(nets, self.layers, keep, self.rotations, self.how.output) as capture:
            capture.begin()
            for name, net in nets.items():
                run(net, x[name])
            capture.end()
        self.name_images(torch.empty(0, dtype=torch.long))
        return {layer: {name: seen[layer][name] for name in self.names(layer)} for layer in self.layers}


def _told(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values))
