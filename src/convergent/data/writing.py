"""One split of a data set on its way into a store. It can be stopped or killed at any time and goes on from there.

Everything is written into STORE/.SPLIT.partial, which becomes STORE/SPLIT when it is complete. Axes: `n` images, `c` chunks.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from convergent.data.content import content_of, without_addresses
from convergent.data.opening import UNREADABLE, eight_bits
from convergent.data.pictures import name_of, unreadable
from convergent.data.store import ABOUT, MEAN, PIXELS, READABLE, TARGETS, Store
from convergent.errors import InputError
from convergent.progress import track
from convergent.storage.files import atomic, write_json

CHUNK = 256  # images that are decoded, written and counted together
_STATE_SECONDS = 10.0  # between two records of what is done


@dataclass
class Writing(Dataset[tuple[int, Any, Any, Any]]):
    """One split on its way into the store; as a data set, its items are chunks that worker processes decode and write.

    Attributes:
        dataset: of (picture, class).
        transform: of a picture to a tensor of bytes (channels, size, size).
        store: folder of all splits.
        split: "train" or "val".
        pixels: False if only the mean image is wanted.
        skip_corrupt: leave out unreadable images instead of an error.
        value_range: of pictures of more than 8 bits, see `opening.eight_bits`.
        digests: folder in which the digests of large files are remembered.
    """

    dataset: Dataset[Any]
    transform: Any
    store: Path
    split: str
    name: str
    size: int
    channels: int
    pixels: bool
    skip_corrupt: bool
    value_range: Sequence[float] | None = None
    digests: Path | None = None

    def __post_init__(self) -> None:
        self.images = len(self.dataset)  # type: ignore[arg-type]
        self.done_c: Any = np.zeros(-(-self.images // CHUNK), bool)
        self.sum_: Any = np.zeros((self.channels, self.size, self.size), np.int64)
        self.targets_n: Any = np.zeros(self.images, np.int64)
        self.readable_n: Any = np.ones(self.images, bool)

    @property
    def folder(self) -> Path:
        """Of the finished split."""
        return self.store / self.split

    @property
    def partial(self) -> Path:
        """Where it is written until it is complete."""
        return self.store / f".{self.split}.partial"

    @cached_property
    def key(self) -> str:
        """Changes with the images and how they are prepared."""
        content = content_of(self.dataset, self.digests)
        about = "\n".join([*content, str(self.images), str(self.value_range), without_addresses(repr(self.transform))])
        return hashlib.sha256(about.encode()).hexdigest()[:16]

    def finished(self, *, force: bool) -> bool:
        """Whether it is there already.

        Raises:
            InputError: if there is one of other images.
        """
        if not (self.folder / ABOUT).exists():
            return False
        if Store(str(self.folder)).about["key"] == self.key:
            return True
        if not force:
            raise InputError(
                f"{self.folder} was prepared from other images or in another way; replace it with force=true or keep both "
                "with another store=."
            )
        shutil.rmtree(self.folder)
        return False

    def run(self, processes: int) -> None:
        """Decode and write what is not there yet, and make the split whole."""
        self._resume()
        if self.pixels:
            self._reserve()
        began, before = time.monotonic(), int(self.done_c.sum())
        try:
            what = f"preparing {self.split} in chunks of {CHUNK} images"
            for _ in track(self._chunks(processes), what, len(self.done_c) - before):
                pass
        finally:
            self._keep_state()
        self._complete()
        seconds = max(time.monotonic() - began, 1e-9)
        rate = min(self.images, (len(self.done_c) - before) * CHUNK) / seconds
        skipped = f", {np.sum(~self.readable_n)} unreadable" if not self.readable_n.all() else ""
        print(f"{self.split}: {self.images:,} images{skipped} in {self.store}, {rate:,.0f} images/s", flush=True)

    def _resume(self) -> None:
        """Take up what a stopped run has left, if it was of the same images."""
        state = self.partial / "state.npz"
        try:
            with np.load(state) as saved:
                if str(saved["key"]) == f"{self.key} pixels={self.pixels}":
                    self.done_c, self.sum_ = saved["done_c"], saved["sum_"]
                    self.targets_n, self.readable_n = saved["targets_n"], saved["readable_n"]
                    images = min(int(self.done_c.sum()) * CHUNK, self.images)
                    print(f"{self.split}: going on after {images:,} images", flush=True)
                    return
        except (OSError, ValueError, KeyError, EOFError):
            pass
        shutil.rmtree(self.partial, ignore_errors=True)
        self.partial.mkdir()

    def _reserve(self) -> None:
        """Take the disk's space at once, so that it cannot run out later.

        Raises:
            InputError: if there is not enough.
        """
        needed = int(np.prod(self._shape))
        file = self.partial / PIXELS
        taken = file.stat().st_blocks * 512 if file.exists() else 0
        free = shutil.disk_usage(self.store).free
        if needed - taken > free:
            raise InputError(
                f"{self.split} takes {needed / 1e9:,.1f} GB, but {self.store} has {free / 1e9:,.1f} GB free; choose another "
                "store= or a smaller size=."
            )
        with file.open("ab") as stream:
            os.posix_fallocate(stream.fileno(), 0, needed)

    @property
    def _shape(self) -> tuple[int, ...]:
        return (self.images, self.channels, self.size, self.size)

    def _chunks(self, processes: int) -> Iterator[int]:
        """Decode and write the missing chunks, note each that is done.

        Raises:
            InputError: if the disk is full or a worker died.
        """
        missing = np.flatnonzero(~self.done_c).tolist()
        loader = DataLoader(self, batch_size=None, sampler=missing, num_workers=min(processes, len(missing)),
                            collate_fn=None)  # fmt: skip
        recorded = time.monotonic()
        try:
            for chunk, total, targets_n, readable_n in loader:
                of_chunk = slice(chunk * CHUNK, chunk * CHUNK + len(targets_n))
                self.sum_ += np.asarray(total)
                self.targets_n[of_chunk], self.readable_n[of_chunk] = np.asarray(targets_n), np.asarray(readable_n)
                self.done_c[chunk] = True
                if time.monotonic() - recorded > _STATE_SECONDS:
                    self._keep_state()
                    recorded = time.monotonic()
                yield chunk
        except InputError:
            raise
        except (OSError, RuntimeError) as error:
            last = str(error).strip().splitlines()[-1]
            raise InputError(f"Preparing stopped ({last}); the same command goes on from here.") from None

    def __len__(self) -> int:
        return len(self.done_c)

    def __getitem__(self, chunk: int) -> tuple[int, Any, Any, Any]:
        """Decode and write one chunk: its number, the sum of its pictures, classes and which were readable.

        Raises:
            InputError: if an image cannot be read and that is not allowed.
        """
        images = range(chunk * CHUNK, min((chunk + 1) * CHUNK, self.images))
        pixels = np.zeros((len(images), *self._shape[1:]), np.uint8)
        targets_n, readable_n = np.zeros(len(images), np.int64), np.ones(len(images), bool)
        for n, image in enumerate(images):
            try:
                picture, targets_n[n] = self.dataset[image]
                pixels[n] = self.transform(eight_bits(picture, self.value_range)).numpy()
            except UNREADABLE as error:
                if not self.skip_corrupt:
                    raise InputError(unreadable(name_of(self.dataset, image), error)) from None
                readable_n[n] = False
        if self.pixels:
            _write(self.partial / PIXELS, pixels, images.start * int(np.prod(self._shape[1:])))
        return chunk, pixels.sum(0, dtype=np.int64), targets_n, readable_n

    def _keep_state(self) -> None:
        state = {name: getattr(self, name) for name in ("done_c", "sum_", "targets_n", "readable_n")}
        with atomic(self.partial / "state.npz") as file, file.open("wb") as stream:
            np.savez(stream, key=f"{self.key} pixels={self.pixels}", **state)

    def _complete(self) -> None:
        """Write what goes with the pictures and give the folder its name."""
        if self.split == "train":
            mean = (self.sum_ / max(int(self.readable_n.sum()), 1)).astype(np.float32)
            with atomic(self.store / MEAN) as file, file.open("wb") as stream:
                np.save(stream, mean)
        if not self.pixels:
            shutil.rmtree(self.partial)
            return
        np.save(self.partial / TARGETS, self.targets_n)
        np.save(self.partial / READABLE, self.readable_n)
        about = {"name": self.name, "shape": list(self._shape), "key": self.key, "transform": repr(self.transform)}
        if (classes := getattr(self.dataset, "classes", None)) is not None:
            about["classes"] = [*map(str, classes)]
        write_json(self.partial / ABOUT, about)
        (self.partial / "state.npz").unlink()
        self.partial.replace(self.folder)


def _write(file: Path, pixels: Any, offset: int) -> None:
    """Write bytes at their place, down to the disk."""
    with file.open("r+b") as stream:
        stream.seek(offset)
        stream.write(pixels)
        stream.flush()
        os.fdatasync(stream.fileno())
