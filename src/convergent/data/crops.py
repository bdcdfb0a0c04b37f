"""Batches of crops as bytes, without any decoding where pictures come from a store; mirrored and normalised on their device.

Axes: `n` images, `c` channels.
"""

from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info
from torchvision.transforms import v2

from convergent.data.order import Draw
from convergent.data.store import Store, SubtractMean


class Crops(NamedTuple):
    """A batch of crops as bytes; the device they are sent to mirrors and normalises them.

    Attributes:
        pixels: (n, channels, height, width), bytes.
        where_nc: (n, 3): first row, first column, and 1 if to be mirrored.
    """

    pixels: Tensor
    where_nc: Tensor


class Plan(NamedTuple):
    """What batches of bytes are to go through: crop, mirror, normalise.

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
    """The plan that does what a `v2.Compose` does to pictures, of a store if any; None if a plan cannot do that."""
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

    They are `Crops`, or a list of them where draws have several seeds.
    """
    views = [_cropped(pictures, draws, plan, number) for number in range(max(1, len(draws[0].seeds)))]
    return views[0] if len(views) == 1 else views


def _cropped(pictures: Sequence[Any], draws: Sequence[Draw], plan: Plan, number: int) -> Crops:
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
    if shared := getattr(torch.UntypedStorage, "_new_shared", None):  # what default_collate takes
        return torch.empty(0, dtype=torch.uint8).set_(shared(int(np.prod(shape)))).view(*shape)
    return torch.empty(tuple(shape), dtype=torch.uint8).share_memory_()  # type: ignore[no-any-return, no-untyped-call]


class Finish:
    """Mirrors and normalises crops on their device: (pixel / 255 - mean) / std of pixels less the mean image, in float32.

    Mean and standard deviation are of each channel, in 0..1.
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
