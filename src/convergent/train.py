"""Trains one net into its run folder."""

from __future__ import annotations

import contextlib
import inspect
import logging
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import pytorch_lightning as pl
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import Callback, ModelCheckpoint, RichProgressBar

from convergent.classifier import Classifier
from convergent.dashboard import log_run, start_logger
from convergent.data.images import ImageData
from convergent.errors import InputError
from convergent.jobs import TrainJob
from convergent.runs import Run, build

logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # importing it sets INFO


def train(job: TrainJob) -> None:
    """Train the net of one seed into its folder, from the start or from where a killed training stopped.

    Raises:
        InputError: for whatever the user can mend.
        KeyboardInterrupt: if the user stops it; the last finished epoch is kept.
    """
    config, run = job.config, job.run
    try:
        classifier, data, trainer = _prepared(job)
        trainer.logger = start_logger(config.logger, config, run.folder, config.name, run.name, "train")
        checkpoint = str(run.checkpoint) if run.checkpoint.exists() else None
        with stoppable():
            trainer.fit(classifier, data, ckpt_path=checkpoint, weights_only=True)
    except Exception:
        job.abandon()
        raise
    if config.epochs == 0:
        trainer.validate(classifier, data, verbose=False)
    if trainer.is_global_zero:
        metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
        (run.folder / "command.txt").write_text(f"{job.command}\n")
        run.finish(classifier.net, metrics)
        log_run(trainer.logger, run)
        if skipped := data.skipped():
            job.say(f"{skipped} images could not be read and were skipped")
        job.say(f"{run.told()}, in {run.folder}")


def _prepared(job: TrainJob) -> tuple[Classifier, ImageData, pl.Trainer]:
    """Everything that can be wrong with a configuration, before anything is logged."""
    config = job.config
    pl.seed_everything(config.seed, workers=True, verbose=False)
    net = build(config.net.module)
    make, schedule = instantiate(config.optimizer.optimizer), instantiate(config.optimizer.scheduler)
    classifier = Classifier(net, config.data.classes, make, schedule, config.seed)
    data = build_data(config)
    data.check()
    checkpoint = ModelCheckpoint(
        job.run.folder, filename="last", save_on_train_epoch_end=True, enable_version_counter=False
    )
    callbacks = [checkpoint, KeepEpochs(job.run, config.keep_epochs)]
    settings = {"max_epochs": config.epochs, "precision": config.precision, "logger": False}
    return classifier, data, build_trainer(config, callbacks, **settings)


class KeepEpochs(Callback):
    """Keeps the weights after some epochs of a training, as nets of their own to be compared.

    Args:
        run: where.
        epochs: after how many epochs each; 0 for before the first.
    """

    def __init__(self, run: Run, epochs: Sequence[int]) -> None:
        self.run, self.epochs = run, set(epochs)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the untrained net; a resumed training did so before."""
        if not self.run.checkpoint.exists():
            self._keep(trainer, pl_module, 0)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the net after an epoch."""
        self._keep(trainer, pl_module, trainer.current_epoch + 1)

    def _keep(self, trainer: pl.Trainer, classifier: pl.LightningModule, epoch: int) -> None:
        if epoch in self.epochs and trainer.is_global_zero:
            assert isinstance(classifier, Classifier)
            self.run.keep(classifier.net, epoch)


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Let Ctrl-C through as what it is: Lightning turns it into an exit of its own.

    Raises:
        KeyboardInterrupt: if the user stops the trainer.
    """
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None


def build_data(config: DictConfig, **changes: Any) -> ImageData:
    """The data module of a configuration of train or align, with some of its arguments changed."""
    named = [key for key in inspect.signature(ImageData).parameters if key in config.data]
    settings = {key: config.data[key] for key in named}
    taken = {
        key: instantiate(value, _convert_="all") if OmegaConf.is_config(value) else value
        for key, value in settings.items()
    }
    seeds = {key: config[key] for key in ("order_seed", "augment_seed") if key in config}
    return ImageData(**{**taken, **seeds, **changes})


def build_trainer(config: DictConfig, callbacks: list[Callback], **settings: Any) -> pl.Trainer:
    """The trainer of a configuration, with a progress bar where there is a terminal.

    Raises:
        InputError: if the machine has not what the configuration asks for.
    """
    terminal = sys.stdout.isatty()
    try:
        return instantiate(  # type: ignore[no-any-return]
            config.trainer,
            callbacks=[*callbacks, *([RichProgressBar()] if terminal else [])],
            enable_progress_bar=terminal,
            enable_model_summary=False,
            **settings,
            _convert_="object",
        )
    except Exception as error:
        cause = error.__cause__ or error
        raise InputError(f"This trainer cannot run here: {' '.join(str(cause).split())}") from None
