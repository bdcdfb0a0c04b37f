"""What a data set holds, as lines that change with any of its pictures: what identifies saved moments and stores.

A data set says it itself by a method `content() -> list[str]`; else the bytes of its files are digested, or its items.
Where that would take minutes a seeded sample stands for all, and that is said.
"""

import hashlib
import logging
import os
import pickle
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from convergent.data.digests import Files
from convergent.data.opening import UNREADABLE, shown
from convergent.errors import InputError

log = logging.getLogger(__name__)

MOST_BYTES, MOST_ITEMS = 20_000_000_000, 100_000  # of files, and of what is no file: of more a sample is read
SAMPLE = 10_000


def content_of(dataset: Dataset[Any], digests: Path | None = None) -> list[str]:
    """What identifies the pictures of a data set, wherever it lies.

    Args:
        dataset: with a method `content`, with `samples` that are (file, class), or of any items.
        digests: folder in which the digests of large files are remembered by path, size and times; None for nowhere.
    """
    if hasattr(dataset, "content"):
        return [str(line) for line in dataset.content()]
    samples = getattr(dataset, "samples", None) or ()
    files = [path for path, *_ in samples if isinstance(path, str | os.PathLike)]
    return _of_files([os.fspath(file) for file in files], digests) if files else _of_items(dataset)


def sample_of(number: int, size: int) -> list[int]:
    """A seeded sample of so many of the numbers below `number`, in their order; all if there are no more."""
    return sorted(torch.randperm(number, generator=torch.Generator().manual_seed(0))[:size].tolist())


def digest_of(item: Any) -> str:
    """A digest of pictures, tensors, arrays, and of tuples, lists and mappings of them."""
    digest = hashlib.sha256()
    for part in _parts(item):
        digest.update(part)
    return digest.hexdigest()[:32]


def without_addresses(text: str) -> str:
    """The repr of something without the places in memory, which are others in every process, on one line."""
    return " ".join(re.sub(r" at 0x[0-9a-fA-F]+", "", text).split())


def _parts(item: Any) -> Iterator[bytes]:
    if isinstance(item, Image.Image):
        yield f"{item.mode} {item.size} {item.getpalette()}".encode()
        yield item.tobytes()
    elif isinstance(item, Tensor):
        yield f"{item.dtype} {tuple(item.shape)}".encode()
        yield item.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    elif isinstance(item, np.ndarray) and not item.dtype.hasobject:
        yield f"{item.dtype} {item.shape}".encode()
        yield item.tobytes()
    elif isinstance(item, Mapping):
        for key, value in item.items():
            yield repr(key).encode()
            yield from _parts(value)
    elif isinstance(item, tuple | list):
        yield f"{len(item)}".encode()
        for value in item:
            yield from _parts(value)
    else:
        yield pickle.dumps(item, protocol=4)


def _of_items(dataset: Dataset[Any]) -> list[str]:
    """A digest of every item, as the data set gives it.

    Raises:
        InputError: if an item cannot be digested.
    """
    images, began = len(dataset), time.monotonic()  # type: ignore[arg-type]
    chosen = sample_of(images, images if images <= MOST_ITEMS else SAMPLE)
    if len(chosen) < images:
        log.info("The key of these %d images is made of %d of them; a method content() would say more", images, SAMPLE)
    digests = hashlib.sha256()
    with torch.random.fork_rng(devices=[]):
        for image in chosen:
            torch.default_generator.manual_seed(image)
            try:
                digests.update(digest_of(dataset[image]).encode())
            except InputError:
                raise
            except UNREADABLE:
                digests.update(b"unreadable")
            except (pickle.PicklingError, TypeError, AttributeError) as error:
                raise InputError(
                    f"Item {image} of {type(dataset).__name__} has no digest ({shown(error)}); give the data set a method "
                    "content() with a list of strings that change with its images."
                ) from None
    if (seconds := time.monotonic() - began) > 10:
        log.info("Reading %d images for their key took %.0f s; a method content() would save that", images, seconds)
    return [f"{len(chosen)} of {images} items {digests.hexdigest()}"]


def _of_files(files: Sequence[str], digests: Path | None) -> list[str]:
    """Each file's path from the folder of all, its size, and a digest of its bytes."""
    whole = Files.of(files)
    chosen = sample_of(len(files), SAMPLE if whole.size > MOST_BYTES else len(files))
    if len(chosen) < len(files):
        log.info(
            "%d images of %.0f GB: their key holds the sizes of all, but the content of %d only",
            *(len(files), whole.size / 1e9, len(chosen)),
        )
    digested = dict(zip(chosen, whole.only(chosen).digests(digests)))
    about = zip(whole.names, whole.marks)
    return [f"{shown(name)} {mark.size} {digested.get(n, '')}" for n, (name, mark) in enumerate(about)]
