"""The statistics pass: every layer of all nets, accumulated side by side while the nets read the images once.

Axes: `n` images of a batch, `c` units of one net, `u` units of all nets, `p` positions, `k` blocks of images.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from convergent.core.layer_moments import LayerMoments
from convergent.core.packing import Packing, blocks_within
from convergent.core.products import chosen
from convergent.errors import InputError
from convergent.memory import check_memory
from convergent.streaming.accumulate import Accumulator
from convergent.streaming.arithmetic import FLOAT64_BELOW, Arithmetic
from convergent.streaming.capture import Capture, Seen, mask_of, places_of
from convergent.streaming.collector import NO_PLACES, Collector, Start, table_of
from convergent.streaming.deal import Deal
from convergent.streaming.layers import Layers, Pairs
from convergent.streaming.reading import Reading
from convergent.streaming.rotations import Rotations
from convergent.streaming.sparse_accumulate import SparseAccumulator

_CALIBRATION = 8, 32  # images at least and at most

_HEADINGS = ("layer", "activation", "units are", "units", "positions", "samples", "blocks", "products", "pass",
             "method")  # fmt: skip


def calibration_of(images: int | None) -> int:
    """How many images calibrate a pass over so many: few of few, of which most layers are summed in float64 anyway."""
    least, most = _CALIBRATION
    return most if images is None else min(most, max(least, images // 64))


@dataclass(frozen=True)
class Part:
    """Some nets of a layer whose moments are summed together, in so many blocks of images at most, see `Packing`."""

    nets: Sequence[str]
    pairs: Sequence[tuple[int, int]] | None
    blocks: int
    within: bool = True


class StatisticsPass(Collector):
    """Collects the second moments of all layers.

    Args:
        nets: by name.
        layers: what is compared, see `layers.resolve`.
        images: how many there will be, in all processes together; None where nobody knows.
        calibration: what each net sees of a few images, the same in all processes; their mean is the units' shift.
        reading: how activations are read.
        pairs: names of the nets that are to be compared; all with all by default.
        rotations: of the nets, that are to be compared too.

    Raises:
        InputError: if a layer cannot be captured, the nets disagree on its positions, or memory does not suffice.

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
    energies = True  # where the reading asks for them
    sparse = True  # layers that are nearly all zero have sparse products

    def __init__(
        self,
        nets: Mapping[str, nn.Module],
        layers: Layers,
        images: int | None,
        calibration: Mapping[str, Seen],
        reading: Reading | None = None,
        pairs: Pairs = None,
        rotations: Rotations | None = None,
    ) -> None:
        super().__init__(nets, layers, reading or Reading(), rotations)
        self.deal = Deal(images, self.reading.blocks, self.reading.group_n)
        self.pairs = None if pairs is None else [(self.nets.index(a), self.nets.index(b)) for a, b in pairs]
        self._shapes: dict[str, dict[str, list[int]]] = {layer: {} for layer in self.layers}
        self._masked: set[str] = set()  # layers whose samples are the unmasked positions
        self._per_image: dict[str, float] = {}  # samples, of the calibration
        self.accumulators = self.accumulating(self._calibrate(nets, calibration))
        self._check_memory()

    @classmethod
    def start(cls, layers: Layers, reading: Reading | None = None, pairs: Pairs = None) -> Start:
        """What starts this collector in a pass; arguments as for the class."""
        return lambda nets, images, first: cls(
            nets, layers, images, next(first(calibration_of(images)))[1], reading, pairs
        )

    def accumulating(
        self, seen: Mapping[str, Mapping[str, Tensor]]
    ) -> dict[str, list[Accumulator | SparseAccumulator]]:
        """What sums the moments of each layer, a part each, given samples of each layer and net."""
        parts = {layer: self.parts(layer) for layer in self.layers}
        return {layer: [self.accumulator(layer, part, seen[layer]) for part in of] for layer, of in parts.items()}

    def parts(self, _layer: str) -> list[Part]:
        """Which nets' moments of a layer are summed together."""
        return [Part(self.nets, self.pairs, self.deal.blocks)]

    def begin(self, image_n: Tensor, mask_np: Tensor | None = None, places: Mapping[str, Tensor] = NO_PLACES) -> None:
        """Start a batch, and give each image to its block."""
        super().begin(image_n, mask_np, places)
        block_n = self.deal.block(image_n)
        block_s = block_n[self.unmasked.image_s] if self.unmasked else block_n
        for accumulator in self._every:
            of_layer = block_s if accumulator.layer in self._masked else block_n
            accumulator.begin((of_layer * accumulator.blocks // self.deal.blocks).tolist())

    def see(self, net: str, layer: str, activation: Tensor) -> None:
        """Copy an activation into the buffers."""
        x_ncp = self.samples(net, layer, activation)
        for accumulator in self.accumulators[layer]:
            if net in accumulator.units:
                accumulator.write(net, x_ncp)

    def end(self) -> None:
        """Finish the batch: multiply what is complete."""
        super().end()
        for accumulator in self._every:
            accumulator.end()

    def by_layer(self) -> Iterator[tuple[str, Any]]:
        """The moments layer by layer, summed over all processes; they take over the memory of the sums."""
        for accumulator in self._every:
            accumulator.close()  # first all, for their buffers' memory is needed
        for layer, parts in self.accumulators.items():
            moments = []
            for accumulator in parts:
                accumulator.over_processes()
                moments.append(accumulator.moments(self.images))
            yield layer, self.record(layer, moments)

    def collected(self) -> dict[str, Any]:
        """The moments of every layer."""
        return dict(self.by_layer())

    def record(self, _layer: str, moments: Sequence[LayerMoments]) -> Any:
        """What is collected of a layer, given the moments of its parts."""
        return moments[0] if self.deal.images else moments[0].without_empty_blocks()

    def parts_read(self) -> dict[str, Accumulator | SparseAccumulator]:
        """The sums of each layer and part."""
        every = self.accumulators.items()
        return {f"{layer}/{part}": sums for layer, parts in every for part, sums in enumerate(parts)}

    def plan(self) -> str:
        """A table of what is compared and what it takes, a line per layer."""
        rows = []
        for layer, (sums, *_) in self.accumulators.items():
            shapes, widths = self._shapes[layer], [units.stop - units.start for units in sums.units.values()]
            rows.append([
                layer,
                _listed(" x ".join(map(str, shape)) for shape in shapes.values()),
                _listed(self.units(net, layer, [1, *shape]) for net, shape in shapes.items()),
                f"{len(widths)} nets x {widths[0]}" if len(set(widths)) == 1 else _listed(map(str, widths)),
                f"{sums.positions:,}",
                f"{round((self.deal.images or 0) * self._per_image[layer]):,}",
                str(sums.blocks),
                sums.products,
                f"{sums.pass_memory / 1e6:,.0f} MB",
                f"{sums.method_memory / 1e6:,.0f} MB",
            ])  # fmt: skip
        return table_of(_HEADINGS, rows, 4)

    @property
    def _every(self) -> list[Accumulator | SparseAccumulator]:
        return [accumulator for parts in self.accumulators.values() for accumulator in parts]

    def _check_memory(self) -> None:
        """Refuse a pass that does not fit, or whose moments could not be aligned afterwards."""
        advice = (
            f"ask for fewer blocks (blocks={max(1, self.deal.blocks // 4)}, block_memory=), for the layers in several "
            "passes (layers_per_pass=1), or for some pairs of nets only (pairs=[[NET,NET],...])"
        )
        needed = sum(accumulator.pass_memory for accumulator in self._every)
        check_memory(needed, "The sums of these layers", advice)
        self._check_methods(advice)

    def _check_methods(self, advice: str) -> None:
        for accumulator in self._every:
            what = f"The moments of two nets in layer {accumulator.layer}, with what a method makes of them,"
            check_memory(accumulator.method_memory, what, advice)

    def accumulator(self, layer: str, part: Part, seen: Mapping[str, Tensor]) -> Accumulator | SparseAccumulator:
        """What sums the moments of some nets of a layer, given samples of each net, shape (n images, c units, p).

        Raises:
            InputError: if the nets disagree on the positions.
        """
        if len({x_ncp.shape[2] for x_ncp in seen.values()}) > 1:
            unequal = ", ".join(f"{x_ncp.shape[2]} in {net}" for net, x_ncp in seen.items())
            raise InputError(
                f"Layer {layer} has unequal numbers of positions ({unequal}); compare them with sample=pooled."
            )
        of_part = [seen[net] for net in part.nets]
        widths = {net: x_ncp.shape[1] for net, x_ncp in zip(part.nets, of_part)}
        energies = self.energies and self.reading.energies
        packing = Packing.of(list(widths.values()), part.pairs, within=part.within, energies=energies)
        most, samples = min(part.blocks, self.deal.blocks), (self.deal.images or 0) * self._per_image.get(layer, 1.0)
        of_nets = dict(zip(part.nets, of_part))
        made = SparseAccumulator.where_faster(layer, of_nets, packing, most, samples, self.reading)
        if self.sparse and made:
            return made
        n, _, p = of_part[0].shape
        x_us = of_part[0].new_empty(packing.width, n, p, dtype=torch.float64)
        torch.cat([x_ncp.transpose(0, 1) for x_ncp in of_part], out=x_us)
        x_us = self.reading.placed(x_us.flatten(1))
        small = samples < FLOAT64_BELOW
        dtype = torch.float64 if small and self.exact else torch.float32
        # which product is the fastest is timed: where that matters little, it may not change the bits of another run
        products = "auto" if self.reading.products == "sparse" else self.reading.products
        product = chosen("portable" if small and products == "auto" else products, x_us.device, dtype)
        arithmetic = Arithmetic.of(x_us, {x_ncp.dtype for x_ncp in of_part}, dtype, product)
        blocks = blocks_within(packing, most, self.reading.block_memory)
        return Accumulator(layer, widths, p, arithmetic, blocks, packing)

    def _calibrate(self, nets: Mapping[str, nn.Module], x: Mapping[str, Seen]) -> dict[str, dict[str, Tensor]]:
        """The samples of every layer of every net for a few images: {layer: {net: (n images, c units, p positions)}}."""
        seen: dict[str, dict[str, Tensor]] = {layer: {} for layer in self.layers}
        if (mask_np := mask_of(x)) is not None:
            self.name_images(torch.arange(len(mask_np)), mask_np, places_of(x))

        def keep(net: str, layer: str, activation: Tensor) -> None:
            self._shapes[layer][net] = list(activation.shape[1:])
            seen[layer][net] = x_ncp = self.reading.placed(self.samples(net, layer, activation.detach())).clone()
            self._per_image[layer] = x_ncp[:, 0].numel() / len(activation)
            if self.unmasked and self.by_unit(net, layer, activation).ndim > 2:
                self._masked.add(layer)

        with Capture(nets, self.layers, keep, self.rotations, self.reading.output) as capture:
            capture.run(x)
        self.name_images(torch.empty(0, dtype=torch.long))
        return {layer: {name: seen[layer][name] for name in self.names(layer)} for layer in self.layers}


def _listed(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values))
