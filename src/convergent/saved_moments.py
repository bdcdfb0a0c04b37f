"""Moments on disk: measured once for the same nets, images and sampling, found again by every later job.

Axes: `k` blocks of images, `u` units of all nets side by side.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from filelock import AcquireReturnProxy, FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from convergent.data.images import ImageData
from convergent.folders import atomic, first_process
from convergent.measure import MomentsCallback, Nets
from convergent.moments import Moments
from convergent.pairs import Pair
from convergent.runs import Run, names_of

log = logging.getLogger(__name__)

_FORMAT = "convergent moments 1"  # part of every key: change it when the meaning of the files changes


@dataclass(frozen=True, eq=False)
class LayerMoments:
    """The moments of one layer of all nets, per block of images.

    Attributes:
        layer: its name.
        nets: names of the nets.
        units: which of the u units are each net's.
        moments: of all units, with a leading block axis.
        images: how many images were read.
    """

    layer: str
    nets: Sequence[str]
    units: Sequence[slice]
    moments: Moments
    images: int

    def pair(self, a: int, b: int) -> Pair:
        """The pair of the nets numbered a and b."""
        of_a, of_b = (torch.arange(self.moments.mean_u.shape[-1])[self.units[net]] for net in (a, b))
        p, q = len(of_a), len(of_b)
        moments = self.moments.select(torch.cat([of_a, of_b]))
        return Pair(moments, slice(0, p), slice(p, p + q), self.nets[a], self.nets[b], self.layer)


@dataclass(frozen=True)
class Measurement:
    """What a statistics pass measures, and where it is kept: a folder per (nets, images, sampling), a file per layer.

    Attributes:
        runs: the nets.
        data: the images.
        sample: see `capture.samples`.
        blocks: of images.
        block_memory: bytes that one layer's blocks may take.
        products: backend of the float32 matrix products; no part of the key, for they agree to 1e-6 in any correlation.
        cache: folder of all saved moments.
    """

    runs: Sequence[Run]
    data: ImageData
    sample: str | int
    blocks: int
    block_memory: float
    products: str
    cache: Path

    @cached_property
    def folder(self) -> Path:
        """The folder of this content: the key changes with the nets' bytes, the images, or how they are read."""
        content = {
            "format": _FORMAT,
            "nets": [run.content() for run in self.runs],
            "images": self.data.measured.manifest(),
            "sample": self.sample,
            "blocks": [self.blocks, self.block_memory],
        }
        return self.cache / hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    def ensure(self, layers: Sequence[str], trainer: Callable[[list[pl.Callback]], pl.Trainer]) -> None:
        """Measure, in one pass, those of the layers that are not saved yet.

        Jobs that run at the same time measure once: the first holds a lock, which its death releases, the others wait.

        Args:
            layers: names of modules.
            trainer: makes the trainer of the pass, given its callbacks.
        """
        folder = self.folder
        if not first_process():  # it finds what the first process finds, which waits for it before it measures
            if missing := self._missing(folder, layers, quiet=True):
                self._measure(missing, folder, trainer)
            return
        folder.mkdir(parents=True, exist_ok=True)
        with _waiting(folder / "lock"):
            if missing := self._missing(folder, layers):
                self._measure(missing, folder, trainer)
            else:
                log.info("Moments of %d layers found in %s", len(layers), folder)

    def load(self, layers: Sequence[str]) -> Iterator[LayerMoments]:
        """The saved moments of some layers, one after another."""
        folder = self.folder
        for layer in layers:
            yield self._load(folder / f"{layer}.safetensors", layer)

    def _missing(self, folder: Path, layers: Sequence[str], *, quiet: bool = False) -> list[str]:
        missing = []
        for layer in layers:
            file = folder / f"{layer}.safetensors"
            try:
                with safe_open(file, "pt"):
                    continue
            except FileNotFoundError:
                missing.append(layer)
            except (SafetensorError, OSError) as error:
                missing.append(layer)
                if not quiet:
                    log.warning("%s cannot be read (%s): measuring it again", file, error)
        return missing

    def _measure(self, layers: list[str], folder: Path, trainer: Callable[[list[pl.Callback]], pl.Trainer]) -> None:
        nets = Nets({name: run.net() for name, run in zip(names_of(self.runs), self.runs)})
        callback = MomentsCallback(layers, self.sample, self.blocks, self.block_memory, self.products)
        self.data.blocks = self.blocks
        passing = trainer([callback])
        passing.predict(nets, datamodule=self.data, return_predictions=False)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        if not first_process():
            return
        if skipped := len(self.data.measured) - callback.images:
            log.warning("%d of %d images could not be read and were skipped", skipped, len(self.data.measured))
        for layer, moments in callback.moments.items():
            units = [[units.start, units.stop] for units in callback.units[layer].values()]
            about = {"images": str(callback.images), "units": json.dumps(units)}
            tensors = {"count_k": moments.count, "mean_ku": moments.mean_u, "scatter_kuu": moments.scatter_uu}
            with atomic(folder / f"{layer}.safetensors") as file:
                save_file(tensors, file, about)

    def _load(self, file: Path, layer: str) -> LayerMoments:
        with safe_open(file, "pt") as saved:
            about = saved.metadata()
            moments = Moments(*(saved.get_tensor(name) for name in ("count_k", "mean_ku", "scatter_kuu")))
        units = [slice(*edges) for edges in json.loads(about["units"])]
        return LayerMoments(layer, names_of(self.runs), units, moments, int(about["images"]))


def _waiting(path: Path) -> AcquireReturnProxy[Any]:
    """Hold a lock between the jobs of one file system; says so where another job has it."""
    lock = FileLock(path)
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        log.info("Another job is measuring the same nets; waiting for it")
        return lock.acquire()
