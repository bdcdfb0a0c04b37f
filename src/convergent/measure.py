"""The statistics pass: all nets, all layers, one reading of the images.

Axes: `k` blocks of images, `u` units of all nets side by side.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from convergent.accumulate import FLOAT64_BELOW, Accumulator, Sums, grid_shift
from convergent.capture import Capture, samples
from convergent.data.images import Batch
from convergent.errors import InputError
from convergent.moments import Moments
from convergent.pairs import block_of_image

log = logging.getLogger(__name__)


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
    """

    def __init__(
        self, layers: Sequence[str], sample: str = "every", blocks: int = 64, block_memory: float = 1e9
    ) -> None:
        self.layers, self.sample, self.blocks, self.block_memory = list(layers), sample, blocks, block_memory
        self.moments: dict[str, Moments] = {}
        self.units: dict[str, dict[str, slice]] = {}
        self.images = 0

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Calibrate on the first images of the seeded order, the same in all processes, and hang the hooks."""
        assert isinstance(pl_module, Nets)
        loader = trainer.predict_dataloaders
        assert isinstance(loader, DataLoader)
        total = len(loader.dataset)  # type: ignore[arg-type]
        self._block_n = block_of_image(total, self.blocks)
        first = (self._block_n == 0).nonzero()[:32, 0].tolist()
        batch = loader.collate_fn([loader.dataset[image] for image in first])
        calibration = calibrate(pl_module, batch[0].to(pl_module.device), self.layers, self.sample)
        self._accumulators = {layer: self._accumulator(layer, seen, total) for layer, seen in calibration.items()}
        for layer in self.layers:
            if (blocks := self.blocks_of(layer)) < min(self.blocks, total):
                units = len(self._accumulators[layer].shift_u)
                log.info("Layer %s has %d units in all nets together: %d blocks of images fit", layer, units, blocks)
        self._capture = Capture(pl_module.nets, self.layers, self._write).__enter__()

    def _accumulator(self, layer: str, seen: Mapping[str, Tensor], total: int) -> Accumulator:
        """Plan one layer: units side by side, shift, precision.

        Raises:
            InputError: if the nets disagree on the number of positions.
        """
        edges = torch.tensor([0, *(x_ncp.shape[1] for x_ncp in seen.values())]).cumsum(0).tolist()
        self.units[layer] = {net: slice(*edges[i : i + 2]) for i, net in enumerate(seen)}
        positions = {net: x_ncp.shape[2] for net, x_ncp in seen.items()}
        if len(set(positions.values())) > 1:
            told = ", ".join(f"{p} in {net}" for net, p in positions.items())
            raise InputError(
                f"Layer {layer} has unequal numbers of positions ({told}); compare them with sample=pooled."
            )
        x_us = torch.cat([x_ncp.double().transpose(0, 1).flatten(1) for x_ncp in seen.values()])
        few = total * next(iter(positions.values())) < FLOAT64_BELOW
        shift_u = grid_shift(x_us.mean(1).nan_to_num(), x_us.std(1, correction=0).nan_to_num())
        dtype = torch.float64 if few else torch.float32
        return Accumulator(layer, self.units[layer], x_us.shape[1] // len(next(iter(seen.values()))), shift_u, dtype)

    def blocks_of(self, layer: str) -> int:
        """How many blocks a layer gets: `blocks`, halved until they fit."""
        blocks, units = min(self.blocks, len(self._block_n)), len(self._accumulators[layer].shift_u)
        while blocks > 1 and blocks * units**2 * 8 > self.block_memory:
            blocks //= 2
        return blocks

    def on_predict_batch_start(
        self, _trainer: pl.Trainer, _module: pl.LightningModule, batch: Batch, _batch_idx: int, _loader: int = 0
    ) -> None:
        """Note the images of the batch."""
        block_n = self._block_n[batch[2].cpu()]
        self.images += len(block_n)
        self._capture.begin()
        finest = min(self.blocks, len(self._block_n))
        for layer, accumulator in self._accumulators.items():
            accumulator.begin((block_n * self.blocks_of(layer) // finest).tolist())

    def _write(self, net: str, layer: str, activation: Tensor) -> None:
        x_ncp = samples(activation, self.sample, f"Layer {layer} of net {net}")
        self._accumulators[layer].write(net, x_ncp)

    def on_predict_batch_end(self, *_: Any) -> None:
        """Multiply what is complete."""
        self._capture.end()
        for accumulator in self._accumulators.values():
            accumulator.end()

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the hooks off and add up the processes."""
        self._capture.__exit__()
        for layer, accumulator in self._accumulators.items():
            accumulator.close()
            blocks = range(self.blocks_of(layer))
            sums = [_over_processes(accumulator.done.get(k), accumulator.shift_u, pl_module.device) for k in blocks]
            self.moments[layer] = Moments.stack([s.moments(accumulator.shift_u.cpu()) for s in sums])
        images = torch.tensor(float(self.images), device=pl_module.device)
        self.images = round(float(trainer.strategy.reduce(images, reduce_op="sum")))

    def on_exception(self, *_: Any) -> None:
        """Take the hooks off."""
        if hasattr(self, "_capture"):
            self._capture.__exit__()


def calibrate(nets: Nets, x: Tensor, layers: Sequence[str], sample: str) -> dict[str, dict[str, Tensor]]:
    """The samples of every layer of every net for a few pictures: {layer: {net: (n images, c units, p positions)}}."""
    seen: dict[str, dict[str, Tensor]] = {layer: {} for layer in layers}

    def keep(net: str, layer: str, activation: Tensor) -> None:
        seen[layer][net] = samples(activation, sample, f"Layer {layer} of net {net}").clone()

    with Capture(nets.nets, layers, keep) as capture:
        capture.begin()
        nets(x)
        capture.end()
    return seen


def _over_processes(sums: Sums | None, shift_u: Tensor, device: torch.device) -> Sums:
    """The sums of one block over all processes; one block at a time bounds the memory that this takes."""
    u = len(shift_u)
    sums = sums or Sums(0.0, torch.zeros(u, dtype=torch.float64), torch.zeros(u, u, dtype=torch.float64))
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return sums
    flat = torch.cat([torch.tensor([sums.count], dtype=torch.float64), sums.s_u, sums.s_uu.flatten()]).to(device)
    torch.distributed.all_reduce(flat)
    flat = flat.cpu()
    return Sums(flat[0].item(), flat[1 : u + 1], flat[u + 1 :].view(u, u))
