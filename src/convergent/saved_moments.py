"""Moments on disk: measured once for the same nets, images and sampling, found again by every later job.

Axes: `k` blocks of images, `u` units of all nets side by side.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from filelock import AcquireReturnProxy, FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from convergent.data.images import ImageData
from convergent.folders import atomic, first_process
from convergent.layer_moments import LayerMoments
from convergent.layers import Layer, resolve
from convergent.measure import MomentsCallback, Nets
from convergent.snapshots import Snapshots
from convergent.statistics_pass import Reading
from convergent.zoo import GivenNet, names_of

log = logging.getLogger(__name__)

_FORMAT = "convergent moments 2"  # part of every key: change it when the meaning of the files changes


@dataclass(frozen=True)
class Measurement:
    """What a statistics pass measures, and where it is kept: a folder per (nets, images, sampling), a file per layer.

    Attributes:
        nets: to be compared.
        wanted: layers, see `layers.resolve`.
        data: the images.
        views: which view of the images each net takes, by name; none where all take the same.
        how: activations are read; its `products` and `device` are no part of the key, for they agree to 1e-6 in any
            correlation.
        pairs: names of the nets to be compared; None for all with all.
        cache: folder of all saved moments.
        layers_per_pass: read the images anew for every so many layers, to save memory; None for one pass.
        snapshot_minutes: between two snapshots of a pass.
    """

    nets: Sequence[GivenNet]
    wanted: Sequence[str | Sequence[str] | Layer]
    data: ImageData
    views: Mapping[str, str]
    how: Reading
    pairs: Sequence[tuple[str, str]] | None
    cache: Path
    layers_per_pass: int | None = None
    snapshot_minutes: float = 5.0

    @cached_property
    def folder(self) -> Path:
        """The folder of this content: the key changes with the nets' bytes, the images, or how they are read."""
        content = {
            "format": _FORMAT,
            "nets": dict(zip(names_of(self.nets), (net.content() for net in self.nets))),
            "images": self.data.measured.manifest(),
            "views": dict(self.views),
            "how": {key: value for key, value in asdict(self.how).items() if key not in ("products", "device")},
            "pairs": self.pairs,
        }
        return self.cache / hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    @cached_property
    def layers(self) -> dict[str, Layer]:
        """What is compared, by name.

        Raises:
            InputError: if a net has no such layer.
        """
        return resolve(self._modules.nets, self.wanted)

    @cached_property
    def _modules(self) -> Nets:
        return Nets({name: net.net() for name, net in zip(names_of(self.nets), self.nets)}, self.views)

    def ensure(self, trainer: Callable[[list[pl.Callback]], pl.Trainer]) -> None:
        """Measure those of the layers that are not saved yet, in one pass or as many as are asked for.

        Jobs that run at the same time measure once: the first holds a lock, which its death releases, the others wait.

        Args:
            trainer: makes the trainer of the pass, given its callbacks.
        """
        folder = self.folder
        if not first_process():  # it finds what the first process finds, which waits for it before it measures
            self._measure(self._missing(quiet=True), trainer)
            return
        folder.mkdir(parents=True, exist_ok=True)
        with _waiting(folder / "lock"):
            if missing := self._missing():
                self._measure(missing, trainer)
            else:
                log.info("Moments of %d layers found in %s", len(self.layers), folder)

    def load(self) -> Iterator[LayerMoments]:
        """The saved moments of the layers, one after another; products are read when asked for."""
        for layer in self.layers:
            file = self._file(layer)
            with safe_open(file, "pt") as saved:
                about, count_k, mean_ku = saved.metadata(), saved.get_tensor("count_k"), saved.get_tensor("mean_ku")
            units = [slice(*edges) for edges in json.loads(about["units"])]
            yield LayerMoments(
                layer, names_of(self.nets), units, count_k, mean_ku, SavedScatter(file), int(about["images"])
            )

    def _file(self, layer: str) -> Path:
        return self.folder / f"{layer}.safetensors"

    def _missing(self, *, quiet: bool = False) -> list[str]:
        missing = []
        for layer in self.layers:
            try:
                with safe_open(self._file(layer), "pt"):
                    continue
            except FileNotFoundError:
                missing.append(layer)
            except (SafetensorError, OSError) as error:
                missing.append(layer)
                if not quiet:
                    log.warning("%s cannot be read (%s): measuring it again", self._file(layer), error)
        return missing

    def _measure(self, layers: list[str], trainer: Callable[[list[pl.Callback]], pl.Trainer]) -> None:
        size = self.layers_per_pass or len(layers)
        for first in range(0, len(layers), max(size, 1)):
            self._pass(layers[first : first + size], trainer)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()

    def _pass(self, layers: list[str], trainer: Callable[[list[pl.Callback]], pl.Trainer]) -> None:
        about = json.dumps([layers, self.data.batch_size])
        snapshots = Snapshots(self.folder, about, self.snapshot_minutes)
        groups = [self.layers[layer] for layer in layers]
        callback = MomentsCallback(groups, pairs=self.pairs, snapshots=snapshots, **asdict(self.how))
        self.data.blocks, self.data.read_before = self.how.blocks, snapshots.batches
        trainer([callback]).predict(self._modules, datamodule=self.data, return_predictions=False)
        if not first_process():
            return
        for layer, found in callback.moments.items():
            with atomic(self._file(layer)) as file:
                _save(found, file)
        snapshots.remove()
        if skipped := len(self.data.measured) - next(iter(callback.moments.values())).images:
            log.warning("%d of %d images could not be read and were skipped", skipped, len(self.data.measured))


class SavedScatter(Mapping[tuple[int, int], Tensor]):
    """The sums of products in a file of saved moments, read when asked for.

    Args:
        file: as `Measurement` writes them.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        with safe_open(file, "pt") as saved:
            names = [name.split() for name in saved.keys() if name.startswith("scatter_kab")]  # noqa: SIM118  (no mapping)
        self._keys = sorted((int(i), int(j)) for _, i, j in names)

    def __getitem__(self, key: tuple[int, int]) -> Tensor:
        if key not in self._keys:
            raise KeyError(key)
        with safe_open(self.file, "pt") as saved:
            return saved.get_tensor(f"scatter_kab {key[0]} {key[1]}")  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def _save(found: LayerMoments, file: Path) -> None:
    about = {"images": str(found.images), "units": json.dumps([[units.start, units.stop] for units in found.units])}
    tensors = {"count_k": found.count_k, "mean_ku": found.mean_ku}
    tensors |= {f"scatter_kab {i} {j}": s_kab.contiguous() for (i, j), s_kab in found.scatter.items()}
    save_file(tensors, file, about)


def _waiting(path: Path) -> AcquireReturnProxy[Any]:
    """Hold a lock between the jobs of one file system; says so where another job has it."""
    lock = FileLock(path)
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        log.info("Another job is measuring the same nets; waiting for it")
        return lock.acquire()
