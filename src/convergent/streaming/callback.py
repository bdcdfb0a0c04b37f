"""The statistics pass as part of a Lightning run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from convergent.core.histogram_source import Counting
from convergent.core.layer_moments import LayerMoments
from convergent.core.matrices import described
from convergent.data.numbered import check_numbers
from convergent.data.pictures import Batch
from convergent.errors import InputError
from convergent.heartbeat import Heartbeat
from convergent.streaming.capture import Seen, mask_of, places_of
from convergent.streaming.collector import Collector, Start, part_of
from convergent.streaming.histograms.histogram_pass import HistogramPass
from convergent.streaming.histograms.layer_histograms import LayerHistograms
from convergent.streaming.layers import Layers, Pairs
from convergent.streaming.loader import first_batches
from convergent.streaming.measure import evaluating
from convergent.streaming.module import Nets
from convergent.streaming.reading import Reading
from convergent.streaming.snapshots import Snapshots
from convergent.streaming.statistics_pass import StatisticsPass

log = logging.getLogger(__name__)


class PassCallback(pl.Callback):
    """Collects things from layers of all nets in `trainer.predict(Nets(...), loader)`: one pass, whatever their number.

    Any loader of (pictures, classes, image numbers) will do, in any order and over any number of processes; reading block
    by block (`data.order.BlockOrder`) is fastest.

    Args:
        starts: what starts each collector.
        snapshots: where to keep what all collectors read so far; the loader then leaves out the batches that they hold.
        keep: takes the number of a collector, a layer and what was collected of it as soon as that is finished, so that it
            can be saved while the next one is; `collected` then stays empty.

    Attributes:
        collected: {layer: what was collected} of each collector, in their order, in every process.
        images: how many were read.
    """

    def __init__(
        self,
        starts: Sequence[Start],
        snapshots: Snapshots | None = None,
        keep: Callable[[int, str, Any], None] | None = None,
    ) -> None:
        self.starts, self.snapshots, self.keep = list(starts), snapshots, keep
        self.collected: list[dict[str, Any]] = []
        self.images = 0
        self._collectors: list[Collector] = []
        self._hooks = ExitStack()
        self._begun = False
        self._batches = 0
        self._images = 0  # of the data set
        self._heartbeat = Heartbeat()

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the collectors on the first images of the seeded order, the same in all processes, and hang the hooks.

        Raises:
            InputError: if it is no pass of `Nets` over one loader of a data set whose length is known.
        """
        self._begun = True
        loader: Any = trainer.predict_dataloaders
        numbered = isinstance(loader, DataLoader) and not isinstance(loader.dataset, IterableDataset)
        if not isinstance(pl_module, Nets) or not numbered or not len(loader.dataset):
            raise InputError(
                "A pass is trainer.predict(Nets(...), loader) with one DataLoader of a data set that has items and a length,"
                f" not a {type(pl_module).__name__} and {described(loader)}; make these of yours."
            )
        first = partial(_first_images, pl_module, loader)
        self.collected, self._batches, self._images = [], 0, len(loader.dataset)
        self._collectors = [start(pl_module.nets, self._images, first) for start in self.starts]
        for collector in self._collectors:  # only now, for they run the nets when they start
            self._hooks.enter_context(collector)
        self._heartbeat = Heartbeat().__enter__()
        if trainer.is_global_zero:
            log.debug("\n\n".join(collector.plan() for collector in self._collectors))
        if self.snapshots:
            self.snapshots.memory = next((of.memory for of in self._collectors if of.memory), None)
            self._resume(self.snapshots, trainer.global_rank, trainer.world_size)

    def on_predict_batch_start(
        self, _trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, _batch_idx: int, _loader: int = 0
    ) -> None:
        """Note the images of the batch."""
        assert isinstance(pl_module, Nets)
        image_n, seen = batch[2].cpu().long(), pl_module.seen_by(batch[0])
        check_numbers(image_n, self._images)
        for collector in self._collectors:
            collector.begin(image_n, mask_of(seen), places_of(seen))
            collector.label(batch[1])

    def on_predict_batch_end(
        self, trainer: pl.Trainer, _module: pl.LightningModule, _outputs: Any, _batch: Batch, batch_idx: int, *_: Any
    ) -> None:
        """Let each collector finish the batch; a snapshot is of all of them after the same batch.

        There is none after a process's last batch: with nothing left to read Lightning would skip the pass, and with it the
        exchange between the processes.

        Raises:
            KeyboardInterrupt: if the process was told to end (SIGTERM), of which Lightning takes note only; what was read is
                kept before.
        """
        for collector in self._collectors:
            collector.end()
        self._batches += 1
        last = batch_idx + 1 >= trainer.num_predict_batches[0]
        ending = trainer.received_sigterm
        if self.snapshots and not last and (self.snapshots.due or ending):
            states = enumerate(collector.state() for collector in self._collectors)
            state = {f"{number}/{name}": tensor for number, part in states for name, tensor in part.items()}
            self.snapshots.save(state, self._batches, trainer.global_rank, trainer.world_size)
        if ending:
            raise KeyboardInterrupt

    def on_predict_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Take the hooks off and put together what the processes collected."""
        self._hooks.close()
        self.collected = [{} for _ in self._collectors]
        for number, collector in enumerate(self._collectors):
            for layer, collected in collector.finished():
                if self.keep:
                    self.keep(number, layer, collected)
                else:
                    self.collected[number][layer] = collected
                del collected  # what was kept elsewhere is gone from here before the next one is finished
        self.images = self._collectors[0].images
        self._collectors = []
        self._heartbeat.__exit__(None)
        trainer.strategy.barrier()  # nobody listens any more when the first process takes its store away

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:  # noqa: ARG002
        """Let a process that has no image to read, for which Lightning skips the pass, exchange what the others do."""
        if not self._begun:
            pl_module.to(trainer.strategy.root_device)
            with torch.no_grad(), evaluating([pl_module]):
                self.on_predict_start(trainer, pl_module)
                self.on_predict_end(trainer)
            pl_module.cpu()
        self._begun = False

    def on_exception(self, _trainer: pl.Trainer, _module: pl.LightningModule, exception: BaseException) -> None:
        """Take the hooks off."""
        self._hooks.close()
        self._heartbeat.__exit__(type(exception))

    def _resume(self, snapshots: Snapshots, rank: int, world: int) -> None:
        self._batches = snapshots.batches(rank, world)
        if self._batches:
            state = snapshots.load(rank, world)
            try:
                for number, collector in enumerate(self._collectors):
                    collector.load_state(part_of(state, str(number)))
            except (RuntimeError, KeyError, IndexError, ValueError) as error:
                raise InputError(
                    f"{snapshots.file(rank, world)} does not fit this pass ({' '.join(str(error).split())[:200]}); delete "
                    "it, then the pass begins anew."
                ) from None
            log.info("Going on with batch %d of a pass that was stopped", self._batches + 1)


class MomentsCallback(PassCallback):
    """Accumulates the second moments of layers of all nets; arguments as for `StatisticsPass.start` and `PassCallback`."""

    def __init__(
        self, layers: Layers, reading: Reading | None = None, pairs: Pairs = None, snapshots: Snapshots | None = None
    ) -> None:
        super().__init__([StatisticsPass.start(layers, reading, pairs)], snapshots)

    @property
    def moments(self) -> dict[str, LayerMoments]:
        """The moments of each layer, in every process."""
        return self.collected[0] if self.collected else {}


class HistogramsCallback(PassCallback):
    """Counts joint histograms of layers of all nets, beside or without a `MomentsCallback`, see `HistogramPass.start`."""

    def __init__(
        self,
        layers: Layers,
        counting: Counting | None = None,
        reading: Reading | None = None,
        pairs: Pairs = None,
        snapshots: Snapshots | None = None,
    ) -> None:
        super().__init__([HistogramPass.start(layers, reading, pairs, counting)], snapshots)

    @property
    def histograms(self) -> dict[str, LayerHistograms]:
        """The joint histograms of each layer, in every process."""
        return self.collected[0] if self.collected else {}


def _first_images(module: Nets, loader: DataLoader[Any], n: int) -> Iterator[tuple[Tensor, dict[str, Seen]]]:
    """Up to n of the first images of the seeded order: numbers, and what each net sees, in batches."""
    for image_n, batch in first_batches(loader, n):
        yield image_n, module.seen_by(module.transfer_batch_to_device(batch, module.device, 0)[0])
