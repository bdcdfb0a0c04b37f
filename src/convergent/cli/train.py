"""Trains nets into their run folders: one, or several side by side on one stream of images."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.accelerators import CPUAccelerator
from pytorch_lightning.callbacks import Callback, RichProgressBar
from torch import nn

from convergent.cli.bars import progress
from convergent.cli.dashboard import log_run, start_logger
from convergent.cli.folders import abandon
from convergent.cli.processes import first_process, join_group, leave_group
from convergent.cli.train_job import TrainJob
from convergent.data.images import ImageData
from convergent.data.ordered import OrderedData
from convergent.data.text import TextData
from convergent.errors import InputError
from convergent.heartbeat import Heartbeat
from convergent.progress import took
from convergent.storage.files import atomic
from convergent.streaming.layers import resolve
from convergent.training.checkpoints import Checkpoints, KeepCheckpoints
from convergent.training.classifier import Classifier, Learner
from convergent.training.requeue import Requeue, Requeued, leave
from convergent.training.runs import Run, build

_FEW_PROCESSES = 8  # any machine may try so many on its processor; more than it has cores only wait for one another

_BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def train(job: TrainJob) -> None:
    """Train the job's nets into their folders, from the start or from where a killed training stopped.

    Raises:
        InputError: for whatever the user can mend.
        KeyboardInterrupt: if the user stops it; the last checkpoint is kept.
    """
    job, began = job.unfinished(), time.monotonic()
    config, checkpoints = job.config, Checkpoints(job.runs)
    try:
        classifier, data, trainer = prepare(job, checkpoints)
        trainer.loggers = [
            logger
            for run, of_run in zip(job.runs, job.configs)
            if (logger := start_logger(config.logger, of_run, run.folder, config.name, run.name, "train"))
        ]
        with stoppable(job.after_stop):
            trainer.fit(classifier, data, ckpt_path="last.ckpt" if checkpoints.there else None, weights_only=True)
    except Requeued:
        for logger in trainer.loggers:
            logger.finalize("requeued")
        leave()
    except Exception as error:
        for run in job.runs if first_process() else ():
            abandon(run.folder)
        if any(word in str(error) for word in ("gloo", "NCCL")):
            died = "Another process of this job died; the same command goes on from the last checkpoint."
            raise InputError(died) from None
        raise
    if "val/loss" not in classifier.latest[0]:  # no epoch was left to train
        trainer.validate(classifier, data, verbose=False)
    if first_process():
        for number, run in enumerate(job.runs):
            (run.folder / "command.txt").write_text(f"{job.command}\n")
            run.finish(classifier.learners[number].net, classifier.latest[number])  # type: ignore[arg-type]
            log_run(trainer.loggers[number] if trainer.loggers else None, run)
            job.say(f"{run.accuracies()}, in {run.folder}, {took(began)}", run, result=True)
        if skipped := data.skipped():
            job.say(f"{skipped} {data.noun} could not be read and were skipped")
    leave_group()


def prepare(job: TrainJob, checkpoints: Checkpoints) -> tuple[Classifier, OrderedData, pl.Trainer]:
    """Everything that can be wrong with a configuration, before anything is logged."""
    config, learners = job.config, []
    make, schedule = instantiate(config.optimizer.optimizer), instantiate(config.optimizer.scheduler)
    for of_run in job.configs:
        pl.seed_everything(of_run.seed, workers=True, verbose=False)
        net = build(of_run.net.module)
        resolve({of_run.net.name: net}, [*of_run.net.layers])  # what align will compare
        layouts = {"channels_last": config.channels_last, "compiled": config.compile}
        learners.append(Learner(net, config.data.get("classes"), of_run.seed, **layouts))
    augment_seeds = [of_run.augment_seed for of_run in job.configs]
    shared = len(set(augment_seeds)) == 1
    data = build_data(config, augment_seed=augment_seeds[0] if shared else augment_seeds)
    data.check()
    if isinstance(data, TextData) and first_process():
        for run in job.runs:
            with atomic(run.folder / "tokenizer.json") as partial:
                shutil.copyfile(data.corpus.tokenizer, partial)
    keep = [KeepEpochs(run, number, config.keep_epochs) for number, run in enumerate(job.runs)]
    callbacks = [*keep, Watch(), Requeue(), KeepCheckpoints(config.snapshot_minutes)]
    settings = {"max_epochs": config.epochs, "precision": config.precision, "logger": False}
    trainer = build_trainer(config, callbacks, plugins=[checkpoints], **settings)
    batch_norm = any(isinstance(part, _BATCH_NORM) for learner in learners for part in learner.modules())
    if trainer.world_size > 1 and not torch.cuda.is_available() and batch_norm and first_process():
        job.say("without GPUs each process has BatchNorm's statistics of its own part of a batch")
    classifier = Classifier(learners, make, schedule)
    classifier.optimizers_of(1000)  # of whatever length: what torch says of their options comes now
    return classifier, data, trainer


class Watch(Callback):
    """Ends the job when one of its processes dies: the others would wait for it, half an hour on GPUs."""

    def __init__(self) -> None:
        self.heartbeat = Heartbeat()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Begin to watch."""
        self.heartbeat.__enter__()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Leave in order: the first process, through which all tell that they live, goes last."""
        self.heartbeat.__exit__(None)
        trainer.strategy.barrier()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:  # noqa: ARG002
        """Leave as one that died."""
        self.heartbeat.__exit__(type(exception))


class KeepEpochs(Callback):
    """Keeps the weights of the net of a number after some epochs, 0 for before the first, as nets of their own."""

    def __init__(self, run: Run, number: int, epochs: Sequence[int]) -> None:
        self.run, self.number, self.epochs = run, number, set(epochs)

    @property
    def state_key(self) -> str:
        """Lightning wants to tell them apart."""
        return f"KeepEpochs {self.number}"

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
            self.run.keep(classifier.learners[self.number].net, epoch)  # type: ignore[arg-type]


@contextlib.contextmanager
def stoppable(after_stop: Callable[[], str]) -> Iterator[None]:
    """Let Ctrl-C through as what it is, with what it leaves: Lightning turns it into an exit of its own.

    Raises:
        KeyboardInterrupt: if the user stops the trainer.
    """
    try:
        yield
    except (SystemExit, KeyboardInterrupt):
        raise KeyboardInterrupt(after_stop()) from None


def build_data(config: DictConfig, **changes: Any) -> ImageData | TextData:
    """The data module of a configuration of train or align, with some of its arguments changed."""
    kind: type[ImageData | TextData] = TextData if "context" in config.data else ImageData
    taken = {key: config.data[key] for key in kind.settings() if key in config.data}
    made = {key: instantiate(value, _convert_="all") for key, value in taken.items() if OmegaConf.is_config(value)}
    seeds = {key: config[key] for key in ("order_seed", "augment_seed") if key in config}
    kept = Path(config.root) / "outputs" if "root" in config else None
    given = {**taken, **made, **seeds, **changes}
    if kind is TextData:
        given.pop("augment_seed", None)
        return TextData(**{"kept_in": (kept or Path("outputs")) / "data" / "tokens", **given})
    return ImageData.of({**given, "digests": kept / "digests" if kept else None})


def build_trainer(config: DictConfig, callbacks: list[Callback], **settings: Any) -> pl.Trainer:
    """The trainer of a configuration, which shows its progress; processes that were started together become its group.

    Raises:
        InputError: if the machine has not what the configuration asks for.
    """
    bar = progress()
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # importing it sets INFO
    if not torch.cuda.is_available():  # torch has no synchronised BatchNorm on processors
        settings = {"sync_batchnorm": False, **settings}
    try:
        trainer: pl.Trainer = instantiate(
            config.trainer,
            callbacks=[*callbacks, bar],
            enable_progress_bar=isinstance(bar, RichProgressBar),
            enable_model_summary=False,
            **settings,
            _convert_="object",
        )
    except Exception as error:
        cause = " ".join(str(error.__cause__ or error).split())
        raise InputError(f"This trainer cannot run here: {cause}") from None
    most = max(os.cpu_count() or 1, _FEW_PROCESSES)
    if isinstance(trainer.accelerator, CPUAccelerator) and trainer.num_devices > most:
        raise InputError(
            f"trainer.devices is the number of processes, at most {most} on this processor, not {trainer.num_devices}."
        )
    join_group(trainer.strategy.root_device, trainer.world_size)
    return trainer
