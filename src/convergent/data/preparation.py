"""How pictures are read, and how they become what a net sees."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torchvision.transforms import v2

from convergent.errors import InputError


def decoded(channels: int, transforms: Sequence[Callable[[Any], Any]]) -> v2.Compose:
    """A transform of a picture to a tensor (channels, height, width) that is normalised later, on its device."""
    return v2.Compose([v2.RGB() if channels == 3 else v2.Grayscale(), v2.ToImage(), *transforms])


def normalised(mean: Sequence[float], std: Sequence[float]) -> list[Callable[[Any], Any]]:
    """The transforms of tensors of bytes, one or a batch, to normalised floats."""
    return [v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(mean), list(std))]


def prepared(
    channels: int, transforms: Sequence[Callable[[Any], Any]], mean: Sequence[float], std: Sequence[float]
) -> Callable[[Any], Any]:
    """A transform of a PIL picture to a normalised tensor (channels, height, width), see `Preparation`."""
    return v2.Compose([*decoded(channels, transforms).transforms, *normalised(mean, std)])  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Preparation:
    """How pictures become what a net sees.

    Attributes:
        augment: transforms of training pictures.
        prepare: transforms of evaluation pictures that stand in for the augmentation (resize, centre crop).
        mean: subtracted from each channel of pictures in 0..1.
        std: divides it then.
        channels: 1 makes pictures grey, 3 makes them colour.
    """

    augment: Sequence[Callable[[Any], Any]]
    prepare: Sequence[Callable[[Any], Any]]
    mean: Sequence[float]
    std: Sequence[float]
    channels: int


@dataclass(frozen=True)
class Access:
    """How pictures are read.

    Attributes:
        batch_size: over all processes together.
        workers: processes that read, per training process.
        skip_corrupt: leave out unreadable images and count them, instead of an error.
        value_range: of pictures of more than 8 bits, see `opening.eight_bits`.
        digests: folder in which the digests of large files are remembered; None for nowhere.

    Raises:
        InputError: if the range is none.
    """

    batch_size: int
    workers: int = 0
    skip_corrupt: bool = False
    value_range: Sequence[float] | None = None
    digests: Path | None = None

    def __post_init__(self) -> None:
        span = self.value_range
        if span is not None and not (len(span) == 2 and span[0] < span[1]):
            raise InputError(
                f"data.value_range needs to be the values of black and of white, as [0,4095], not {[*span]}."
            )
