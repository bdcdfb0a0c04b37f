"""The statistics pass as part of a Lightning run."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from convergent.data.images import Batch
from convergent.moments import Moments
from convergent.pairs import block_of_image
from convergent.statistics_pass import StatisticsPass

log = logging.getLogger(__name__)

_CALIBRATION = 32  # images


class Nets(pl.LightningModule):
    """Several nets that see the same images; their outputs are of no interest, their layers are.

    Args:
        nets: by name.
    """

    def __init__(self, nets: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.names = list(nets)
        self.modules_ = nn.ModuleList(nets.values())

    @property
    def nets(self) -> dict[str, nn.Module]:
        """The nets by name."""
        return dict(zip(self.names, self.modules_))

    def forward(self, x: Tensor) -> None:
        """Run every net on pictures (n, channels, height, width)."""
        for net in self.modules_:
            net(x)

    def predict_step(self, batch: Batch, _batch_idx: int) -> None:
        """Run every net on one batch of (pictures, classes, images)."""
        self(batch[0])


class MomentsCallback(pl.Callback):
    """Accumulates the second moments of layers of all nets in `trainer.predict(Nets(...), loader)`.

    Any loader of (pictures, classes, image numbers) will do, in any order and over any number of processes; reading block
    by block (`data.order.BlockOrder`) is fastest. Afterwards `moments` holds the record of each layer, in every process.

    Args:
        layers: names of modules, the same in all nets.
        sample: of a convolutional layer, see `capture.samples`.
        blocks: of images; layers so wide that these would not fit into `block_memory` get a half, a quarter, ... of them.
        block_memory: bytes that one layer's blocks may take.
        products: backend of the float32 matrix products, see `products.chosen`.
    """

    def __init__(
        self,
        layers: Sequence[str],
        sample: str | int = "every",
        blocks: int = 64,
        block_memory: float = 1e9,
        products: str = "auto",
    ) -> None:
        self.layers, self.sample, self.blocks, self.block_memory = list(layers), sample, blocks, block_memory
        self.products = products
        self.moments: dict[str, Moments] = {}
        self.units: dict[str, dict[str, slice]] = {}
        self.images = 0

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Calibrate on the first images of the seeded order, the same in all processes, and hang the hooks."""
        assert isinstance(pl_module, Nets)
        loader = trainer.predict_dataloaders
        assert isinstance(loader, DataLoader)
        images = len(loader.dataset)  # type: ignore[arg-type]
        first = (block_of_image(images, self.blocks) == 0).nonzero()[:_CALIBRATION, 0].tolist()
        x = loader.collate_fn([loader.dataset[image] for image in first])[0].to(pl_module.device)
        self._pass = StatisticsPass(
            pl_module.nets, self.layers, images, x, self.sample, self.blocks, self.block_memory, self.products
        ).__enter__()
        self.units = self._pass.units
        if trainer.is_global_zero:
            log.info(self._pass.plan())

    def on_predict_batch_start(
        self, _trainer: pl.Trainer, _module: pl.LightningModule, batch: Batch, _batch_idx: int, _loader: int = 0
    ) -> None:
        """Note the images of the batch."""
        self.images += len(batch[2])
        self._pass.begin(batch[2])

    def on_predict_batch_end(self, *_: Any) -> None:
        """Multiply what is complete."""
        self._pass.end()

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the hooks off and add up the processes."""
        self._pass.__exit__()
        self.moments = self._pass.finish()
        images = torch.tensor(float(self.images), device=pl_module.device)
        self.images = round(float(trainer.strategy.reduce(images, reduce_op="sum")))

    def on_exception(self, *_: Any) -> None:
        """Take the hooks off."""
        if hasattr(self, "_pass"):
            self._pass.__exit__()
