"""What every LightningDataModule of this package is: items in orders that depend on seeds only, resumed within an epoch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence, Sized
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from convergent.data.order import BlockOrder, EvaluationOrder, SomeOrder, TrainingOrder
from convergent.errors import InputError


class OrderedData(pl.LightningDataModule, ABC):
    """Training, validation and measured items, whose order and split over processes depend on seeds only.

    So Lightning's own distributed sampler is to be switched off (`use_distributed_sampler=False`).

    Args:
        batch_size: over all processes.
        workers: processes that read beside each of these.
        order_seed: of the order of training items.
        augment_seed: of their augmentation; several for as many nets that each see the same items augmented otherwise.
        epoch: items that make up an epoch; None for all.

    Attributes:
        blocks: of items, in the statistics pass.
        only: numbers of the items that the pass reads of those that are measured; None for all.
        read_before: of (rank, number of processes), how many batches of the statistics pass to leave out.
    """

    noun = "images"  # what items are called
    measured: Any  # the items of the statistics pass, with their `manifest`

    def __init__(
        self,
        batch_size: int,
        workers: int = 0,
        order_seed: int = 0,
        augment_seed: int | Sequence[int] = 0,
        epoch: int | None = None,
    ) -> None:
        super().__init__()
        self.batch_size, self.workers, self.order_seed, self.epoch = batch_size, workers, order_seed, epoch
        self.augment_seeds = [augment_seed] if isinstance(augment_seed, int) else list(augment_seed)
        self.blocks, self._begin = 64, (0, 0)  # epoch and batch
        self.only: Tensor | None = None
        self.read_before: Callable[[int, int], int] = lambda _rank, _world: 0

    @abstractmethod
    def check(self) -> None:
        """Find out that there is something to train on, before anything is started."""

    @abstractmethod
    def items(self, stage: str) -> Dataset[Any]:
        """What is read for "train" or for "val"."""

    @abstractmethod
    def collate(self, items: Any) -> Callable[[Any], Any]:
        """What makes batches of items."""

    @property
    def group_n(self) -> Tensor | None:
        """Which group each measured item belongs to, as contexts do to documents; None where each is alone."""
        return None

    @abstractmethod
    def untrained_on(self) -> Tensor:
        """The numbers of those measured items on which no net is trained.

        Raises:
            InputError: if there are none, or nobody knows which they are.
        """

    def skipped(self) -> int:
        """How many items this process and its workers could not read so far."""
        return 0

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches of training items, without those of the epoch that a resumed training has read before."""
        items, size, (epoch, batches) = self.items("train"), self._batch_per_process(), self._begin
        seeds, length = self.augment_seeds, len(items)  # type: ignore[arg-type]
        order = TrainingOrder(
            length, self.order_seed, seeds, *self._place(), epoch=epoch, skip=batches * size, size=self.epoch
        )
        return self._loader(items, sampler=order, batch_size=size)

    def val_dataloader(self) -> DataLoader[Any]:
        """Batches of validation items, each counted once over all processes."""
        items = self.items("val")
        order = EvaluationOrder(len(items), *self._place())  # type: ignore[arg-type]
        return self._loader(items, sampler=order, batch_size=self._batch_per_process())

    def predict_dataloader(self) -> DataLoader[Any]:
        """Batches of the statistics pass, block by block, without those read before; none where others have all."""
        rank, world = self._place()
        skip, group_n = self.read_before(rank, world), self.group_n
        if self.only is not None:
            return self._loader(self.measured, batch_sampler=SomeOrder(self.only, self.batch_size, rank, world, skip))
        order = BlockOrder(len(self.measured), self.blocks, self.batch_size, rank, world, skip, group_n)
        return self._loader(self.measured, batch_sampler=order)

    def state_dict(self) -> dict[str, int]:
        """Where the training is: the epoch, and how many of its batches are done."""
        assert self.trainer is not None
        batches, epoch = self.trainer.fit_loop.epoch_loop.batch_progress, self.trainer.current_epoch
        if batches.is_last_batch:
            return {"epoch": epoch + 1, "batches": 0}
        return {"epoch": epoch, "batches": batches.current.ready}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Begin there."""
        self._begin = state_dict["epoch"], state_dict["batches"]

    def _place(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _batch_per_process(self) -> int:
        world = self._place()[1]
        if self.batch_size % world:
            raise InputError(
                f"data.batch_size is over all processes, so it needs to be a multiple of {world}, not {self.batch_size}."
            )
        return self.batch_size // world

    def _loader(self, items: Dataset[Any] | Sized, **options: Any) -> DataLoader[Any]:
        return DataLoader(
            items,  # type: ignore[arg-type]
            num_workers=self.workers,
            collate_fn=self.collate(items),
            pin_memory=torch.cuda.is_available(),
            persistent_workers=False,
            **options,
        )
