"""Sums wider than the memory that they may take: one pass and several, their peaks, bits and time; a plan on paper.

Each way runs in a process of its own; then one reads the pair of nets from the disk, as aligning does:

    python tests/benchmarks/wider_than_memory.py --units 8192 --memory 5e8
"""

import argparse
import filecmp
import json
import logging
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from whole_pass import peak_gb

from convergent.streaming.callback import PassCallback
from convergent.streaming.divided_pass import DividedPass, save_layer, saved_bands
from convergent.streaming.module import Nets
from convergent.streaming.reading import Reading
from convergent.streaming.saved_moments import SavedMoments
from streaming import machine

IMAGES = 2048
PAPER = 36_864


def nets_of(units: int, inputs: int) -> dict[str, nn.Module]:
    """Two nets with a layer of so many units."""
    torch.manual_seed(0)
    return {name: nn.Sequential(nn.Sequential(nn.Linear(inputs, units), nn.ReLU())).eval() for name in "ab"}


def read(units: int, memory: float | None, file: Path) -> dict:
    """Make the moments, in as many passes as the memory asks for."""
    nets, passes = Nets(nets_of(units, 64)), 0
    data = TensorDataset(torch.randn(IMAGES, 64), torch.zeros(IMAGES), torch.arange(IMAGES))
    reading = Reading(blocks=1, block_memory=1e12, memory=memory or 1e12)
    before, start = peak_gb(), time.process_time()
    while not file.exists():
        moments = SavedMoments(done={"0": saved_bands(file)[0]} if passes else {})
        callback = PassCallback(
            [moments.start(["0"], reading, None)],
            keep=lambda _number, _layer, of: save_layer(moments.save, of, file),  # noqa: B023
        )
        quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
        pl.Trainer(accelerator="cpu", callbacks=[callback], **quiet).predict(
            nets, DataLoader(data, 256), return_predictions=False
        )
        passes += 1
    seconds = time.process_time() - start
    return {"passes": passes, "gb": peak_gb() - before, "cpu_s": seconds, "disk_gb": file.stat().st_size / 1e9}


def aligned(file: Path) -> dict:
    """Read the pair of nets as an alignment does."""
    before, start = peak_gb(), time.process_time()
    pair = SavedMoments().load(file, "0", ["a", "b"]).pair("a", "b")
    return {
        "gb": peak_gb() - before,
        "cpu_s": time.process_time() - start,
        "record_gb": pair.moments.scatter_uu.nbytes / 1e9,
    }


def on_paper(memory: float) -> dict:
    """What a size on paper would take."""
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logging.getLogger("convergent").addHandler(handler)
    logging.getLogger("convergent").setLevel(logging.INFO)
    nets, reading = nets_of(PAPER, 2), Reading(blocks=1, block_memory=1e12, memory=memory)
    with torch.no_grad():
        DividedPass(nets, ["0"], 50_000, dict.fromkeys(nets, torch.randn(32, 2)), reading, None, done={})
    return {"units": PAPER, "images": 50_000, "plan": messages[0]}


def main() -> None:
    """Measure the ways one after another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=8192)
    parser.add_argument("--memory", type=float, default=5e8)
    parser.add_argument("--way", choices=["one", "several", "pair", "paper"])
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    if options.way:
        file = {way: options.folder / f"{way}.safetensors" for way in ("one", "several")}
        result = {
            "one": lambda: read(options.units, None, file["one"]),
            "several": lambda: read(options.units, options.memory, file["several"]),
            "pair": lambda: aligned(file["several"]),
            "paper": lambda: on_paper(16e9),
        }[options.way]()
        print(json.dumps({"way": options.way} | result), flush=True)
        return
    print(json.dumps(machine() | {"units": options.units, "memory": options.memory, "images": IMAGES}), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for way in ("one", "several", "pair", "paper"):
            settings = ["--units", str(options.units), "--memory", str(options.memory), "--folder", folder]
            subprocess.run([sys.executable, __file__, "--way", way, *settings], check=True)
        same = filecmp.cmp(Path(folder) / "one.safetensors", Path(folder) / "several.safetensors", shallow=False)
    print(json.dumps({"way": "comparison", "same_bits": same}), flush=True)


if __name__ == "__main__":
    main()
