"""Pictures of a data set as tensors: read, augmented by the seed of the draw, named where they are broken."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.nn import Identity
from torch.utils.data import Dataset, default_collate
from torchvision.transforms import v2

from convergent.data.content import content_of, digest_of, sample_of, without_addresses
from convergent.data.crops import gathered, plan_of
from convergent.data.opening import UNREADABLE, eight_bits, first_line, shown
from convergent.data.order import Draw
from convergent.data.store import Store, SubtractMean
from convergent.errors import InputError

Batch = list[Any]  # pictures (n, channels, height, width) or one of them per net, classes (n,), images (n,)

_ALIKE = (v2.RGB, v2.Grayscale, v2.ToImage, v2.Resize, v2.CenterCrop, SubtractMean)  # no random numbers in them
_PREPARED = 8  # images whose prepared form is part of what identifies them

T = TypeVar("T")
_UNCOUNTED = -100  # the class that cross entropy and torchmetrics leave out


class Images(Dataset[tuple[Any, int, int] | None]):
    """A data set of (picture, class) that yields (tensor, class, image) for a `Draw`.

    A draw with several seeds yields a list of tensors instead of one: the picture is decoded once and augmented for each.

    Args:
        dataset: of (picture, class).
        transform: of the picture; its random numbers are those of the draw's seed.
        skip_corrupt: yield None for an unreadable image instead of an error.
        batched: make batches of crops of bytes where the transform allows it, see `crops.plan_of`.
        value_range: of pictures of more than 8 bits, see `opening.eight_bits`.
        digests: folder in which the digests of large files are remembered.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        transform: Callable[[Any], Any],
        *,
        skip_corrupt: bool = False,
        batched: bool = False,
        value_range: Sequence[float] | None = None,
        digests: Path | None = None,
    ) -> None:
        self.dataset, self.transform, self.skip_corrupt = dataset, transform, skip_corrupt
        self.value_range, self.digests = value_range, digests
        self.plan = plan_of(transform, dataset if isinstance(dataset, Store) else None) if batched else None
        self.once, self.each = _halves(transform)
        self.skipped_n = torch.zeros(len(self), dtype=torch.bool)
        self.skipped_n.share_memory_()  # type: ignore[no-untyped-call]  # workers write into it, too

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, draw: Draw | int) -> tuple[Any, int, int] | None:
        draw = Draw(draw) if isinstance(draw, int) else draw
        return self._readable(draw.image, lambda: self._datum(draw))

    def _datum(self, draw: Draw) -> tuple[Any, int, int]:
        picture, target = self._picture(draw.image)
        if not draw.seeds:
            return self.transform(picture), target if draw.counted else _UNCOUNTED, draw.image
        picture, state = self.once(picture), torch.get_rng_state()
        try:
            views = []
            for seed in draw.seeds:
                torch.default_generator.manual_seed(seed)
                views.append(self.each(picture))
        finally:
            torch.set_rng_state(state)
        return views[0] if len(views) == 1 else views, target, draw.image

    def _picture(self, image: int) -> tuple[Any, int]:
        picture, target = self.dataset[image]
        return eight_bits(picture, self.value_range), target

    def __getitems__(self, draws: list[Draw | int]) -> Any:
        """A whole batch: what `collate` takes."""
        given = [Draw(draw) if isinstance(draw, int) else draw for draw in draws]
        if self.plan is None:
            return [self[draw] for draw in given]
        read = [(draw, datum) for draw in given if (datum := self._bytes(draw.image)) is not None]
        if not read:
            return [None] * len(draws)
        readable, image_n = [draw for draw, _ in read], torch.tensor([draw.image for draw, _ in read])
        target = torch.tensor([target if draw.counted else _UNCOUNTED for draw, (_, target) in read])
        return gathered([x for _, (x, _) in read], readable, self.plan), target, image_n

    def _bytes(self, image: int) -> tuple[Any, int] | None:
        """A picture as an array (channels, height, width) that the plan crops, and its class; None if it is unreadable."""
        assert self.plan is not None
        before = self.plan.before
        if before is None and isinstance(self.dataset, Store) and self.dataset.readable_n[image]:
            return self.dataset.pixels[image], self.dataset.targets[image]

        def read() -> tuple[Any, int]:
            picture, target = self._picture(image)
            return (before(picture) if before else picture).numpy(), target

        return self._readable(image, read)

    def _readable(self, image: int, read: Callable[[], T]) -> T | None:
        """What reading an image gives; None if it is unreadable, which is counted.

        Raises:
            InputError: if it is, and that is not allowed.
        """
        try:
            return read()
        except InputError:
            raise
        except UNREADABLE as error:
            if not self.skip_corrupt:
                raise InputError(unreadable(self.name(image), error)) from None
            self.skipped_n[image] = True
            return None

    def name(self, image: int) -> str:
        """The file of an image, or its number where the data set has no files."""
        return name_of(self.dataset, image)

    def manifest(self) -> list[str]:
        """What identifies the images and how they are prepared: the content of all, and a few of them prepared."""
        about = f"{len(self)} {self.value_range} {without_addresses(repr(self.transform))}"
        return [*content_of(self.dataset, self.digests), about, *map(self._prepared, sample_of(len(self), _PREPARED))]

    def _prepared(self, image: int) -> str:
        """A digest of a prepared image: two transforms of the same description may differ.

        Raises:
            InputError: if something else than the image is wrong.
        """
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            try:
                return digest_of(self._datum(Draw(image))[0])
            except InputError:
                raise
            except UNREADABLE:
                return "unreadable"


def name_of(dataset: Dataset[Any], image: int) -> str:
    """The file of an image, or its number where the data set has no files, fit to be printed."""
    samples = getattr(dataset, "samples", None)
    return shown(samples[image][0]) if samples else str(image)


def unreadable(name: str, error: BaseException) -> str:
    """What is told of an image that cannot be read."""
    return (
        f"Image {name} cannot be read ({first_line(error)}); mend or remove it, or set data.skip_corrupt=true to count and "
        "skip such images."
    )


def _halves(transform: Callable[[Any], Any]) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """What a transform does to every picture alike, and the rest: the first half is done once for all nets."""
    steps = list(transform.transforms) if isinstance(transform, v2.Compose) else [transform]
    alike = next((place for place, step in enumerate(steps) if not isinstance(step, _ALIKE)), len(steps))
    first, rest = (v2.Compose(part) if part else Identity() for part in (steps[:alike], steps[alike:]))
    return first, rest


class Shuffled(Dataset[tuple[Any, int, int] | None]):
    """Images of which each net sees another one: no two nets ever the same, over all images each net sees each once.

    They yield one picture, or {view: picture}; `views` has the view of each net, None where there is but one.
    """

    def __init__(self, images: Images, views: dict[str, str | None]) -> None:
        self.images, self.views = images, views
        self.name = images.name
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
        return [*self.images.manifest(), "shuffled", *self.views]


class Views:
    """One picture prepared in several ways, {name: tensor}."""

    def __init__(self, transforms: dict[str, Callable[[Any], Any]]) -> None:
        self.transforms = transforms

    def __call__(self, picture: Any) -> dict[str, Any]:
        """Prepare a PIL picture."""
        return {name: transform(picture) for name, transform in self.transforms.items()}

    def __repr__(self) -> str:
        return repr(self.transforms)


def collate(batch: Any, name: Callable[[int], str] = str) -> Batch:
    """A batch of what `Images` yields, without the images that cannot be read; of a batch that is gathered already itself.

    Raises:
        InputError: if there is no other, or they are of several sizes.
    """
    if isinstance(batch, tuple):  # gathered already
        return list(batch)
    readable = [datum for datum in batch if datum is not None]
    if not readable:
        raise InputError(f"All {len(batch)} images of a batch cannot be read; check data.folder.")
    shape = _shape(readable[0][0])
    if other := next((datum for datum in readable if _shape(datum[0]) != shape), None):
        sizes = " and ".join(f"{name(datum[2])} of {_shape(datum[0])}" for datum in (readable[0], other))
        raise InputError(f"The images have several sizes ({sizes}); resize them in data.augment and data.prepare.")
    return default_collate(readable)  # type: ignore[no-any-return]


def _shape(x: Any) -> str:
    """The size of a picture, or the sizes in which it is prepared for several nets."""
    several = list(x.values()) if isinstance(x, Mapping) else x if isinstance(x, list) else [x]
    return ", ".join(" x ".join(map(str, one.shape)) for one in several)
