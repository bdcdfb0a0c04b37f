"""Pictures decoded once: a memory-mapped array of bytes.

Axes: `n` images; pixels are (n, channels, height, width), one byte each. `src/prepare.py` writes a store.
"""

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors

from convergent.data.content import digest_of, sample_of
from convergent.data.opening import first_line
from convergent.errors import InputError
from convergent.options import TEXT

PIXELS, TARGETS, READABLE, ABOUT, MEAN = "pixels.u8", "targets.npy", "readable.npy", "about.json", "mean.npy"

_SAMPLE = 256  # pictures whose bytes are part of what identifies a store


class Store(Dataset[tuple[Any, int]]):
    """A data set of (picture, class) whose pictures lie in one memory-mapped array, as `src/prepare.py` writes it.

    Raises:
        FileNotFoundError: if there is none, or it is not complete.
    """

    def __init__(self, folder: Annotated[str, TEXT]) -> None:
        self.folder = Path(folder)
        if not (self.folder / ABOUT).exists():
            raise FileNotFoundError(f"{folder} is no complete store; make it with: python src/prepare.py")
        try:
            self.about: dict[str, Any] = json.loads((self.folder / ABOUT).read_text())
            self.shape = tuple(map(int, self.about["shape"]))
            self.targets: list[int] = np.load(self.folder / TARGETS).tolist()
            self.readable_n = np.load(self.folder / READABLE)
        except (OSError, ValueError, TypeError, KeyError, EOFError) as error:
            raise FileNotFoundError(f"{folder} is damaged ({first_line(error)}); prepare it again") from None
        if not len(self.targets) == len(self.readable_n) == self.shape[0]:
            raise FileNotFoundError(f"{folder} is damaged: its files are not of as many images; prepare it again")
        written = (self.folder / PIXELS).stat().st_size
        if written != np.prod(self.shape):
            raise FileNotFoundError(
                f"{self.folder / PIXELS} has {written} bytes instead of {np.prod(self.shape)}; prepare it again"
            )

    @property
    def classes(self) -> list[str] | None:
        """The names of the classes, where the data set that this was made of has any."""
        return self.about.get("classes")

    @cached_property
    def pixels(self) -> Any:
        """The array (n, channels, height, width)."""
        return np.memmap(self.folder / PIXELS, np.uint8, "r", shape=self.shape)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "pixels"}  # each process maps it anew

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, image: int) -> tuple[Any, int]:
        if not self.readable_n[image]:
            raise OSError("when it was prepared")
        return tv_tensors.Image(torch.from_numpy(np.array(self.pixels[image]))), self.targets[image]

    def content(self) -> list[str]:
        """What identifies the pictures: what they were made of, and the bytes of a sample of them."""
        sample = sample_of(len(self), _SAMPLE)
        targets, readable = np.array(self.targets), np.asarray(self.readable_n)
        return [str(self.about["key"]), digest_of([targets, readable, *(self.pixels[image] for image in sample)])]

    def __repr__(self) -> str:
        return f"Store({self.about['name']}, {self.shape}, key={self.about['key']})"


class SubtractMean:
    """Subtracts the mean image of a data set, in 0..255 as `src/prepare.py` writes it, before pictures are cropped.

    Gives floats around 0.

    Source: Caffe's `transform_param: mean_file`, which subtracts the same part of the mean image that is cropped.
    """

    def __init__(self, file: Annotated[str, TEXT]) -> None:
        self.file = Path(file)

    @cached_property
    def mean(self) -> Tensor:
        """The mean image.

        Raises:
            InputError: if it cannot be read.
        """
        make = "make it with: python src/prepare.py pixels=false"
        if not self.file.exists():
            raise InputError(f"There is no mean image {self.file}; {make}")
        try:
            return torch.as_tensor(np.load(self.file))
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"The mean image {self.file} cannot be read ({first_line(error)}); {make}") from None

    def __call__(self, picture: Tensor) -> Any:
        """Subtract from a picture of bytes (channels, height, width)."""
        return tv_tensors.Image((picture.to(torch.float32) - self.mean) / 255)

    def __repr__(self) -> str:
        content = hashlib.sha256(self.file.read_bytes()).hexdigest()[:16] if self.file.exists() else self.file
        return f"SubtractMean({content})"
