"""What a pass needs of a batch: which image each picture is, for moments are kept per block of images."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from convergent.core.matrices import described
from convergent.errors import InputError

WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def check_batch(batch: Any) -> None:
    """Refuse what is not a batch of (pictures, classes, image numbers).

    Raises:
        InputError: that says what came.
    """
    if isinstance(batch, (list, tuple)) and len(batch) >= 3:
        pictures = list(batch[0].values()) if isinstance(batch[0], Mapping) else [batch[0]]
        if all(isinstance(x, Tensor) and x.ndim for x in (*pictures, batch[2])):
            lengths = {len(x) for x in (*pictures, batch[2])}
            if pictures and len(lengths) == 1 and batch[2].ndim == 1 and batch[2].dtype in WHOLE:
                return
    raise InputError(
        "A pass needs batches of (pictures, classes, image numbers), pictures a tensor or {view: tensor}, numbers a "
        f"vector of as many whole ones, not {described(batch)}; let the data set give (picture, class, number), or "
        "the loader's collate_fn do so."
    )


def check_numbers(image_n: Tensor, images: int) -> None:
    """Refuse numbers of images that a data set of so many does not have.

    Raises:
        InputError: that says which came.
    """
    if ((image_n < 0) | (image_n >= images)).any():
        raise InputError(
            f"Image numbers need to be from 0 to {images - 1} in a data set of {images}, but a batch has "
            f"{int(image_n.min())} to {int(image_n.max())}; number the images as the data set has them."
        )
