"""One LightningDataModule for every data set of (picture, class), as torchvision's are."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import cached_property, partial
from itertools import permutations
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from convergent.data.crops import Crops, Finish
from convergent.data.opening import first_line, shown
from convergent.data.ordered import OrderedData
from convergent.data.pictures import Batch, Images, Shuffled, Views, collate
from convergent.data.preparation import Access, Preparation, decoded, normalised, prepared
from convergent.data.store import SubtractMean
from convergent.errors import InputError

_GROUPS: dict[str, Any] = {"preparation": Preparation, "access": Access}


class ImageData(OrderedData):
    """Training, validation and measured images of one data set.

    Args:
        sources: data set of (picture, class) by name, each a function of no arguments; "train" and "val" are needed.
        measure: which of them the statistics pass reads.
        preparation: of their pictures.
        access: to them.
        order_seed: of the order of training images.
        augment_seed: of their augmentation; several for as many nets that each see the same images augmented otherwise.
        classes: how many there have to be, where the data set says which it has; None for any.

    Attributes:
        views: how nets that want their images otherwise get them in the statistics pass, by name; none for all alike.
        shuffled: the view of each net, by name, if each is to see other images in the statistics pass (see `Shuffled`).

    Raises:
        InputError: if there is no image, or the batch does not divide over the processes.
    """

    def __init__(
        self,
        sources: dict[str, Callable[[], Dataset[Any]]],
        measure: str,
        preparation: Preparation,
        access: Access,
        order_seed: int = 0,
        augment_seed: int | Sequence[int] = 0,
        classes: int | None = None,
    ) -> None:
        super().__init__(access.batch_size, access.workers, order_seed, augment_seed)
        self.classes, self.access = classes, access
        self.sources, self.measure_source = sources, measure
        channels, mean, std = preparation.channels, preparation.mean, preparation.std
        self.training, self.validation = (
            decoded(channels, steps) for steps in (preparation.augment, preparation.prepare)
        )
        self.evaluation = prepared(channels, preparation.prepare, mean, std)
        self.normalise = v2.Compose(normalised(mean, std))
        less = next((step for step in preparation.augment if isinstance(step, SubtractMean)), None)
        self.finish = Finish(mean, std, None if less is None else lambda: less.mean)
        self.views: dict[str, Callable[[Any], Any]] = {}
        self.shuffled: dict[str, str | None] = {}
        self._datasets: dict[str, Dataset[Any]] = {}
        self._read: list[Images] = []

    @classmethod
    def settings(cls) -> list[str]:
        """What `of` takes: the arguments of this class, and the fields of what it is made of."""
        own = [name for name in inspect.signature(cls).parameters if name not in _GROUPS]
        return [*own, *(of.name for kind in _GROUPS.values() for of in fields(kind))]

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> ImageData:
        """The data module of `settings` by name."""
        rest = dict(settings)
        groups = {
            group: kind(**{of.name: rest.pop(of.name) for of in fields(kind) if of.name in rest})
            for group, kind in _GROUPS.items()
        }
        return cls(**groups, **rest)

    def check(self) -> None:
        """Find out that there are images to train on whose classes agree, before anything is started."""
        self.check_classes(("train", "val"))
        if self.finish.mean_image is not None:
            self.finish.mean_image()

    def check_classes(self, sources: Sequence[str]) -> None:
        """Find out that sources whose classes have names number them alike.

        Raises:
            InputError: if one has a class that another has not.
        """
        classes = {source: getattr(self.dataset(source), "classes", None) for source in sources}
        named = {source: [*map(str, names)] for source, names in classes.items() if names is not None}
        for one, other in permutations(named, 2):
            if only := [shown(name) for name in named[one] if name not in set(named[other])]:
                raise InputError(
                    f"{' and '.join(named)} need the same classes, but {', '.join(only[:3])} of {one} is missing from "
                    f"{other}, so that the classes' numbers would differ; add or remove that class folder."
                )

    def images(self, source: str, transform: Callable[[Any], Any] | None = None, *, batched: bool = False) -> Images:
        """The images of one source, prepared as for evaluation unless told otherwise."""
        images = Images(
            self.dataset(source),
            transform or self.evaluation,
            skip_corrupt=self.access.skip_corrupt,
            batched=batched,
            value_range=self.access.value_range,
            digests=self.access.digests,
        )
        self._read.append(images)
        return images

    def skipped(self) -> int:
        """How many images this process and its workers could not read so far."""
        return sum(int(images.skipped_n.sum()) for images in self._read)

    def dataset(self, source: str) -> Dataset[Any]:
        """The data set of one source, opened once: listing a million files takes its time.

        Raises:
            InputError: if there is no such source, no image in it, or another number of classes than wanted.
        """
        if source in self._datasets:
            return self._datasets[source]
        if source not in self.sources:
            raise InputError(f"images needs to be one of {', '.join(self.sources)}, not {source!r}.")
        try:
            dataset = self.sources[source]()
        except OSError as error:
            raise InputError(f"No images for {source}: {first_line(error)}; set data.folder.") from None
        except RuntimeError as error:  # torchvision: not found, not downloaded, corrupted
            raise InputError(f"No images for {source}: {first_line(error)}") from None
        if len(dataset) == 0:  # type: ignore[arg-type]
            raise InputError(f"No images for {source} in {dataset!r}; set data.folder.")
        names = getattr(dataset, "classes", None)
        if names is not None and self.classes not in (None, len(names)):
            raise InputError(
                f"{source} has {len(names)} classes instead of {self.classes}; set data.classes={len(names)}, or mend "
                "data.folder."
            )
        self._datasets[source] = dataset
        return dataset

    @cached_property
    def measured(self) -> Images | Shuffled:
        """The images of the statistics pass, in every view where there are several."""
        images = self.images(self.measure_source, Views(self.views) if self.views else None)
        return Shuffled(images, self.shuffled) if self.shuffled else images

    def untrained_on(self) -> Tensor:
        """The numbers of those measured images on which no net is trained.

        Raises:
            InputError: if there are none, or nobody knows which they are.
        """
        source, images = self.measure_source, len(self.measured)
        there = getattr(self.dataset(source), "held_out", [True] * images if source == "val" else None)
        if there is None or not any(there):
            raise InputError(
                f"Nets are judged on images that they were not trained on, and images={source} does not say which these "
                "are; choose images=val, or give the data set an attribute held_out, true for these."
            )
        return torch.as_tensor(there).nonzero()[:, 0]

    def items(self, stage: str) -> Images:
        """The images of a stage of training, with their augmentation or without."""
        return self.images(stage, self.training if stage == "train" else self.validation, batched=True)

    def collate(self, items: Any) -> Callable[[Any], Any]:
        """What makes batches of images."""
        return partial(collate, name=items.name)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:  # noqa: ARG002
        """Normalise the pictures where they are to be used; those of the statistics pass come normalised."""
        if self.trainer is not None and self.trainer.predicting:
            return batch
        x, *rest = batch
        several = isinstance(x, list)
        done = [
            self.finish(x_, net) if isinstance(x_, Crops) else self.normalise(x_)
            for net, x_ in enumerate(x if several else [x])
        ]
        return [done if several else done[0], *rest]
