"""What a training resumes from: one checkpoint per net, each as if the net were trained alone, whole at any moment."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins.io import CheckpointIO

from convergent.errors import InputError
from convergent.training.classifier import Classifier
from convergent.training.runs import Run

_LOOK = 10  # steps between two looks at the clock, which the processes have to agree on
_STATES = ("optimizer_states", "lr_schedulers")  # of a checkpoint, by net


class Checkpoints(CheckpointIO):
    """Lightning's checkpoint of nets that learn side by side, split into a file for each net's run folder.

    First every net's next.ckpt is written, then all are renamed to last.ckpt. Whatever the moment at which a job is killed,
    either all last.ckpt are of one step, or those that are older have a whole next.ckpt beside them.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = list(runs)

    @property
    def there(self) -> bool:
        """Whether there is something to resume from."""
        return any(run.checkpoint.exists() for run in self.runs)

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:  # noqa: ARG002
        """Write every net's part.

        Raises:
            InputError: if the disk is full or otherwise not to be written to.
        """
        try:
            for number, run in enumerate(self.runs):
                with _next(run).open("wb") as file:
                    torch.save(_part(checkpoint, number), file)
                    file.flush()
                    os.fsync(file.fileno())
        except (OSError, RuntimeError) as error:
            for run in self.runs:
                _next(run).unlink(missing_ok=True)
            raise InputError(
                f"A checkpoint cannot be written to {self.runs[0].folder.parent} ({str(error).splitlines()[0]}); make room, "
                "then the same command goes on from the one before."
            ) from None
        for run in self.runs:
            _next(run).replace(run.checkpoint)

    def load_checkpoint(self, *_: Any, **__: Any) -> dict[str, Any]:
        """The nets' latest common checkpoint.

        Raises:
            InputError: if there is none.
        """
        saved = [_saved(run) for run in self.runs]
        if broken := [run.checkpoint for run, of in zip(self.runs, saved) if run.checkpoint.exists() and not of]:
            raise InputError(f"{broken[0]} cannot be read; start over with force=true.")
        common = set(saved[0]).intersection(*saved[1:])
        if not common:
            steps = ", ".join(f"{run.name} at {max(of, default=0)}" for run, of in zip(self.runs, saved))
            raise InputError(
                f"These nets have no checkpoint of the same step ({steps}); go on with each alone, as -m seed=..., or start "
                "over with force=true."
            )
        step = max(common)
        return _joined([torch.load(of[step], map_location="cpu", weights_only=True) for of in saved])

    def remove_checkpoint(self, path: Any) -> None:
        """Nothing: the next checkpoint replaces the last."""


class KeepCheckpoints(Checkpoint):
    """Saves after every epoch, and within epochs every so many minutes."""

    def __init__(self, minutes: float) -> None:
        self.minutes, self.saved = minutes, time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Save if it is time; the last step of an epoch is the epoch's."""
        if trainer.global_step % _LOOK or trainer.is_last_batch:
            return
        due = time.monotonic() - self.saved >= 60 * self.minutes
        if trainer.strategy.reduce_boolean_decision(due, all=False):
            self.save(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Save the epoch."""
        self.save(trainer)

    def save(self, trainer: pl.Trainer) -> None:
        """Save now, unless what is to be saved is lost.

        Raises:
            InputError: if losses or weights are not finite: the checkpoint before is the one to go on from.
        """
        if isinstance(trainer.lightning_module, Classifier):
            trainer.lightning_module.ensure_finite()
        trainer.save_checkpoint("last.ckpt", weights_only=False)
        self.saved = time.monotonic()


def _next(run: Run) -> Path:
    return run.folder / "next.ckpt"


def _saved(run: Run) -> dict[int, Path]:
    """The readable checkpoints of a run, by step."""
    files = {}
    for file in (run.checkpoint, _next(run)):
        try:
            files[int(torch.load(file, map_location="cpu", weights_only=True, mmap=True)["global_step"])] = file
        except Exception:  # there is none, or it is damaged
            continue
    return files


def _part(checkpoint: dict[str, Any], number: int) -> dict[str, Any]:
    """The checkpoint of one net."""
    head = f"learners.{number}."
    weights = {name[len(head) :]: x for name, x in checkpoint["state_dict"].items() if name.startswith(head)}
    states = {key: [of["nets"][number] for of in checkpoint[key]] for key in _STATES}
    return {**checkpoint, "state_dict": weights, **states}


def _joined(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The checkpoint of all nets from those of each."""
    weights = {f"learners.{n}.{name}": x for n, part in enumerate(parts) for name, x in part["state_dict"].items()}
    together = {key: [{"nets": list(of)} for of in zip(*(part[key] for part in parts))] for key in _STATES}
    return {**parts[0], "state_dict": weights, **together}
