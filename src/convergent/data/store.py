"""Pictures decoded once: a memory-mapped array of bytes from which batches of crops are copied, without any decoding.

Axes: `n` images, `c` channels; pixels are (n, channels, height, width), one byte each. `src/prepare.py` writes a store.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info
from torchvision import tv_tensors
from torchvision.transforms import v2

from convergent.data.content import digest_of, sample_of
from convergent.data.opening import first_line
from convergent.data.order import Draw
from convergent.errors import InputError
from convergent.options import TEXT

PIXELS, TARGETS, READABLE, ABOUT, MEAN = "pixels.u8", "targets.npy", "readable.npy", "about.json", "mean.npy"

_SAMPLE = 256  # pictures whose bytes are part of what identifies a store


class Store(Dataset[tuple[Any, int]]):
    """A data set of (picture, class) whose pictures lie in one memory-mapped array.

    Args:
        folder: that `src/prepare.py` has written.

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
    """Subtracts the mean image of a data set from pictures of its size, before they are cropped; gives floats around 0.

    Args:
        file: of the mean image (channels, height, width) in 0..255, as `src/prepare.py` writes it.

    Source: Caffe's `transform_param: mean_file`, which subtracts the same part of the mean image that is cropped.
    """

    def __init__(self, file: Annotated[str, TEXT]) -> None:
        self.file = Path(file)

    @cached_property
    def mean(self) -> Tensor:
        """The mean image.

        Raises:
            InputError: if there is none.
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


class Crops(NamedTuple):
    """A batch of crops as bytes; the device they are sent to mirrors and normalises them.

    Attributes:
        pixels: (n, channels, height, width), bytes.
        where_nc: (n, 3): first row, first column, and 1 if to be mirrored.
    """

    pixels: Tensor
    where_nc: Tensor


class Plan(NamedTuple):
    """What is to be done with a picture when that can be done with batches of bytes: crop, mirror, normalise.

    Attributes:
        before: what every picture goes through first, until all have one size; None where there is nothing to do.
        size: of the crops.
        random: where they lie; else in the middle.
        mirror: chance of being mirrored.
    """

    before: Callable[[Any], Any] | None
    size: Sequence[int]
    random: bool
    mirror: float


def plan_of(transform: Any, store: Store | None = None) -> Plan | None:
    """The plan that does what a `v2.Compose` does; None if it does something else than resize, crop and mirror bytes.

    Args:
        transform: that ends in a crop, or a crop and a mirror.
        store: whose pictures go through it, if they come from one.
    """
    steps = [step for step in transform.transforms if not isinstance(step, SubtractMean)]
    before = list(takewhile(lambda step: isinstance(step, v2.RGB | v2.Grayscale | v2.ToImage | v2.Resize), steps))
    crop, mirror = (*steps[len(before) :], None, None)[:2]
    random = isinstance(crop, v2.RandomCrop) and crop.padding is None and not crop.pad_if_needed
    if len(steps) > len(before) + 2 or not (random or isinstance(crop, v2.CenterCrop)):
        return None
    if mirror is not None and not isinstance(mirror, v2.RandomHorizontalFlip):
        return None
    sizes = [list(step.size or ()) for step in before if isinstance(step, v2.Resize)]
    stored = list(store.shape[2:]) if store else []
    size = sizes[-1] if sizes else stored
    if len(size) != 2 or any(has < wants for has, wants in zip(size, crop.size)):
        return None
    grey = any(isinstance(step, v2.Grayscale) for step in before)
    nothing = store is not None and all(of == stored for of in sizes) and grey == (store.shape[1] == 1)
    return Plan(None if nothing else v2.Compose(before), tuple(crop.size), random, mirror.p if mirror else 0.0)


def gathered(pictures: Sequence[Any], draws: Sequence[Draw], plan: Plan) -> Any:
    """Crops of pictures (channels, height, width), those that the transforms of the plan would make of the same seeds.

    Returns:
        `Crops`, or a list of them where draws have several seeds.
    """
    views = [_cropped(pictures, draws, plan, number) for number in range(max(1, len(draws[0].seeds)))]
    return views[0] if len(views) == 1 else views


def _cropped(pictures: Sequence[Any], draws: Sequence[Draw], plan: Plan, number: int) -> Crops:
    """The crops that one net sees."""
    channels, height, width = pictures[0].shape
    (h, w), generator = plan.size, torch.Generator()
    pixels = _bytes((len(draws), channels, h, w))
    out, where_nc = pixels.numpy(), np.zeros((len(draws), 3), np.int64)
    for n, (picture, draw) in enumerate(zip(pictures, draws)):
        top, left, mirrored = round((height - h) / 2), round((width - w) / 2), False
        if draw.seeds:
            generator.manual_seed(draw.seeds[number])
            if plan.random:  # drawn as v2.RandomCrop and v2.RandomHorizontalFlip draw
                top = int(torch.randint(0, height - h + 1, (), generator=generator)) if height > h else 0
                left = int(torch.randint(0, width - w + 1, (), generator=generator)) if width > w else 0
            mirrored = plan.mirror > 0 and bool(torch.rand(1, generator=generator) < plan.mirror)
        out[n] = picture[:, top : top + h, left : left + w]
        where_nc[n] = top, left, mirrored
    return Crops(pixels, torch.from_numpy(where_nc))


def _bytes(shape: Sequence[int]) -> Tensor:
    """Memory for a batch: in a worker that of all processes, so that the batch is not copied again on its way."""
    if get_worker_info() is None:
        return torch.from_numpy(np.empty(shape, np.uint8))  # numpy asks for huge pages: 500 times fewer faults
    memory = torch.UntypedStorage._new_shared(int(np.prod(shape)))  # type: ignore[no-untyped-call]  # as default_collate does
    return torch.empty(0, dtype=torch.uint8).set_(memory).view(*shape)


class Finish:
    """Mirrors and normalises crops on their device: (pixel / 255 - mean) / std of pixels less the mean image, in float32.

    Args:
        mean: of each channel, in 0..1.
        std: of each channel, in 0..1.
        mean_image: subtracted first; None for none.
    """

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], mean_image: Callable[[], Tensor] | None = None
    ) -> None:
        self.shift_c, self.scale_c = (255 * torch.tensor([*mean])).view(-1, 1, 1), 1 / (255 * torch.tensor([*std]))
        self.scale_c, self.mean_image = self.scale_c.view(-1, 1, 1), mean_image
        self._buffers: dict[int, Tensor] = {}

    def __call__(self, crops: Crops, net: int = 0) -> Tensor:
        """Pictures (n, channels, height, width); on the processor they lie in memory that the net's next batch reuses."""
        return self.one_by_one(crops, net) if crops.pixels.device.type == "cpu" else self.together(crops)

    def together(self, crops: Crops) -> Tensor:
        """A batch in a few operations, for GPUs."""
        device, (h, w) = crops.pixels.device, crops.pixels.shape[2:]
        x = crops.pixels.to(torch.float32)
        if self.mean_image is not None:
            parts = self.mean_image().to(device).unfold(1, h, 1).unfold(2, w, 1)
            x -= parts[:, crops.where_nc[:, 0], crops.where_nc[:, 1]].transpose(0, 1)
        x = torch.where(crops.where_nc[:, 2].bool().view(-1, 1, 1, 1), x.flip(3), x)
        return x.sub_(self.shift_c.to(device)).mul_(self.scale_c.to(device))

    def one_by_one(self, crops: Crops, net: int = 0) -> Tensor:
        """Picture by picture, each small enough for the processor's cache."""
        n, _, h, w = crops.pixels.shape
        mean = None if self.mean_image is None else self.mean_image()
        buffer = self._buffers.get(net)
        if buffer is None or buffer.shape[1:] != crops.pixels.shape[1:] or len(buffer) < n:
            # faulting in new memory would take longer than the arithmetic
            buffer = self._buffers[net] = torch.from_numpy(np.empty(crops.pixels.shape, np.float32))
        for out, pixels, (top, left, mirrored) in zip(buffer, crops.pixels, crops.where_nc.tolist()):
            if mean is None:
                out.copy_(pixels.flip(2) if mirrored else pixels)
            else:
                less = pixels - mean[:, top : top + h, left : left + w]
                out.copy_(less.flip(2) if mirrored else less)
            out.sub_(self.shift_c).mul_(self.scale_c)
        return buffer[:n]
