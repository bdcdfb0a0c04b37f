"""The handwritten digits that scikit-learn ships: 1,797 pictures of 8 x 8 pixels, 10 classes, nothing to download."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.utils.data import Dataset

from convergent.errors import InputError
from convergent.options import word


class Digits(Dataset[tuple[Any, int]]):
    """Scikit-learn's digits in the form of a torchvision data set: (PIL picture, class).

    Splits are "train" (four fifths), "val" (the rest, every class equally) and "all".

    Raises:
        InputError: if there is no such split.

    Source: Alpaydin, Kaynak 1998, "Optical recognition of handwritten digits", UCI; the test set, as in scikit-learn.
    """

    def __init__(
        self, split: Annotated[str, word("train", "val", "all")], transform: Callable[[Any], Any] | None = None
    ) -> None:
        bunch = load_digits()
        images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)  # 17 grey levels, told apart in 8 bits
        train, val = train_test_split(np.arange(len(images)), test_size=0.2, random_state=0, stratify=bunch.target)
        splits = {"train": np.sort(train), "val": np.sort(val), "all": np.arange(len(images))}
        if split not in splits:
            raise InputError(f"The digits have the splits {', '.join(splits)}, not {split!r}.")
        self.images, self.targets = images[splits[split]], bunch.target[splits[split]]
        self.held_out = np.isin(splits[split], splits["val"])  # from training
        self.split, self.transform, self.classes = split, transform, [*map(str, bunch.target_names)]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, image: int) -> tuple[Any, int]:
        picture = Image.fromarray(self.images[image])
        return self.transform(picture) if self.transform else picture, int(self.targets[image])

    def __repr__(self) -> str:
        return f"Digits(split={self.split!r}, images={len(self)})"
