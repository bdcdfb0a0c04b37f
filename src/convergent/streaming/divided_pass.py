"""The statistics pass where its sums do not fit into memory: in as many passes over the images as needed.

Layers are divided over passes; of a layer that does not fit alone a pass sums some bands of its matrices' rows, see
`packing.Packing`, which are saved as they are finished and put together at last: bit by bit what one pass gives.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convergent.core.layer_moments import LayerMoments
from convergent.core.packing import Packing
from convergent.core.products import least_seconds
from convergent.errors import InputError
from convergent.memory import check_memory, memory_of_process
from convergent.progress import took
from convergent.storage.files import atomic
from convergent.storage.tensors import Pieces, check, opened, save_tensors
from convergent.streaming.accumulate import Accumulator
from convergent.streaming.capture import Capture, Seen
from convergent.streaming.collector import Start
from convergent.streaming.layers import Layers, Pairs
from convergent.streaming.reading import Reading
from convergent.streaming.statistics_pass import StatisticsPass, calibration_of

log = logging.getLogger(__name__)

_SHARE = 0.8  # of what is free: the rest is for what nets and loaders take while they run

Some = dict[
    str, tuple[int, int] | None
]  # what a pass sums: layers, and some bands of theirs, (first, stop); None for all


@dataclass(frozen=True)
class LayerBands:
    """The moments of a layer of which a pass summed some bands."""

    moments: LayerMoments
    packing: Packing

    @property
    def last(self) -> bool:
        """Whether there are no bands behind these."""
        assert self.packing.bands is not None
        return self.packing.bands[1] == len(self.packing.every_band)

    def file(self, whole: Path) -> Path:
        """Where they are saved until all are, given the file of the whole layer."""
        assert self.packing.bands is not None
        return whole.with_name(f"{whole.stem}.bands-{self.packing.bands[0]}-{self.packing.bands[1]}.safetensors")


class DividedPass(StatisticsPass):
    """The first of the passes that are needed, or all in one; what it leaves out is what is not saved afterwards."""

    def __init__(self, *given: Any, done: Mapping[str, int]) -> None:
        self.done = done  # of layers of which some bands are saved, how many
        self._forward = 0.0  # seconds of an image
        super().__init__(*given)

    @classmethod
    def starting(cls, layers: Layers, reading: Reading, pairs: Pairs, done: Mapping[str, int]) -> Start:
        """What starts the first pass after those that did so many bands of some layers."""
        return lambda nets, images, first: cls(
            nets, layers, images, next(first(calibration_of(images)))[1], reading, pairs, done=done
        )

    def by_layer(self) -> Iterator[tuple[str, Any]]:
        """The moments layer by layer, or of some of their bands."""
        for layer, moments in super().by_layer():
            packing = self.accumulators[layer][0].packing
            yield layer, moments if packing.bands is None else LayerBands(moments, packing)

    def _calibrate(self, nets: Mapping[str, nn.Module], x: Mapping[str, Seen]) -> dict[str, dict[str, Tensor]]:
        began = time.monotonic()
        seen = super()._calibrate(nets, x)
        images = calibration_of(self.deal.images)
        self._forward = (time.monotonic() - began) / min(images, self.deal.images or images)
        return seen

    def _check_memory(self) -> None:
        """Choose what fits into this pass, and announce how many there will be."""
        free = memory_of_process()
        needed, memory = sum(sums.pass_memory for sums in self._every), self.reading.memory or free
        if self.reading.memory is None:
            self._check_methods("ask for fewer blocks of images or leave units out, or align on a larger machine")
        if needed <= memory and not self.done:
            return
        self.memory = memory if self.reading.memory else _SHARE * memory
        passes = self._passes(self.memory)
        dist = torch.distributed
        first = not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0
        if first and (len(passes) > 1 or not self.done):
            self._announce(passes, needed, free)
        layers, self.accumulators = self.accumulators, {}
        for layer, bands in passes[0].items():
            self.accumulators[layer] = [_some(sums, bands) for sums in layers[layer]]
        self.layers = {layer: paths for layer, paths in self.layers.items() if layer in self.accumulators}
        self._capture = Capture(self._capture.nets, self.layers, self.see, None, self.reading.output)

    def _passes(self, memory: float) -> list[Some]:
        """What each pass sums, within so many bytes.

        Raises:
            InputError: if there is a layer of which not even a band fits.
        """
        passes: list[Some] = []
        now: Some = {}
        left = memory
        for layer, parts in self.accumulators.items():
            needed, first = sum(sums.pass_memory for sums in parts), self.done.get(layer, 0)
            if not first and needed <= memory:
                if needed > left:
                    passes, now, left = [*passes, now], {}, memory
                now[layer], left = None, left - needed
                continue
            sums, packing = parts[0], parts[0].packing
            while first < len(packing.every_band):
                samples = sums.pass_memory - sums.memory
                stop = packing.fitting(first, (memory - samples) / (8 * sums.blocks))
                if stop == first or not isinstance(sums, Accumulator):
                    least = replace(packing, bands=(first, first + 1)).size * 8 * sums.blocks + samples
                    advice = "ask for fewer blocks of images, for some pairs of nets only, or for more memory"
                    check_memory(max(least, memory + 1), f"The least sums of layer {layer}", advice, memory)
                passes.append({layer: (first, stop)})
                first = stop
        return [*passes, now] if now else passes

    def _announce(self, passes: list[Some], needed: float, free: float) -> None:
        """One line of how many passes there will be and what they and the alignment take."""
        multiplied = sum(sums.packing.multiplications * sums.positions * self._rate(sums) for sums in self._every)
        seconds = (self.deal.images or 0) * (len(passes) * self._forward + multiplied)
        method = max(sums.method_memory for sums in self._every)
        budget = f"{self.memory / 1e9:.3g} GB may be used" if self.memory else ""
        log.info(
            "The sums take %.3g GB, %s: %d passes over the images, some %s; aligning two nets then takes up to %.3g GB of "
            "memory, %.3g GB are free",
            needed / 1e9, budget, len(passes), took(time.monotonic() - seconds), method / 1e9, free / 1e9,
        )  # fmt: skip

    def _rate(self, sums: Any) -> float:
        """Seconds of a multiplication; sparse ones are not worth counting."""
        if not isinstance(sums, Accumulator):
            return 0.0
        a_us, b_us = (torch.ones(n, 4096, dtype=sums.dtype, device=sums.device) for n in (128, 1024))
        return least_seconds(lambda: sums.product(a_us, b_us).sum().item(), 2) / (128 * 1024 * 4096)


def _some(sums: Any, bands: tuple[int, int] | None) -> Any:
    """An accumulator, not yet used, for some bands of its packing."""
    if bands is not None:
        sums = copy(sums)
        sums.packing = replace(sums.packing, bands=bands)
    return sums


def saved_bands(file: Path) -> tuple[int, list[Path]]:
    """How many of a layer's bands are saved, from the first one on, and the files that hold them, given the layer's."""
    there: dict[int, tuple[int, Path]] = {}
    first, files = 0, list[Path]()
    for path in file.parent.glob(f"{escape(file.stem)}.bands-*-*.safetensors"):
        if match := re.search(r"bands-(\d+)-(\d+)\.safetensors$", path.name):
            there[int(match[1])] = int(match[2]), path
    while first in there:
        stop, path = there[first]
        try:
            check(path)
        except InputError as error:
            log.warning("%s", error)
            break
        first, files = stop, [*files, path]
    return first, files


def save_layer(save: Callable[[Any, Path], None], collected: Any, whole: Path) -> None:
    """Save what was collected of a layer, or some bands of it; with the last ones the file of all takes their place."""
    if not isinstance(collected, LayerBands):
        with atomic(whole) as partial:
            save(collected, partial)
        return
    with atomic(collected.file(whole)) as partial:
        save(collected, partial)
    if collected.last:
        _, files = saved_bands(whole)
        with atomic(whole) as partial:
            join(files, partial)
        for file in files:
            file.unlink()


def join(files: list[Path], into: Path) -> None:
    """Put the bands of a layer together, from the disk to the disk, into the file that one pass writes."""
    every = []
    for file in files:
        with opened(file) as saved:
            every.append({name: saved.get_tensor(name) for name in saved.keys()})  # noqa: SIM118  (no mapping), not read yet
            about = saved.metadata()
    tensors: dict[str, Any] = {}
    for name in dict.fromkeys(name for tensors_of in every for name in tensors_of):
        parts = [tensors_of[name] for tensors_of in every if name in tensors_of]
        tensors[name] = _joined(parts) if name.startswith("scatter_kab") else parts[0]
    save_tensors(tensors, into, about)


def _joined(parts: list[Tensor]) -> Pieces:
    blocks, _, *columns = parts[0].shape
    shape = blocks, sum(part.shape[1] for part in parts), *columns
    return Pieces(shape, parts[0].dtype, lambda: (part[block] for block in range(blocks) for part in parts))
