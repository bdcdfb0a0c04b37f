"""Fashion-MNIST from the four files in which it is published: 70,000 grey pictures of 28 x 28 pixels, 10 classes."""

import gzip
import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor
from torchvision import datasets

from convergent.data.content import digest_of
from convergent.data.opening import first_line, regular, shown
from convergent.errors import InputError
from convergent.options import TEXT

_BYTES = b"\0\0\x08"  # how an idx file of bytes begins


class FashionMNIST(datasets.FashionMNIST):  # type: ignore[misc]
    """torchvision's data set of (PIL picture, class), read from idx files as they are published, gzip'ed or not.

    Args:
        folder: of the files, as Debian's package has them, or with FashionMNIST/raw in it, as torchvision has them.
        train: the 60,000 pictures to train on; else the 10,000 of the test.
        download: let torchvision download the files where they are missing.

    Raises:
        InputError: if a file is missing, or holds something else.

    Source: Xiao, Rasul, Vollgraf 2017, "Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms".
    """

    def __init__(
        self,
        folder: Annotated[str, TEXT],
        train: bool = True,
        download: bool = False,
        transform: Callable[[Any], Any] | None = None,
    ) -> None:
        datasets.VisionDataset.__init__(self, folder, transform=transform)
        self.train = train
        part, places = "train" if train else "t10k", [Path(folder), Path(self.raw_folder)]
        names = [f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"]
        if download and not _lying_in(places, names):
            self.download()
        files = _lying_in(places, names)
        if not files:
            raise InputError(
                f"Fashion-MNIST needs {names[0]} and {names[1]}, gzip'ed or not, but they are not in "
                f"{shown(folder)}; install Debian's package dataset-fashion-mnist, or set data.folder to a folder that has "
                "them, with data.download=true to one that torchvision downloads them into."
            )
        self.data, self.targets = _idx(files[0], 3), _idx(files[1], 1).long()
        if len(self.data) != len(self.targets) or (self.targets >= len(self.classes)).any():
            raise InputError(
                f"{shown(files[1])} needs a class below {len(self.classes)} for each of the {len(self.data)} pictures of "
                f"{files[0].name}, but has {len(self.targets)} up to {int(self.targets.max())}; get both files anew."
            )

    def content(self) -> list[str]:
        """What identifies the pictures, however their files are compressed."""
        return [digest_of((self.data, self.targets))]


def _lying_in(places: list[Path], names: list[str]) -> list[Path]:
    """The files of these names in the first folder that has all of them."""
    for place in places:
        files = [
            next((file for file in (place / name, place / f"{name}.gz") if file.is_file()), None) for name in names
        ]
        if all(files):
            return [file for file in files if file]
    return []


def _idx(file: Path, axes: int) -> Tensor:
    """The bytes of an idx file, in the shape that it names.

    Raises:
        InputError: if it has another number of axes, other values, or more or fewer than that.
    """
    try:
        with regular(file) as stream:
            content = gzip.decompress(stream.read()) if file.suffix == ".gz" else stream.read()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{shown(file)} cannot be read ({first_line(error)}); get it anew.") from None
    begin = 4 * (1 + axes)
    shape = [int.from_bytes(content[at : at + 4], "big") for at in range(4, begin, 4)]
    if content[:4] != _BYTES + bytes([axes]) or len(content) != begin + math.prod(shape) or 0 in shape:
        raise InputError(f"{shown(file)} is no whole idx file of bytes with {axes} axes; get it anew.")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=begin).view(shape)
