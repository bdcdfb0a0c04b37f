"""What a statistics pass measures, on disk: once for the same nets, images and reading, and loaded by every later job."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import pytorch_lightning as pl
from torch import nn

from convergent.cli import encoders
from convergent.cli.locks import held
from convergent.cli.nets import GivenNet, names_of
from convergent.cli.processes import as_first, first_process, patient_group
from convergent.data.ordered import OrderedData
from convergent.errors import InputError
from convergent.options import identity
from convergent.progress import took
from convergent.storage.files import remove_leftovers
from convergent.storage.tensors import opened
from convergent.streaming.callback import PassCallback
from convergent.streaming.collector import Start
from convergent.streaming.divided_pass import save_layer, saved_bands
from convergent.streaming.layers import JOINED, Layer, Layers, find_layer, resolve
from convergent.streaming.module import Nets
from convergent.streaming.reading import Reading
from convergent.streaming.saved_moments import SavedMoments
from convergent.streaming.snapshots import Snapshots

log = logging.getLogger(__name__)

_MINUTE = 60.0  # of waiting that nobody needs to read of: jobs of a sweep share their passes

_FORMAT = "convergent moments 3"  # part of every key: change it when the meaning of the files changes

MakesTrainer: TypeAlias = Callable[[list[pl.Callback]], pl.Trainer]  # of a pass, given its callbacks


class Artifact(Protocol):
    """One thing that is collected of every layer, with a file per layer.

    Attributes:
        folder: of its files inside the measurement's folder: a name that says all that they depend on beside nets, images
            and sampling; empty for that folder itself.
    """

    @property
    def folder(self) -> str: ...  # noqa: D102

    def start(self, layers: Layers, reading: Reading, pairs: Sequence[tuple[str, str]] | None) -> Start:
        """What starts its collector in a pass over these layers."""

    def save(self, collected: Any, file: Path) -> None:
        """Save what was collected of one layer."""

    def load(self, file: Path, layer: str, nets: Sequence[str]) -> Any:
        """What was saved of one layer."""


@dataclass(frozen=True)
class Measurement:
    """What a statistics pass measures, on disk: a folder per (nets, images, reading), a file per layer.

    Attributes:
        wanted: layers, see `layers.resolve`.
        data: the images.
        views: which view of the images each net takes, by name; none where all take the same.
        pairs: names of the nets to be compared; None for all with all.
        cache: folder of all saved moments.
        also: what is to be collected beside the moments.
        encoders: that are put on layers, {net: {name: (path of the layer, module)}}.
    """

    nets: Sequence[GivenNet]
    wanted: Layers
    data: OrderedData
    views: Mapping[str, str]
    reading: Reading
    pairs: Sequence[tuple[str, str]] | None
    cache: Path
    also: Sequence[Artifact] = ()
    encoders: Mapping[str, Mapping[str, tuple[str, nn.Module]]] = field(default_factory=dict)

    @cached_property
    def folder(self) -> Path:
        """The folder of this content: the key changes with the nets' bytes, the images, or how they are read."""
        content = {
            "format": _FORMAT,
            "nets": dict(zip(names_of(self.nets), (net.content() for net in self.nets))),
            "images": self.data.measured.manifest(),
            "views": dict(self.views),
            "how": identity(self.reading),  # its name since the first of these files
            "pairs": self.pairs,
        }
        layers = self.layers.items()
        populations = [(name, layer) for name, layer in layers if any(JOINED in of for of in layer.values())]
        content |= {"populations": populations} if populations else {}  # whose names do not say what they are
        content |= {"encoders": encoders.content(self.encoders)} if any(self.encoders.values()) else {}
        return self.cache / hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    @cached_property
    def layers(self) -> dict[str, Layer]:
        """What is compared, by name.

        Raises:
            InputError: if a net has no such layer.
        """
        return resolve(self._modules.nets, self.wanted)

    def modules(self, layer: str) -> dict[str, nn.Module]:
        """The module of each net that gives a layer's activations."""
        return {
            net: find_layer(self.whole[net], path.split(JOINED)[0], net) for net, path in self.layers[layer].items()
        }

    @property
    def whole(self) -> dict[str, nn.Module]:
        """The nets by name."""
        return self._modules.nets

    @cached_property
    def _modules(self) -> Nets:
        every = {name: net.net() for name, net in zip(names_of(self.nets), self.nets)}
        return Nets(encoders.put_on(every, self.encoders), self.views)

    @property
    def artifacts(self) -> list[Artifact]:
        """All that is collected: moments first."""
        return [SavedMoments(), *self.also]

    def ensure(self, trainer: MakesTrainer) -> None:
        """Measure what is not saved yet, in one pass or as many as are asked for.

        Jobs that run at the same time measure once: the first holds a lock, which its death releases, the others wait.
        """
        folder, group = self.folder, patient_group()
        if not first_process():  # does what the first process says; Lightning starts it when that has been decided
            self._measure_all(as_first(self._missing(quiet=True), group), trainer)
            return
        folder.mkdir(parents=True, exist_ok=True)
        with held(folder / "lock", lambda: log.info("Another job is measuring the same nets; waiting for it"), _MINUTE):
            remove_leftovers(folder)
            missing = as_first(self._missing(), group)
            if any(missing):
                self._measure_all(missing, trainer)
            else:
                log.debug("Moments of %d layers found in %s", len(self.layers), folder)

    def load(self, artifact: Artifact | None = None) -> Iterator[Any]:
        """What was saved of the layers, one after another: their `LayerMoments`, or another artifact."""
        for layer in self.layers:
            yield self.load_one(layer, artifact)

    def load_one(self, layer: str, artifact: Artifact | None = None) -> Any:
        """What was saved of one layer."""
        artifact = artifact or self.artifacts[0]
        return artifact.load(self._file(artifact, layer), layer, names_of(self.nets))

    def _file(self, artifact: Artifact, layer: str) -> Path:
        return self.folder / artifact.folder / f"{layer}.safetensors"

    def _missing(self, *, quiet: bool = False) -> list[set[str]]:
        """The layers of each artifact that are not saved."""
        return [{name for name in self.layers if not self._saved(artifact, name, quiet)} for artifact in self.artifacts]

    def _saved(self, artifact: Artifact, layer: str, quiet: bool) -> bool:
        try:
            with opened(self._file(artifact, layer), "measuring it again"):
                return True
        except FileNotFoundError:
            return False
        except (InputError, OSError) as error:
            if not quiet:
                log.warning("%s", error if isinstance(error, InputError) else f"{error}; measuring it again.")
            return False

    def _measure_all(self, missing: list[set[str]], trainer: MakesTrainer) -> None:
        """Measure what is missing, pass after pass: one may leave to the next what does not fit into memory."""
        before: tuple[list[set[str]], dict[str, int]] | None = None
        now = missing, self._done()
        while any(now[0]) and now != before:
            self._measure(*now, trainer)
            before, now = now, as_first((self._missing(quiet=True), self._done()), patient_group())

    def _done(self) -> dict[str, int]:
        """Of layers of whose moments some bands are saved, how many."""
        done = {layer: saved_bands(self._file(SavedMoments(), layer))[0] for layer in self.layers}
        return {layer: bands for layer, bands in done.items() if bands}

    def _measure(self, missing: list[set[str]], done: dict[str, int], trainer: MakesTrainer) -> None:
        layers = [layer for layer in self.layers if any(layer in of_artifact for of_artifact in missing)]
        size = self.reading.layers_per_pass or len(layers)
        for first in range(0, len(layers), max(size, 1)):
            wanted = [[x for x in layers[first : first + size] if x in of_artifact] for of_artifact in missing]
            artifacts = [SavedMoments(done={x: done[x] for x in wanted[0] if x in done}), *self.also]
            self._pass([(artifact, of) for artifact, of in zip(artifacts, wanted) if of], trainer)

    def _pass(self, wanted: list[tuple[Artifact, list[str]]], trainer: MakesTrainer) -> None:
        contents = [[type(of).__name__, of.folder, layers, getattr(of, "done", {})] for of, layers in wanted]
        about = json.dumps([_FORMAT, contents, self.data.batch_size])
        snapshots = Snapshots(self.folder, about, self.reading.snapshot_minutes)
        memory = self.reading.memory or snapshots.memory_before()
        reading = replace(self.reading, group_n=self.data.group_n, memory=memory)
        starts = [
            of.start([(layer, self.layers[layer]) for layer in layers], reading, self.pairs) for of, layers in wanted
        ]
        saving: list[Future[None]] = []
        finished: set[str] = set()
        writer = ThreadPoolExecutor(1)

        def keep(number: int, layer: str, collected: Any) -> None:
            finished.add(layer)
            if first_process():
                artifact = wanted[number][0]
                saving.append(writer.submit(save_layer, artifact.save, collected, self._file(artifact, layer)))

        callback = PassCallback(starts, snapshots, keep)
        self.data.blocks, self.data.read_before = self.reading.blocks, snapshots.batches
        began = time.monotonic()
        with writer:
            trainer([callback]).predict(self._modules, datamodule=self.data, return_predictions=False)
        for saved in saving:
            saved.result()
        if not first_process():
            return
        number = len(finished)
        images = f"{callback.images:,}"
        log.info("read %s %s, %d layers of %d nets: %s", images, self.data.noun, number, len(self.nets), took(began))
        snapshots.remove()
        if skipped := len(self.data.measured) - callback.images:
            every = len(self.data.measured)
            log.warning("%d of %d %s could not be read and were skipped", skipped, every, self.data.noun)
