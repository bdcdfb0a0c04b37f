"""Progress of Lightning's loops: a bar that moves on a terminal, and in a log a line per epoch or minute at most."""

import logging
import sys
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, RichProgressBar

from convergent.progress import Pace, silenced

log = logging.getLogger(__name__)


def progress() -> Callback:
    """What shows the progress here."""
    return RichProgressBar() if sys.stdout.isatty() and not silenced() else Lines()


class Lines(Callback):
    """Logs a line after an epoch, or after a minute in a longer one or in a pass, from the first process only."""

    def __init__(self) -> None:
        self._pace, self._within = Pace(), Pace()

    def on_train_epoch_start(self, *_: Any) -> None:
        """Begin to count within the epoch."""
        self._within = Pace()

    def on_train_batch_end(self, trainer: pl.Trainer, _module: Any, _outputs: Any, _batch: Any, batch_idx: int) -> None:
        """A line in long epochs."""
        if trainer.is_global_zero and self._within.due():
            log.info("%s, batch %d of %d", _epoch(trainer), batch_idx + 1, trainer.num_training_batches)

    def on_train_epoch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """A line after an epoch, with what the validation gave."""
        if trainer.is_global_zero and self._pace.due():
            measured = [f"{name} {value:.4f}" for name, value in sorted(trainer.callback_metrics.items())]
            log.info(", ".join([_epoch(trainer), *measured]))

    def on_predict_batch_end(
        self, trainer: pl.Trainer, _module: Any, _outputs: Any, _batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """A line in long passes."""
        if trainer.is_global_zero and self._pace.due():
            noun = getattr(getattr(trainer, "datamodule", None), "noun", "images")
            log.info("reading %s, batch %d of %d", noun, batch_idx + 1, trainer.num_predict_batches[0])


def _epoch(trainer: pl.Trainer) -> str:
    return f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}"
