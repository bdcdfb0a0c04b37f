"""One LightningDataModule for every data set of (picture, class), as torchvision's are."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from PIL import UnidentifiedImageError
from torch.utils.data import DataLoader, Dataset, default_collate
from torchvision.transforms import v2

from convergent.data.order import BlockOrder, Draw, EvaluationOrder, TrainingOrder
from convergent.errors import InputError

Batch = list[torch.Tensor]  # pictures (n, channels, height, width), classes (n,), images (n,)

_UNCOUNTED = -100  # the class that cross entropy and torchmetrics leave out


class Images(Dataset[tuple[Any, int, int] | None]):
    """A data set of (picture, class) that yields (tensor, class, image) for a `Draw`.

    Args:
        dataset: of (picture, class).
        transform: of the picture; its random numbers are those of the draw's seed.
        skip_corrupt: yield None for an unreadable image instead of an error.
    """

    def __init__(self, dataset: Dataset[Any], transform: Callable[[Any], Any], *, skip_corrupt: bool = False) -> None:
        self.dataset, self.transform, self.skip_corrupt = dataset, transform, skip_corrupt
        self.skipped_n = torch.zeros(len(self), dtype=torch.bool)
        self.skipped_n.share_memory_()  # type: ignore[no-untyped-call]  # workers write into it, too

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, draw: Draw | int) -> tuple[Any, int, int] | None:
        draw = Draw(draw) if isinstance(draw, int) else draw
        try:
            picture, target = self.dataset[draw.image]
        except (UnidentifiedImageError, OSError, SyntaxError) as error:  # PIL raises all three on broken files
            if self.skip_corrupt:
                self.skipped_n[draw.image] = True
                return None
            raise InputError(
                f"Image {self.name(draw.image)} cannot be read ({str(error).splitlines()[0]}); mend or remove it, or set "
                "data.skip_corrupt=true to count and skip such images."
            ) from None
        if draw.seed is None:
            return self.transform(picture), target if draw.counted else _UNCOUNTED, draw.image
        state = torch.get_rng_state()
        torch.default_generator.manual_seed(draw.seed)
        try:
            return self.transform(picture), target, draw.image
        finally:
            torch.set_rng_state(state)

    def name(self, image: int) -> str:
        """The file of an image, or its number where the data set has no files."""
        samples = getattr(self.dataset, "samples", None)
        return str(samples[image][0]) if samples else str(image)

    def manifest(self) -> list[str]:
        """What identifies the images and how they are prepared: files with sizes, or the data set's own description."""
        files = [f"{path} {Path(path).stat().st_size}" for path, _ in getattr(self.dataset, "samples", ())]
        folder = os.path.commonpath([path for path, _ in self.dataset.samples]) if files else ""  # type: ignore[attr-defined]
        described = [name.removeprefix(folder) for name in files] or [" ".join(repr(self.dataset).split())]
        return [*described, str(len(self)), " ".join(repr(self.transform).split())]


class Deranged(Dataset[tuple[Any, int, int] | None]):
    """Images of which each net sees another one: no two nets ever the same, over all images each net sees each once.

    What is left of a correlation between nets then is chance.

    Args:
        images: that yield one picture, or {view: picture}.
        views: the view of each net, by name; None where there is but one.
    """

    def __init__(self, images: Images, views: dict[str, str | None]) -> None:
        self.images, self.views = images, views
        self.order = torch.randperm(len(images), generator=torch.Generator().manual_seed(1)).tolist()
        self.place = {image: place for place, image in enumerate(self.order)}

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, draw: Draw | int) -> tuple[dict[str, Any], int, int] | None:
        image = draw if isinstance(draw, int) else draw.image
        seen: dict[str, Any] = {}
        for number, (net, view) in enumerate(self.views.items()):
            datum = self.images[self.order[(self.place[image] + number) % len(self.order)]]
            if datum is None:
                return None
            seen[net] = datum[0] if view is None else datum[0][view]
        return seen, 0, image

    def manifest(self) -> list[str]:
        """What identifies the images, how they are prepared and which net sees which."""
        return [*self.images.manifest(), "deranged", *self.views]


class Views:
    """One picture prepared in several ways, {name: tensor}."""

    def __init__(self, transforms: dict[str, Callable[[Any], Any]]) -> None:
        self.transforms = transforms

    def __call__(self, picture: Any) -> dict[str, Any]:
        """Prepare a PIL picture."""
        return {name: transform(picture) for name, transform in self.transforms.items()}

    def __repr__(self) -> str:
        return repr(self.transforms)


def prepared(
    channels: int, transforms: Sequence[Callable[[Any], Any]], mean: Sequence[float], std: Sequence[float]
) -> Callable[[Any], Any]:
    """A transform of a PIL picture to a normalised tensor (channels, height, width).

    Args:
        channels: 1 makes pictures grey, 3 makes them colour.
        transforms: in between.
        mean: subtracted from each channel of pictures in 0..1.
        std: divides it then.
    """
    colour: list[Callable[[Any], Any]] = [v2.RGB() if channels == 3 else v2.Grayscale(), v2.ToImage()]
    to_float = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(mean), list(std))]
    return v2.Compose([*colour, *transforms, *to_float])  # type: ignore[no-any-return]


class ImageData(pl.LightningDataModule):
    """Training, validation and measured images of one data set.

    The order of the images, their augmentation and their split over processes are all decided here and depend on seeds
    only, so Lightning's own distributed sampler is to be switched off (`use_distributed_sampler=False`).

    Args:
        sources: data set of (picture, class) by name, each a function of no arguments; "train" and "val" are needed.
        measure: which of them the statistics pass reads.
        augment: transforms of training pictures.
        prepare: transforms of evaluation pictures that stand in for the augmentation (resize, centre crop).
        mean: subtracted from each channel of pictures in 0..1.
        std: divides it then.
        channels: 1 makes pictures grey, 3 makes them colour.
        batch_size: over all processes together.
        workers: processes that read, per training process.
        skip_corrupt: leave out unreadable images and count them, instead of an error.
        order_seed: of the order of training images.
        augment_seed: of their augmentation.

    Attributes:
        blocks: of images, in the statistics pass.
        views: how nets that want their images otherwise get them in the statistics pass, by name; none for all alike.
        deranged: the view of each net, by name, if each is to see other images in the statistics pass (see `Deranged`).
        read_before: of (rank, number of processes), how many batches of the statistics pass to leave out.

    Raises:
        InputError: if there is no image, or the batch does not divide over the processes.
    """

    def __init__(
        self,
        sources: dict[str, Callable[[], Dataset[Any]]],
        measure: str,
        augment: Sequence[Callable[[Any], Any]],
        prepare: Sequence[Callable[[Any], Any]],
        mean: Sequence[float],
        std: Sequence[float],
        channels: int,
        batch_size: int,
        workers: int = 0,
        skip_corrupt: bool = False,
        order_seed: int = 0,
        augment_seed: int = 0,
    ) -> None:
        super().__init__()
        self.sources, self.measure_source = sources, measure
        self.training = prepared(channels, augment, mean, std)
        self.evaluation = prepared(channels, prepare, mean, std)
        self.batch_size, self.workers, self.skip_corrupt = batch_size, workers, skip_corrupt
        self.order_seed, self.augment_seed = order_seed, augment_seed
        self.blocks = 64
        self.views: dict[str, Callable[[Any], Any]] = {}
        self.deranged: dict[str, str | None] = {}
        self.read_before: Callable[[int, int], int] = lambda _rank, _world: 0
        self._datasets: dict[str, Dataset[Any]] = {}
        self._read: list[Images] = []

    def check(self) -> None:
        """Find out that there are images to train on, before anything is started.

        Raises:
            InputError: if there are none.
        """
        for source in ("train", "val"):
            self._dataset(source)

    def images(self, source: str, transform: Callable[[Any], Any] | None = None) -> Images:
        """The images of one source, prepared as for evaluation unless told otherwise.

        Raises:
            InputError: if there is no such source, or no image in it.
        """
        images = Images(self._dataset(source), transform or self.evaluation, skip_corrupt=self.skip_corrupt)
        self._read.append(images)
        return images

    def skipped(self) -> int:
        """How many images this process and its workers could not read so far."""
        return sum(int(images.skipped_n.sum()) for images in self._read)

    def _dataset(self, source: str) -> Dataset[Any]:
        """The data set of one source, opened once: listing a million files takes its time.

        Raises:
            InputError: if there is no such source, or no image in it.
        """
        if source in self._datasets:
            return self._datasets[source]
        if source not in self.sources:
            raise InputError(f"images needs to be one of {', '.join(self.sources)}, not {source!r}.")
        try:
            dataset = self.sources[source]()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise InputError(f"No images for {source}: {str(error).splitlines()[0]}; set data.folder.") from None
        except RuntimeError as error:  # torchvision: not found, not downloaded, corrupted
            raise InputError(f"No images for {source}: {str(error).splitlines()[0]}") from None
        if len(dataset) == 0:  # type: ignore[arg-type]
            raise InputError(f"No images for {source} in {dataset!r}; set data.folder.")
        self._datasets[source] = dataset
        return dataset

    @cached_property
    def measured(self) -> Images | Deranged:
        """The images of the statistics pass, in every view where there are several."""
        images = self.images(self.measure_source, Views(self.views) if self.views else None)
        return Deranged(images, self.deranged) if self.deranged else images

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches of augmented training images."""
        images = self.images("train", self.training)
        order = TrainingOrder(len(images), self.order_seed, self.augment_seed, *self._place())
        return self._loader(images, sampler=order, batch_size=self._batch_per_process())

    def val_dataloader(self) -> DataLoader[Any]:
        """Batches of validation images, each counted once over all processes."""
        images = self.images("val")
        order = EvaluationOrder(len(images), *self._place())
        return self._loader(images, sampler=order, batch_size=self._batch_per_process())

    def predict_dataloader(self) -> DataLoader[Any]:
        """Batches of the statistics pass, block by block, without those that were read before.

        Raises:
            InputError: if there are more processes than blocks.
        """
        rank, world = self._place()
        order = BlockOrder(len(self.measured), self.blocks, self.batch_size, rank, world, self.read_before(rank, world))
        if world > min(self.blocks, len(self.measured)):
            raise InputError(
                f"{world} processes need as many blocks of images, not {self.blocks}; use fewer processes."
            )
        return self._loader(self.measured, batch_sampler=order)

    def _place(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _batch_per_process(self) -> int:
        world = self._place()[1]
        if self.batch_size % world:
            raise InputError(
                f"data.batch_size is over all processes, so it needs to be a multiple of {world}, not {self.batch_size}."
            )
        return self.batch_size // world

    def _loader(self, images: Images | Deranged, **how: Any) -> DataLoader[Any]:
        return DataLoader(
            images,
            num_workers=self.workers,
            collate_fn=_collate,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=False,
            **how,
        )


def _collate(batch: list[tuple[Any, int, int] | None]) -> Batch:
    kept = [datum for datum in batch if datum is not None]
    if not kept:
        raise InputError(f"All {len(batch)} images of a batch cannot be read; check data.folder.")
    return default_collate(kept)  # type: ignore[no-any-return]
