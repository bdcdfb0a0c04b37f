"""One LightningModule that trains nets by cross entropy: one, or several side by side on one stream of batches."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchmetrics import MetricCollection

from convergent.data.order import mixed
from convergent.data.pictures import Batch
from convergent.errors import InputError
from convergent.training.metrics import Mean, metrics_of
from convergent.training.optimizers import Schedules, SideBySide

_LOOK = 50  # steps between two looks at losses, for which a GPU has to be waited for
_NEVER = 2**62


class Learner(nn.Module):
    """A net, its cross entropy, its random numbers and its counts.

    Of pictures it counts accuracy top-1, and top-5 where there are more than five classes; of tokens the perplexity. What
    has the target -100 counts neither in the loss nor in these.

    Args:
        net: pictures to logits (n, classes), or tokens to logits (n, p, vocabulary), or to a record that has these.
        classes: of pictures; None for nets that predict the next token.
        seed: of what is random while training (dropout), anew at every step, so that a resumed run draws the same.
        channels_last: lay out pictures and weights channel by channel within each pixel, which GPUs like for half precision.
        compiled: run the net as `torch.compile` makes it, with torch's own random numbers: dropout draws the same.
    """

    def __init__(
        self,
        net: nn.Module,
        classes: int | None,
        seed: int = 0,
        *,
        channels_last: bool = False,
        compiled: bool = False,
    ) -> None:
        super().__init__()
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.net, self.seed = net.to(memory_format=self.layout) if channels_last else net, seed
        if compiled:
            self.net.compile(options={"fallback_random": True})
        self.train_accuracy = MetricCollection(metrics_of(classes, 1), prefix="train/")
        self.val_accuracy = MetricCollection(
            metrics_of(classes, *((1, 5) if (classes or 0) > 5 else (1,))), prefix="val/"
        )
        self.train_loss, self.val_loss = Mean(), Mean()
        self._lost_at: Tensor | None = None
        for metric in (self.train_loss, *self.train_accuracy.values()):
            metric.persistent(True)  # so that an epoch that was resumed tells of all its images

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, classes) of pictures (n, channels, height, width), or (n, p, vocabulary) of tokens (n, p)."""
        output = self.net(x.contiguous(memory_format=self.layout) if x.ndim == 4 else x)
        return output if isinstance(output, Tensor) else output.logits

    def loss(self, x: Tensor, target: Tensor, step: int, rank: int, highest: int | None = None) -> Tensor:
        """The loss of one training batch, drawing the random numbers of this step and process.

        Nothing waits for a GPU where the highest target so far is given.
        """
        torch.manual_seed(mixed(self.seed, step, rank))
        logits = _checked(self(x), int(target.max()) if highest is None else highest)
        loss = cross_entropy(logits.flatten(0, -2), target.flatten())
        lost_at = torch.where(loss.detach().isfinite(), _NEVER, step)  # stays on its device, nobody waits for it
        self._lost_at = lost_at if self._lost_at is None else torch.minimum(self._lost_at, lost_at)
        self.train_loss.update(loss.detach(), len(target))
        self.train_accuracy.update(logits.detach(), target)
        return loss

    def lost_at(self, step: int, device: torch.device) -> Tensor:
        """The first step whose loss was not finite, or this one if the weights are not; a large number if all are."""
        finite = torch.stack([x.detach().isfinite().all() for x in self.net.parameters()]).all()
        lost_at = torch.where(finite, _NEVER, step).to(device)
        return lost_at if self._lost_at is None else torch.minimum(self._lost_at.to(device), lost_at)

    def count(self, x: Tensor, target: Tensor, highest: int | None = None) -> None:
        """Count one validation batch, see `loss`."""
        logits = _checked(self(x), int(target.max()) if highest is None else highest)
        total, counted = cross_entropy(logits.flatten(0, -2), target.flatten(), reduction="sum"), (target >= 0).sum()
        self.val_loss.update(total / counted.clamp(min=1), counted)
        self.val_accuracy.update(logits, target)

    def metrics(self, stage: str) -> dict[str, float]:
        """Loss and accuracies, or perplexity, of a stage ("train" or "val") over all processes, which start anew."""
        loss, accuracy = getattr(self, f"{stage}_loss"), getattr(self, f"{stage}_accuracy")
        values = {f"{stage}/loss": loss.compute(), **accuracy.compute()}
        loss.reset()
        accuracy.reset()
        return {name: float(value) for name, value in values.items()}


class Classifier(pl.LightningModule):
    """Nets that learn side by side from the same batches, each as if it were alone: a plain loop over them.

    The gradient of the sum of the nets' losses is each net's own, so one backward pass serves them all, whatever the number
    of processes. Each has its own optimiser, schedule, random numbers, counts and, in `trainer.loggers`, its own logger.

    Args:
        learners: the nets.
        optimizer: named parameters to an optimiser.
        scheduler: optimiser to a scheduler of steps, or None; a parameter `total_steps` gets their number in the whole
            training. (Lightning forgets the last step of a scheduler of epochs when it resumes.)

    Attributes:
        latest: the latest loss and accuracies of each net.
    """

    def __init__(
        self,
        learners: Sequence[Learner],
        optimizer: Callable[[Iterable[tuple[str, nn.Parameter]]], torch.optim.Optimizer],
        scheduler: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__()
        self.learners, self.optimizer, self.scheduler = nn.ModuleList(learners), optimizer, scheduler
        self.latest: list[dict[str, float]] = [{} for _ in learners]
        self._highest = -1  # target so far

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:  # noqa: ARG002
        """Look at the targets while they are on the host, where nobody waits for a GPU."""
        self._highest = max(self._highest, int(batch[1].max()))
        return batch

    def training_step(self, batch: Batch, _batch_idx: int) -> Tensor:
        """The sum of the nets' losses of one batch."""
        step, rank = self.global_step, self.global_rank
        every = ((learner, (x, batch[1], step, rank, self._highest)) for learner, x in self._seen(batch))
        return torch.stack([learner.loss(*given) for learner, given in every]).sum()

    def on_train_batch_end(self, *_: Any) -> None:
        """Look every so often, and at the end of an epoch, whether the training goes anywhere."""
        if self.global_step % _LOOK == 0 or self.trainer.is_last_batch:
            self.ensure_finite()

    def ensure_finite(self) -> None:
        """Find out that losses and weights are numbers, in all processes alike.

        Raises:
            InputError: if one is not.
        """
        lost_n = torch.stack([one.lost_at(self.global_step, self.device) for one in self.learners])  # type: ignore[operator]
        lost_n = self.trainer.strategy.reduce(lost_n, reduce_op="min")
        step, number = (int(least) for least in lost_n.min(0))
        if step < _NEVER:
            raise InputError(
                f"The training of seed={self.learners[number].seed} has no finite loss or weights at step {step}; lower "
                "optimizer.optimizer.lr, or look at data.mean, data.std and the images, and start over with force=true; "
                "checkpoints made before are kept."
            )

    def validation_step(self, batch: Batch, _batch_idx: int) -> None:
        """Count one batch."""
        for learner, x in self._seen(batch):
            learner.count(x, batch[1], self._highest)

    def _seen(self, batch: Batch) -> Iterable[tuple[Any, Tensor]]:
        """Each net with its pictures: those of all, or its own crops."""
        x = batch[0]
        return zip(self.learners, x if isinstance(x, list) else [x] * len(self.learners), strict=True)

    def on_train_epoch_end(self) -> None:
        """Log the epoch."""
        self._log("train")

    def on_validation_epoch_end(self) -> None:
        """Log the validation."""
        self._log("val")

    def _log(self, stage: str) -> None:
        for learner, latest in zip(self.learners, self.latest):
            latest.update(learner.metrics(stage))  # type: ignore[operator]
        for logger, latest in zip(self.trainer.loggers, self.latest):
            metrics = {name: value for name, value in latest.items() if name.startswith(stage)}
            logger.log_metrics(metrics | {"epoch": self.current_epoch}, self.global_step)
        means = {name: sum(of[name] for of in self.latest) / len(self.latest) for name in self.latest[0]}
        here = {name: mean for name, mean in means.items() if name.startswith(stage)}
        self.log_dict(here, logger=False, prog_bar=stage == "val", sync_dist=True)

    def configure_optimizers(self) -> Any:
        """The optimiser of each net, and its scheduler if there is one."""
        return self.optimizers_of(int(self.trainer.estimated_stepping_batches))

    def optimizers_of(self, steps: int) -> Any:
        """The optimiser of each net, and its scheduler if there is one, for a training of so many steps.

        Raises:
            InputError: if torch cannot make them of their options.
        """
        try:
            optimizers = [self.optimizer(learner.net.named_parameters()) for learner in self.learners]  # type: ignore[union-attr]
            together = SideBySide(optimizers)
            if self.scheduler is None:
                return together
            timed = "total_steps" in inspect.signature(self.scheduler).parameters
            settings = {"total_steps": steps} if timed else {}
            schedules = Schedules([self.scheduler(optimizer, **settings) for optimizer in optimizers], together)
        except (TypeError, ValueError) as error:
            raise InputError(f"The optimizer or its schedule cannot be made: {' '.join(str(error).split())}") from None
        return {"optimizer": together, "lr_scheduler": {"scheduler": schedules, "interval": "step"}}

    def lr_scheduler_step(self, scheduler: Any, _metric: Any) -> None:
        """Every net's rate takes its step."""
        scheduler.step()

    def configure_gradient_clipping(
        self,
        optimizer: Any,  # noqa: ARG002  (Lightning passes it by name)
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip each net's gradient by itself."""
        for child in self.optimizers().optimizer.optimizers:  # type: ignore[union-attr]
            self.clip_gradients(child, gradient_clip_val, gradient_clip_algorithm)


def _checked(logits: Tensor, highest: int) -> Tensor:
    classes = logits.shape[-1]
    if highest < classes:
        return logits
    if logits.ndim > 2:
        raise InputError(
            f"The texts have a token numbered {highest}, but the net's vocabulary has {classes}; set "
            "data.vocabulary, of which a net is made, or choose a net of this vocabulary."
        )
    raise InputError(
        f"The images have a class numbered {highest}, but the net only has {classes} outputs; "
        "set data.classes to the number of class folders."
    )
