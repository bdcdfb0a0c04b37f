"""The one signal handler of a training: what SLURM sends before it stops a job becomes a checkpoint and a new start."""

import os
import signal
import subprocess
import sys
import threading
from types import FrameType
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from convergent.training.checkpoints import KeepCheckpoints

_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM)


class Requeued(Exception):
    """The job stops here, and SLURM starts it again."""


class Requeue(Callback):
    """When SLURM warns that a job is about to end, saves a checkpoint and asks SLURM to start the job again.

    The handler only notes the signal; the next step is finished first, all processes agree on it, and one of them asks.
    Lightning's own handlers are replaced, so that only one thing happens. Outside SLURM nothing changes.
    """

    def __init__(self) -> None:
        self.asked = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Take the signals over from whoever has them."""
        if "SLURM_JOB_ID" in os.environ and threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                signal.signal(number, self._note)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Save and ask, if a signal came.

        Raises:
            Requeued: then.
        """
        if "SLURM_JOB_ID" not in os.environ or trainer.is_last_batch:  # the epoch is finished first
            return
        if not trainer.strategy.reduce_boolean_decision(self.asked, all=False):
            return
        next(c for c in trainer.callbacks if isinstance(c, KeepCheckpoints)).save(trainer)  # type: ignore[attr-defined]
        if trainer.is_global_zero:
            print("SLURM is about to stop this job; saved, it goes on from here", flush=True)
            subprocess.run(["scontrol", "requeue", job_id()], check=False)
        trainer.strategy.barrier()
        raise Requeued


def job_id() -> str:
    """Of this job as scontrol takes it: that of an array's task where there is one."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ["SLURM_JOB_ID"]


def leave() -> None:
    """End this process at once, leaving no result: whoever waits for one is to wait for the job that is started again."""
    sys.stdout.flush()
    os._exit(0)
