"""The whole statistics pass through `trainer.predict`, start, finish and saving included, over the bare forward pass.

CaffeNet, all layers, two nets, 64 blocks, nulls off; one thread, process CPU time. In every step a copy of the nets runs
bare on the same batch, so both ways share the machine's moods; all that is not that copy's is the pass's:

    python tests/benchmarks/whole_pass.py --images 512 4096
"""

import argparse
import json
import logging
import os
import sys
import tempfile
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from copy import deepcopy
from multiprocessing import get_context
from pathlib import Path

import pytorch_lightning as pl
import torch
from statistics_pass import forward
from torch.utils.data import DataLoader, Dataset

from convergent.data.order import BlockOrder, Draw
from convergent.nets.caffenet import CaffeNet
from convergent.storage.files import atomic
from convergent.streaming.callback import PassCallback
from convergent.streaming.module import Nets
from convergent.streaming.reading import Reading
from convergent.streaming.saved_moments import SavedMoments
from streaming import machine

LAYERS = [*(f"conv{i}" for i in range(1, 6)), "fc6", "fc7", "fc8"]
BATCH = 64


class Synthetic(Dataset):
    """So many images, a few over and over."""

    def __init__(self, images: int) -> None:
        self.images, self.x = images, torch.randn(BATCH, 3, 227, 227)

    def __len__(self) -> int:
        return self.images

    def __getitem__(self, draw: Draw | int) -> tuple[torch.Tensor, int, int]:
        image = draw if isinstance(draw, int) else draw.image
        return self.x[image % BATCH], 0, image


class WithBare(Nets):
    """Nets, and a copy of them that nobody looks at."""

    bare_s = bare_system_s = began = 0.0

    def predict_step(self, batch: list, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Run the copy, then the nets."""
        start, system = time.process_time(), os.times().system
        forward(self.copies, batch[0])
        self.bare_s += time.process_time() - start
        self.bare_system_s += os.times().system - system
        super().predict_step(batch, batch_idx, dataloader_idx)
        if batch_idx % 8 == 7:
            print(
                f"after {batch_idx + 1} batches {(time.process_time() - self.began) / self.bare_s - 1:.3f}",
                file=sys.stderr,
            )


class Timed(PassCallback):
    """The pass with the seconds of its ends."""

    start_s = finish_s = 0.0
    gb_before_the_end = 0.0

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Time the calibration."""
        start = time.process_time()
        super().on_predict_start(trainer, pl_module)
        self.start_s = time.process_time() - start

    def on_predict_end(self, trainer: pl.Trainer, *rest: object) -> None:
        """Time what is not saving, which has a thread of its own."""
        self.gb_before_the_end, start = peak_gb(), time.thread_time()
        super().on_predict_end(trainer, *rest)
        self.finish_s = time.thread_time() - start


def peak_gb() -> float:
    """Most memory that this process had."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1e6


def measured(images: int) -> dict:
    """One pass, in a process of its own: its peak is not to hold what another left."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    torch.manual_seed(0)
    nets = WithBare({f"net{i}": CaffeNet().eval() for i in range(2)})
    object.__setattr__(nets, "copies", deepcopy(nets.nets))
    loader = DataLoader(Synthetic(images), batch_sampler=BlockOrder(images, 64, BATCH))  # as the commands read
    with torch.inference_mode():
        forward(nets.copies, loader.dataset.x)  # warms up
    save_s, sums = [], []
    with tempfile.TemporaryDirectory() as folder:

        def save(layer: str, moments: object) -> None:
            start = time.thread_time()
            sums.append(sum(s_kab.nbytes for s_kab in moments.scatter.values()))
            with atomic(Path(folder) / layer) as file:
                SavedMoments().save(moments, file)
            save_s.append(time.thread_time() - start)

        writer = ThreadPoolExecutor(1)
        callback = Timed(
            [SavedMoments().start(LAYERS, Reading(), None)], keep=lambda _, *rest: writer.submit(save, *rest)
        )
        trainer = pl.Trainer(
            accelerator="cpu", callbacks=[callback], logger=False, enable_progress_bar=False, enable_checkpointing=False
        )
        nets.began, system = time.process_time(), os.times().system
        with writer:
            trainer.predict(nets, loader, return_predictions=False)
        whole = time.process_time() - nets.began - nets.bare_s
        system = os.times().system - system - 2 * nets.bare_system_s  # what the nets themselves take is no part of it
        disk = sum(file.stat().st_size for file in Path(folder).iterdir()) / 1e9
    return {
        "images": images, "bare_s": nets.bare_s, "ratio": whole / nets.bare_s, "system_s": system,
        "start_s": callback.start_s, "finish_s": callback.finish_s, "save_s": sum(save_s),
        "gb": sum(sums) / 1e9, "disk_gb": disk,
        "gb_before_the_end": callback.gb_before_the_end, "gb_at_the_end": peak_gb(),
    }  # fmt: skip


def main() -> None:
    """Measure the numbers of images on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[512, 4096])
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(json.dumps(machine() | {"load": os.getloadavg()[0], "cores": os.cpu_count()}), flush=True)
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as apart:
        for images in options.images:
            for _ in range(options.rounds):
                print(json.dumps(apart.submit(measured, images).result()), flush=True)


if __name__ == "__main__":
    main()
