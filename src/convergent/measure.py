"""The statistics pass as part of a Lightning run."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from convergent.data.images import Batch
from convergent.heartbeat import Heartbeat
from convergent.layer_moments import LayerMoments
from convergent.layers import Layer
from convergent.pairs import block_of_image
from convergent.snapshots import Snapshots
from convergent.statistics_pass import Reading, StatisticsPass

log = logging.getLogger(__name__)

_CALIBRATION = 32  # images


class Nets(pl.LightningModule):
    """Several nets that see the same images; their outputs are of no interest, their layers are.

    Args:
        nets: by name.
        views: which view of the images each net takes, by name, where they come in several ({view: pictures}).
    """

    def __init__(self, nets: Mapping[str, nn.Module], views: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.names, self.views = list(nets), dict(views or {})
        self.modules_ = nn.ModuleList(nets.values())

    @property
    def nets(self) -> dict[str, nn.Module]:
        """The nets by name."""
        return dict(zip(self.names, self.modules_))

    def seen_by(self, x: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What each net sees of a batch: {net: pictures (n, channels, height, width)}."""
        return {net: x if isinstance(x, Tensor) else x[self.views[net]] for net in self.names}

    def forward(self, x: Tensor | Mapping[str, Tensor]) -> None:
        """Run every net on pictures."""
        seen = self.seen_by(x)
        for name, net in self.nets.items():
            net(seen[name])

    def predict_step(self, batch: Batch, _batch_idx: int) -> None:
        """Run every net on one batch of (pictures, classes, images)."""
        self(batch[0])

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move the pictures; the images' numbers stay on the host, where they are needed without waiting for a GPU."""
        return [super().transfer_batch_to_device(batch[0], device, dataloader_idx), *batch[1:]]


class MomentsCallback(pl.Callback):
    """Accumulates the second moments of layers of all nets in `trainer.predict(Nets(...), loader)`.

    Any loader of (pictures, classes, image numbers) will do, in any order and over any number of processes; reading block
    by block (`data.order.BlockOrder`) is fastest. Afterwards `moments` holds the record of each layer, in every process.

    Args:
        layers: what is compared: names, patterns, or groups of names, see `layers.resolve`.
        sample: of a layer with positions, see `layers.samples`.
        blocks: of images; layers so wide that these would not fit into `block_memory` get a half, a quarter, ... of them.
        pairs: names of the nets to be compared; all with all by default.
        snapshots: where to keep what was read so far; the loader then leaves out the batches that they hold.
        how: more of `statistics_pass.Reading`: units, block_memory, products, device.
    """

    def __init__(
        self,
        layers: Sequence[str | Sequence[str] | Layer],
        sample: str | int = "every",
        blocks: int = 64,
        pairs: Iterable[tuple[str, str]] | None = None,
        snapshots: Snapshots | None = None,
        **how: Any,
    ) -> None:
        self.layers, self.pairs, self.snapshots = list(layers), None if pairs is None else list(pairs), snapshots
        self.how = Reading(sample, blocks=blocks, **how)
        self.moments: dict[str, LayerMoments] = {}
        self._batches = 0
        self._heartbeat = Heartbeat()

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Calibrate on the first images of the seeded order, the same in all processes, and hang the hooks."""
        assert isinstance(pl_module, Nets)
        loader = trainer.predict_dataloaders
        assert isinstance(loader, DataLoader)
        images = len(loader.dataset)  # type: ignore[arg-type]
        first = block_of_image(images, self.how.blocks).argsort(stable=True)[:_CALIBRATION].tolist()
        batch = loader.collate_fn([loader.dataset[image] for image in first])
        x = pl_module.seen_by(pl_module.transfer_batch_to_device(batch, pl_module.device, 0)[0])
        self._pass = StatisticsPass(pl_module.nets, self.layers, images, x, self.how, self.pairs).__enter__()
        self._heartbeat = Heartbeat().__enter__()
        if trainer.is_global_zero:
            log.info(self._pass.plan())
        if self.snapshots:
            place = (trainer.global_rank, trainer.world_size)
            self._batches = self.snapshots.batches(*place)
            if self._batches:
                self._pass.load_state(self.snapshots.load(*place))
                log.info("Going on with batch %d of a pass that was stopped", self._batches + 1)

    def on_predict_batch_start(
        self, _trainer: pl.Trainer, _module: pl.LightningModule, batch: Batch, _batch_idx: int, _loader: int = 0
    ) -> None:
        """Note the images of the batch."""
        self._pass.begin(batch[2].cpu())

    def on_predict_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Multiply what is complete."""
        self._pass.end()
        self._batches += 1
        if self.snapshots and self.snapshots.due:
            self.snapshots.save(self._pass.state(), self._batches, trainer.global_rank, trainer.world_size)

    def on_predict_end(self, *_: Any) -> None:
        """Take the hooks off and add up the processes."""
        self._pass.__exit__()
        self.moments = self._pass.finish()
        self._heartbeat.__exit__(None)

    def on_exception(self, _trainer: pl.Trainer, _module: pl.LightningModule, exception: BaseException) -> None:
        """Take the hooks off."""
        if hasattr(self, "_pass"):
            self._pass.__exit__()
        self._heartbeat.__exit__(type(exception))
