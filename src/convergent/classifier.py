"""One LightningModule that trains any classifier of pictures."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchmetrics import MeanMetric, Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from convergent.data.images import Batch
from convergent.data.order import mixed
from convergent.errors import InputError


class Classifier(pl.LightningModule):
    """A net, cross entropy, an optimiser; accuracy top-1, and top-5 where there are more than five classes.

    Images whose class is -100 count neither in the loss nor in the accuracy.

    Args:
        net: pictures to logits.
        classes: number of logits.
        optimizer: named parameters to an optimiser.
        scheduler: optimiser to a scheduler of steps, or None; one with a parameter `total_steps` is told how many the whole
            training has. (Lightning forgets the last step of a scheduler of epochs when it resumes.)
        seed: of what is random while training (dropout), anew at every step, so that a resumed run draws the same.
    """

    def __init__(
        self,
        net: nn.Module,
        classes: int,
        optimizer: Callable[[Iterable[tuple[str, nn.Parameter]]], torch.optim.Optimizer],
        scheduler: Callable[..., Any] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.net, self.optimizer, self.scheduler, self.seed = net, optimizer, scheduler, seed
        accuracy: dict[str, Metric | MetricCollection] = {"acc_top1": _accuracy(classes, 1)}
        if classes > 5:
            accuracy["acc_top5"] = _accuracy(classes, 5)
        self.train_accuracy = MetricCollection({"acc_top1": _accuracy(classes, 1)}, prefix="train/")
        self.val_accuracy = MetricCollection(accuracy, prefix="val/")
        self.train_loss, self.val_loss = MeanMetric(), MeanMetric()

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, classes) of pictures (n, channels, height, width)."""
        return self.net(x)  # type: ignore[no-any-return]

    def on_train_batch_start(self, *_: Any) -> None:
        """Seed the step's random numbers."""
        torch.manual_seed(mixed(self.seed, self.global_step, self.global_rank))

    def training_step(self, batch: Batch, _batch_idx: int) -> Tensor:
        """The loss of one batch."""
        x, target, _ = batch
        logits = self._checked(self(x), target)
        loss = cross_entropy(logits, target)
        self.train_loss.update(loss.detach(), len(target))
        self.train_accuracy.update(logits.detach(), target)
        self.log("train/loss", self.train_loss, on_step=False, on_epoch=True)
        self.log_dict(self.train_accuracy, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Batch, _batch_idx: int) -> None:
        """Count one batch."""
        x, target, _ = batch
        logits = self._checked(self(x), target)
        counted = target >= 0
        if counted.any():
            self.val_loss.update(cross_entropy(logits, target), counted.sum())
        self.val_accuracy.update(logits, target)
        self.log("val/loss", self.val_loss, on_step=False, on_epoch=True, prog_bar=True)
        self.log_dict(self.val_accuracy, on_step=False, on_epoch=True, prog_bar=True)

    def configure_optimizers(self) -> Any:
        """The optimiser, and its scheduler if there is one."""
        optimizer = self.optimizer(self.net.named_parameters())
        if self.scheduler is None:
            return optimizer
        told = "total_steps" in inspect.signature(self.scheduler).parameters
        settings = {"total_steps": int(self.trainer.estimated_stepping_batches)} if told else {}
        scheduler = self.scheduler(optimizer, **settings)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    @staticmethod
    def _checked(logits: Tensor, target: Tensor) -> Tensor:
        classes = logits.shape[1]
        if target.max() >= classes:
            raise InputError(
                f"The images have a class numbered {int(target.max())}, but the net only has {classes} outputs; "
                "set data.classes to the number of class folders."
            )
        return logits


def _accuracy(classes: int, top: int) -> MulticlassAccuracy:
    return MulticlassAccuracy(num_classes=max(classes, 2), top_k=top, average="micro", ignore_index=-100)
