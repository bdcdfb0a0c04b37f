"""ILSVRC-2012 as it is distributed: class folders, or validation images in one folder with the development kit's truth."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from torch.utils.data import Dataset

from convergent.data.folder import class_folders
from convergent.data.opening import eight_bits, opened, shown
from convergent.errors import InputError
from convergent.options import TEXT, whole, word

# Images of the published set.
PUBLISHED = {"train": 1_281_167, "val": 50_000}
DEVKIT = "ILSVRC2012_devkit_t12"

_WNID = re.compile(r"n\d{8}")
_PICTURES = {".jpeg", ".jpg", ".png"}


class ImageNet(Dataset[tuple[Any, int]]):
    """ILSVRC-2012 in the form of a torchvision data set: (PIL picture in RGB, class).

    Below `root` lie train/WNID/*.JPEG and val/WNID/*.JPEG; or val/*.JPEG, all in one folder, with the development kit
    unpacked beside it (ILSVRC2012_devkit_t12/data). Classes are numbered in the order of their WordNet ids (wnids), not by
    the kit's own ids. CMYK pictures, PNG files named .JPEG and broken EXIF blocks, all of which the real set has, are read.

    Raises:
        FileNotFoundError: if there is no such folder.
        InputError: if there are not as many classes as wanted, they are others, or one has no image.

    Source: Russakovsky et al. 2015, "ImageNet Large Scale Visual Recognition Challenge"; development kit t12, readme.
    """

    def __init__(
        self,
        root: Annotated[str, TEXT],
        split: Annotated[str, word("train", "val")],
        classes: Annotated[int, whole(1)] = 1000,
        transform: Callable[[Any], Any] | None = None,
    ) -> None:
        self.root, self.split, self.transform = Path(root), split, transform
        folder = self.root / split
        folders = _class_folders(folder)
        if folders:
            self.wnids = folders
            self.samples = [(str(f), number) for number, wnid in enumerate(folders) for f in _pictures(folder / wnid)]
        else:
            files = _pictures(folder)
            self.wnids, targets = self._truth(len(files))
            self.samples = list(zip(map(str, files), targets))
        self.classes = self.wnids
        self._check(classes)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, image: int) -> tuple[Any, int]:
        file, target = self.samples[image]
        picture = eight_bits(opened(file)).convert("RGB")
        return self.transform(picture) if self.transform else picture, target

    def __repr__(self) -> str:
        return f"ImageNet(split={self.split!r}, images={len(self)}, classes={len(self.wnids)})"

    def _truth(self, files: int) -> tuple[list[str], list[int]]:
        """The wnids, and the class of each validation image in the order of the files' names.

        Raises:
            FileNotFoundError: if there is no development kit.
            InputError: if it is of other images or classes.
        """
        kit = self.root / DEVKIT / "data"
        truth = kit / "ILSVRC2012_validation_ground_truth.txt"
        if not truth.exists():
            raise FileNotFoundError(
                f"{self.root / self.split} has no class folders, and {truth} is not there to say which image is of which"
            )
        wnid_of = wnids_by_id(kit / "meta.mat")
        ids = truth.read_text(errors="replace").split()
        if len(ids) != files:
            raise InputError(f"{truth} tells of {len(ids)} images, but {self.root / self.split} has {files}.")
        if strange := [number for number in ids if not number.isdigit() or int(number) not in wnid_of]:
            raise InputError(
                f"{truth} tells of a class {shown(strange[0])} that meta.mat does not know; unpack the kit again."
            )
        wnids = sorted(wnid_of.values())
        number = {wnid: place for place, wnid in enumerate(wnids)}
        return wnids, [number[wnid_of[int(of_kit)]] for of_kit in ids]

    def _check(self, classes: int) -> None:
        where = self.root / self.split
        if len(self.wnids) != classes:
            raise InputError(
                f"{where} has {len(self.wnids)} classes instead of {classes}; mend data.folder or set data.classes."
            )
        if odd := [wnid for wnid in self.wnids if not _WNID.fullmatch(wnid)]:
            raise InputError(f"{where / odd[0]} is no WordNet id, as n01440764; use data=folder for other pictures.")
        counts = [0] * len(self.wnids)
        for _, target in self.samples:
            counts[target] += 1
        if 0 in counts:
            raise InputError(f"{where} has no image of class {self.wnids[counts.index(0)]}; unpack it again.")
        trained = _class_folders(self.root / "train") if self.split != "train" else self.wnids
        if trained and trained != self.wnids:
            differing = sorted(set(trained) ^ set(self.wnids))
            raise InputError(
                f"train and {self.split} of {self.root} differ in class {differing[0]}; unpack both again."
            )
        meta = self.root / DEVKIT / "data" / "meta.mat"
        if meta.exists() and (unknown := sorted(set(self.wnids) - set(wnids_by_id(meta).values()))):
            raise InputError(f"{where / unknown[0]} is no class of {meta}; is this ILSVRC-2012?")


def wnids_by_id(meta: Path) -> dict[int, str]:
    """The wnid of each of the development kit's own class ids, from its meta.mat; inner nodes of WordNet are left out.

    Raises:
        InputError: if the file is not what it should be.
    """
    from scipy.io import loadmat

    try:
        synsets = loadmat(meta, squeeze_me=True)["synsets"]
        return {int(s["ILSVRC2012_ID"]): str(s["WNID"]) for s in synsets if int(s["num_children"]) == 0}
    except Exception as error:  # scipy has many for a file that is none
        raise InputError(f"{meta} cannot be read ({' '.join(str(error).split())}); unpack the kit again.") from None


def _class_folders(folder: Path) -> list[str]:
    return class_folders(folder) if folder.is_dir() else []


def _pictures(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in _PICTURES)
