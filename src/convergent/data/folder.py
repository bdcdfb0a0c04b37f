"""Pictures in class folders: FOLDER/train/CLASS/* and FOLDER/val/CLASS/*."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

from torch.utils.data import Dataset

from convergent.data.opening import opened, shown
from convergent.errors import InputError
from convergent.options import TEXT

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


class PictureFolder(Dataset[tuple[Any, int]]):
    """A folder of class folders in the form of a torchvision data set: (PIL picture, class).

    Classes are numbered in the order of their folders' names; pictures may lie in folders within them. Other than
    torchvision's ImageFolder it leaves 16-bit, 32-bit and float pictures as they are, for `opening.eight_bits`.

    Raises:
        FileNotFoundError: if there is no such folder.
        InputError: if there is no class folder, one is empty, or a link leads back to a folder around it.
    """

    def __init__(self, root: Annotated[str, TEXT], transform: Callable[[Any], Any] | None = None) -> None:
        self.root, self.transform = Path(root), transform
        self.classes = class_folders(self.root)
        if not self.classes:
            raise InputError(f"{shown(root)} has no class folders; put the pictures of each class into one of its own.")
        self.samples: list[tuple[str, int]] = []
        for target, name in enumerate(self.classes):
            files = sorted(_pictures(str(self.root / name)), key=os.path.split)
            if not files:
                raise InputError(
                    f"{shown(self.root / name)} holds no picture ({', '.join(SUFFIXES)}); fill or remove this class folder."
                )
            self.samples += [(file, target) for file in files]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, image: int) -> tuple[Any, int]:
        file, target = self.samples[image]
        picture = opened(file)
        return self.transform(picture) if self.transform else picture, target

    def __repr__(self) -> str:
        return f"PictureFolder(images={len(self)}, classes={len(self.classes)})"


def class_folders(folder: Path) -> list[str]:
    """The names of the folders in a folder, sorted."""
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir())


def _pictures(folder: str, above: tuple[tuple[int, int], ...] = ()) -> Iterator[str]:
    """The pictures in a folder and in those within it.

    Raises:
        InputError: if a folder is a link to one that it lies in.
    """
    place = Path(folder).stat()
    here = place.st_dev, place.st_ino
    if here in above:
        raise InputError(f"{shown(folder)} is a link to a folder that it lies in itself; remove it.")
    with os.scandir(folder) as entries:
        for entry in entries:
            # links are asked by path: one that leads nowhere, or to itself, is a file that cannot be read
            if entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and Path(entry.path).is_dir()):
                yield from _pictures(entry.path, (*above, here))
            elif entry.name.lower().endswith(SUFFIXES):
                yield entry.path
