"""Writes a store: every picture of a data set decoded and resized once."""

from __future__ import annotations

import os
from pathlib import Path

from filelock import FileLock, Timeout
from omegaconf import DictConfig
from torchvision.transforms import v2

from convergent.cli.checking import check_objects, check_options, resolved
from convergent.cli.train import build_data
from convergent.data.imagenet import PUBLISHED
from convergent.data.images import ImageData
from convergent.data.preparation import decoded
from convergent.data.store import MEAN
from convergent.data.writing import Writing
from convergent.errors import InputError


def prepare(config: DictConfig) -> None:
    """Write the store of a configuration composed from conf/prepare.yaml.

    Raises:
        InputError: for whatever the user can mend.
    """
    check_options("prepare", config)
    check_objects(resolved(config))
    data, store = build_data(config), Path(config.store)
    if not isinstance(data, ImageData):
        raise InputError(f"data={config.data.name} are texts, which need no preparation; train reads them as they are.")
    store.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(store / "lock", timeout=0):
            if config.pixels:
                data.check_classes(config.splits)
            for split in config.splits:
                _prepare_split(config, data, split)
    except Timeout:
        raise InputError(f"Another job is preparing {store}; wait for it or choose another store=.") from None


def _prepare_split(config: DictConfig, data: ImageData, split: str) -> None:
    if not config.pixels and (split != "train" or (Path(config.store) / MEAN).exists()):
        return
    dataset = data.dataset(split)
    images, published = len(dataset), PUBLISHED.get(split)  # type: ignore[arg-type]
    if config.data.name == "imagenet" and not config.partial and images != published:
        raise InputError(
            f"{split} has {images:,} images, but ILSVRC-2012 has {published:,}; mend data.folder or set partial=true."
        )
    steps = [v2.Resize(config.size if config.keep_shape else [config.size] * 2, antialias=True)]
    transform = decoded(config.data.channels, [*steps, v2.CenterCrop(config.size)])
    task = Writing(dataset, transform, Path(config.store), split, config.data.name, config.size, config.data.channels,
                   config.pixels, config.data.skip_corrupt, data.access.value_range, data.access.digests)  # fmt: skip
    if task.finished(force=config.force):
        print(f"{split}: prepared already, {images:,} images in {task.folder}", flush=True)
        return
    task.run(os.cpu_count() or 1 if config.processes == "auto" else config.processes)
