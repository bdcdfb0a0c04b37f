"""Images per second of training: of the reader alone, of nets on a batch that is there, and of `fit`, which needs both.

The nets, recipe and reader are those of an experiment, on pictures of random bytes in a store. On a processor a quarter of
the paper's width, one thread and process CPU time, so that the parts add up; on GPUs wall time, so that they overlap. Lines
of JSON, of the first process:

    python tests/benchmarks/training.py
    python tests/benchmarks/training.py --gpus 2    # by DDP
"""

import argparse
import json
import os
import tempfile
import time
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from lightning_fabric.utilities.apply_func import move_data_to_device
from omegaconf import DictConfig

from convergent.cli.place import register_root
from convergent.cli.processes import first_process, leave_group
from convergent.cli.train import build_data, prepare
from convergent.cli.train_job import TrainJob
from convergent.data.store import ABOUT, MEAN, PIXELS, READABLE, TARGETS, Store
from convergent.training.checkpoints import Checkpoints
from streaming import machine

PROJECT = Path(__file__).parents[2]
ON_PROCESSOR = (
    "+net.module.width=0.25",
    "data.batch_size=32",
    "data.workers=0",
    "precision=32-true",
    "channels_last=false",
)

PAPER = ("precision=32-true", "channels_last=false", "data.batch_size=256")


class Cycled(Store):
    """A store whose pictures come again and again, so that an epoch is long enough to be timed."""

    def __init__(self, folder: str, times: int) -> None:
        super().__init__(folder)
        self.there = self.shape[0]
        self.shape = (self.there * times, *self.shape[1:])
        self.targets, self.readable_n = self.targets * times, np.tile(self.readable_n, times)

    @cached_property
    def pixels(self) -> Any:
        """The array, of which an image beyond the last is one of the first."""
        array = np.memmap(self.folder / PIXELS, np.uint8, "r", shape=(self.there, *self.shape[1:]))

        class Again:
            def __getitem__(self, image: int) -> Any:
                return array[image % len(array)]

        return Again()


def write_store(folder: Path, images: int, classes: int = 1000, size: int = 256) -> Path:
    """Random pictures in a store's two splits, and a mean image."""
    rng, shape = np.random.default_rng(0), (images, 3, size, size)
    for split in ("train", "val"):
        part = folder / split
        part.mkdir(parents=True)
        rng.integers(0, 256, shape, np.uint8).tofile(part / PIXELS)
        np.save(part / TARGETS, np.arange(images) % classes)
        np.save(part / READABLE, np.ones(images, bool))
        (part / ABOUT).write_text(json.dumps({"name": "random", "shape": shape, "key": f"random {shape}"}))
    np.save(folder / MEAN, np.full(shape[1:], 128, np.float32))
    return folder


def configured(store: Path, nets: int, steps: int, *overrides: str) -> DictConfig:
    """The configuration of experiment=paper_fast for a training of so many steps of so many nets."""
    given = [
        "experiment=paper_fast", f"root={store.parent}", f"data.store={store}", "epochs=1", f"seeds={[*range(nets)]}",
        "data.sources.train._target_=training.Cycled", "+data.sources.train.times=10000",
        f"+trainer.limit_train_batches={steps}", "+trainer.limit_val_batches=0", "snapshot_minutes=1000", *overrides,
    ]  # fmt: skip
    GlobalHydra.instance().clear()
    register_root()
    with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
        return compose("train", given)


class Clock(pl.Callback):
    """Seconds of a training from the end of step `warm` to that of its last step."""

    def __init__(self, warm: int, last: int) -> None:
        self.marks = {warm: 0.0, last: 0.0}

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Look at the clock."""
        if trainer.global_step in self.marks:
            self.marks[trainer.global_step] = now(trainer.strategy.root_device)

    @property
    def seconds(self) -> float:
        """Between the two marks."""
        first, last = self.marks.values()
        return last - first


def now(device: torch.device) -> float:
    """Wall time when the GPU has done all, or the processor's own time."""
    if device.type != "cuda":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def read(config: DictConfig, device: torch.device, warm: int, last: int) -> float:
    """Images per second of the reader alone, up to normalised crops on the device for every net."""
    data = build_data(config, augment_seed=[*config.seeds])
    for step, batch in enumerate(data.train_dataloader(), 1):
        data.on_after_batch_transfer(move_data_to_device(batch, device), 0)
        if step == warm:
            began = now(device)
        if step == last:
            return (last - warm) * config.data.batch_size / (now(device) - began)
    raise AssertionError("the epoch is too short")


def fitted(config: DictConfig, warm: int, last: int) -> tuple[float, float]:
    """Images per second of `fit`, and of its nets' steps alone on a batch that is there; each net sees all of these."""
    job = TrainJob.of(config)
    for run in job.runs:
        run.folder.mkdir(parents=True, exist_ok=True)
    classifier, data, trainer = prepare(job, Checkpoints(job.runs))
    trainer.callbacks.append(clock := Clock(warm, last))
    trainer.fit(classifier, data)
    device = trainer.strategy.root_device
    images = config.data.batch_size // trainer.world_size
    x = torch.randn(images, 3, config.data.size, config.data.size, device=device)
    target = torch.arange(images, device=device) % config.data.classes
    classifier.to(device).train()
    made = classifier.optimizers_of(last)
    optimizer = made["optimizer"] if isinstance(made, dict) else made
    for step in range(last):
        if step == warm:
            began = now(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16-mixed"):
            losses = [learner.loss(x, target, step, 0, int(config.data.classes) - 1) for learner in classifier.learners]
        torch.stack(losses).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    alone = (last - warm) * config.data.batch_size / (now(device) - began)
    return (last - warm) * config.data.batch_size / clock.seconds, alone


def measured(store: Path, nets: int, warm: int, last: int, *overrides: str) -> dict[str, Any]:
    """The three rates for so many nets on one stream."""
    config = configured(store, nets, last, *overrides)
    fit, step = fitted(config, warm, last)
    device = torch.device("cuda" if torch.cuda.is_available() and config.trainer.accelerator != "cpu" else "cpu")
    reader = read(config, device, warm, last)
    about = {"nets": nets, "batch": config.data.batch_size, "width": config.net.module.get("width", 1.0)}
    about |= {"precision": config.precision, "channels_last": config.channels_last, "compile": config.compile}
    about |= {"workers": config.data.workers, "devices": config.trainer.devices, "device": device.type}
    return {"way": "training", **about, "reader": reader, "step": step, "fit": fit}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, default=0)
    given = parser.parse_args()
    cores = os.cpu_count() or 1
    ways: list[tuple[int, tuple[str, ...]]] = [(1, ()), (4, ()), (1, ("compile=true",))]
    warm, last, settings, images = 2, 8, (*ON_PROCESSOR, "trainer=cpu"), 64
    if given.gpus:
        warm, last, images = 20, 80, 4096
        settings = (f"data.workers={min(16, max(1, cores // given.gpus - 1))}", "trainer=gpu")
        if given.gpus == 1:  # the paper's own recipe too, see costs.py
            ways += [(4, ("compile=true",)), (1, PAPER)]
        else:
            settings = (*settings, "trainer=ddp", f"trainer.devices={given.gpus}")
    else:
        torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        store = write_store(Path(place) / "store", images)
        if first_process():
            print(json.dumps(machine()), flush=True)
        for nets, more in ways:
            record = measured(store, nets, warm, last, *settings, *more)
            if first_process():
                print(json.dumps(record), flush=True)
        leave_group()


if __name__ == "__main__":
    main()
