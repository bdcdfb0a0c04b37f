"""Images per second and core of every way to feed a net, on generated JPEGs of ImageNet's size (500 x 375, some 110 kB).

Each way ends in the same batches of floats (227 x 227, augmented, normalised) unless its name says less. One thread, no
worker processes, process CPU time, ways interleaved, medians of some rounds. Then what training reaches of a small net's own
speed on synthetic pictures, and the time of four nets on one stream over that of one. Lines of JSON:

    python tests/benchmarks/input.py
"""

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))  # before imports

import argparse
import importlib.util
import json
import statistics
import tempfile
import time
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import nn
from torchvision.transforms import v2

from convergent.data.imagenet import ImageNet
from convergent.data.images import ImageData
from convergent.data.preparation import Access, Preparation
from convergent.data.store import Store, SubtractMean
from convergent.data.writing import Writing
from convergent.nets.caffenet import CaffeNet
from convergent.training.classifier import Learner
from convergent.training.optimizers import caffe_sgd
from streaming import machine

SIZE, BATCH = 227, 32
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
SPEED, SHARE, FOUR = 10_000, 0.9, 1.3  # the targets


def tree(root: Path, images: int) -> Path:
    """Class folders of JPEGs with the details of photographs: noise whose power falls with its frequency."""
    rng = np.random.default_rng(0)
    y, x = np.meshgrid(np.fft.fftfreq(375), np.fft.fftfreq(500), indexing="ij")
    fall = 1 / (np.hypot(x, y) + 1 / 500) ** 1.2
    for split in ("train", "val"):
        for image in range(images):
            folder = root / split / f"n0000000{image % 4}"
            folder.mkdir(parents=True, exist_ok=True)
            waves = np.fft.fft2(rng.normal(size=(3, 375, 500))) * fall
            smooth = np.fft.ifft2(waves).real
            smooth = smooth / smooth.std((1, 2), keepdims=True) * 50 + 120 + rng.normal(size=(3, 375, 500)) * 10
            picture = Image.fromarray(smooth.clip(0, 255).astype(np.uint8).transpose(1, 2, 0))
            picture.save(folder / f"{image}.JPEG", quality=92)
    return root


class Repeated(Store):
    """A store of many pictures, as far as reading goes: epochs of a few would be over before they have begun."""

    TIMES = 16

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self.shape = (self.shape[0] * self.TIMES, *self.shape[1:])
        self.targets, self.readable_n = self.targets * self.TIMES, np.tile(self.readable_n, self.TIMES)

    @cached_property
    def pixels(self):
        """The pictures again and again."""
        return np.tile(
            np.fromfile(self.folder / "pixels.u8", np.uint8).reshape(-1, *self.shape[1:]), (self.TIMES, 1, 1, 1)
        )


def data_of(dataset, augment, seeds=0) -> ImageData:
    """A data module on one data set."""
    return ImageData(
        {"train": lambda: dataset, "val": lambda: dataset},
        "val",
        Preparation(augment, [v2.CenterCrop(SIZE)], MEAN, STD, 3),
        Access(BATCH),
        augment_seed=seeds,
    )


def fed(data: ImageData) -> int:
    """Read an epoch as training does; the number of pictures."""
    images = 0
    for batch in data.train_dataloader():
        x, *_ = data.on_after_batch_transfer(batch, 0)
        images += len(x[0] if isinstance(x, list) else x)
    return images


def gathered(data: ImageData) -> int:
    """Read an epoch without its last step, which is the device's."""
    return sum(len(batch[1]) for batch in data.train_dataloader())


def by_pil(files) -> int:
    for file in files:
        with Image.open(file) as picture:
            picture.convert("RGB").load()
    return len(files)


def by_torchvision(files, transform) -> int:
    for file in files:
        x = torchvision.io.decode_image(torchvision.io.read_file(file), torchvision.io.ImageReadMode.RGB)
        transform(x) if transform else x
    return len(files)


def by_webdataset(shard, transform) -> int:
    import webdataset

    pictures = webdataset.WebDataset(str(shard), shardshuffle=False).decode("pil").to_tuple("jpg")
    return sum(1 for (picture,) in pictures if transform(picture) is not None)


def packed(files, shard: Path) -> Path:
    import webdataset

    with webdataset.TarWriter(str(shard)) as writer:
        for number, file in enumerate(files):
            writer.write({"__key__": f"{number:06d}", "jpg": Path(file).read_bytes()})
    return shard


def timed(ways: dict, rounds: int) -> dict[str, float]:
    """Median images per second of each way."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            began = time.process_time()
            images = way()
            rates[name].append(images / (time.process_time() - began))
    return {name: statistics.median(of[1:]) for name, of in rates.items()}


def trained(data: ImageData, nets: int, make, synthetic=None) -> tuple[int, float]:
    """Train an epoch; the number of pictures and the seconds it took."""
    learners = [Learner(make(seed), 4, seed) for seed in range(nets)]
    optimizers = [caffe_sgd(learner.net.named_parameters(), 1e-4, 0.9, 5e-4) for learner in learners]
    images, began = 0, time.process_time()
    for batch in synthetic or data.train_dataloader():
        x, target, _ = batch if synthetic else data.on_after_batch_transfer(batch, 0)
        seen = x if isinstance(x, list) else [x] * nets
        loss = torch.stack([learner.loss(of, target, 0, 0) for learner, of in zip(learners, seen)]).sum()
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        images += len(target)
    return images, time.process_time() - began


def tiny(seed: int) -> nn.Module:
    """A net that costs next to nothing, so that the decoder is the limit."""
    torch.manual_seed(seed)
    every_eighth = nn.MaxPool2d(1, 8)
    return nn.Sequential(every_eighth, nn.Flatten(), nn.Linear(3 * 29 * 29, 32), nn.ReLU(), nn.Linear(32, 4))


def small(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return CaffeNet(classes=4, width=0.25)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        root = tree(Path(place), given.images)
        folder = ImageNet(str(root), "train", classes=4)
        files = [file for file, _ in folder.samples]
        size = statistics.mean(Path(file).stat().st_size for file in files)
        about = {"load": os.getloadavg()[0], "cores": os.cpu_count()}
        about |= {"images": given.images, "jpeg_kb": size / 1000, "torchvision": torchvision.__version__}
        print(json.dumps(machine() | about), flush=True)
        resize = v2.Compose([v2.RGB(), v2.ToImage(), v2.Resize([256, 256], antialias=True)])
        began = time.process_time()
        Writing(folder, resize, root, "store", "it", 256, 3, True, False).run(0)
        preparing = len(folder) / (time.process_time() - began)
        (root / "store").rename(root / "of-store")
        store = Repeated(str(root / "of-store"))
        mean = root / "mean.npy"
        np.save(mean, store.pixels[:].mean(0, dtype=np.float32))
        crop, flip = [v2.RandomCrop(SIZE), v2.RandomHorizontalFlip()], v2.RandomHorizontalFlip()
        modern = [v2.RandomResizedCrop(SIZE, antialias=True), flip]
        squeezed = [v2.Resize([256, 256], antialias=True), *crop]
        whole = v2.Compose([*modern, v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])
        one, four = data_of(folder, squeezed), data_of(folder, squeezed, [0, 1, 2, 3])
        bare, less = data_of(store, crop), data_of(store, [SubtractMean(str(mean)), *crop])
        ways = {
            "folder": lambda: fed(data_of(folder, modern)),
            "folder_paper": lambda: fed(one),
            "folder_four": lambda: fed(four),
            "pil_decode": lambda: by_pil(files),
            "torchvision_decode": lambda: by_torchvision(files, None),
            "torchvision": lambda: by_torchvision(files, whole),
            "store_gather": lambda: gathered(bare),
            "store": lambda: fed(bare),
            "store_mean": lambda: fed(less),
            "store_one_by_one": lambda: sum(
                1 for image in range(given.images) if whole(store[image][0]) is not None
            ),
        }  # fmt: skip
        if importlib.util.find_spec("webdataset"):
            shard = packed(files, root / "shard.tar")
            ways["webdataset"] = lambda: by_webdataset(shard, v2.Compose([v2.ToImage(), whole]))
        for name, rate in timed(ways, given.rounds).items():
            print(json.dumps({"way": name, "per_second": rate}), flush=True)
        print(json.dumps({"way": "prepare", "per_second": preparing}), flush=True)

        few = Store(str(root / "of-store"))
        batches = [[torch.randn(BATCH, 3, SIZE, SIZE), torch.arange(BATCH) % 4, None]] * (given.images // BATCH)
        shares, fours, of_few = [], [], data_of(few, crop)
        fed(of_few)  # memory is faulted in
        for _ in range(given.rounds):
            images, own = trained(of_few, 1, small, batches)
            read, fromstore = trained(of_few, 1, small)
            shares.append((own / images) / (fromstore / read))
            (_, of_one), (_, of_four) = trained(one, 1, tiny), trained(four, 4, tiny)
            fours.append(of_four / of_one)
        print(json.dumps({"way": "share", "of_net": statistics.median(shares)}), flush=True)
        print(json.dumps({"way": "four", "over_one": statistics.median(fours)}), flush=True)
    print(json.dumps({"targets": {"store per second": SPEED, "share": SHARE, "four over one": FOUR}}), flush=True)


if __name__ == "__main__":
    main()
