"""Any loader's batches: which images they are, what each net sees of them, and which positions are samples.

Axes: `n` images (or texts) of a batch, `p` positions.
"""

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, SequentialSampler

from convergent.core.blocks import block_of_image
from convergent.core.matrices import described
from convergent.data.numbered import WHOLE, check_numbers
from convergent.errors import InputError
from convergent.streaming.capture import Input, Seen
from convergent.streaming.reading import Reading

_AT_ONCE = 32  # images that are read before the pass
_ALONE = 1024  # up to so many of them are read without workers, which take seconds to start


def first_batches(loader: DataLoader[Any], n: int) -> Iterator[tuple[Tensor, Any]]:
    """Up to n of the first images of the seeded order of a data set with a length, in small batches, with their numbers."""
    images = len(loader.dataset)  # type: ignore[arg-type]
    order_n = block_of_image(images, images).argsort()[:n]
    reader: DataLoader[Any] = DataLoader(
        loader.dataset,
        _AT_ONCE,
        sampler=order_n.tolist(),
        num_workers=loader.num_workers if len(order_n) > _ALONE else 0,
        collate_fn=loader.collate_fn,
        generator=torch.Generator(),  # or its seed would come from the caller's random state
        multiprocessing_context=loader.multiprocessing_context if len(order_n) > _ALONE else None,
    )
    yield from zip(torch.split(order_n, _AT_ONCE), reader)


class Batches:
    """The batches of any iterable, read once.

    A batch is a tensor, (x,), (x, y), (x, y, image numbers), or a mapping such as a tokenizer gives, whose values are the
    net's arguments by name; anything else needs `Reading.forward`. Images are numbered as they come where no numbers are
    given. How many there are a data set's length says, or a list of batches; otherwise nobody knows (`images` is None).

    Raises:
        InputError: if it is no iterable of batches.
    """

    def __init__(self, nets: Mapping[str, nn.Module], loader: Iterable[Any], reading: Reading) -> None:
        if isinstance(loader, (Tensor, Mapping, str)) or not isinstance(loader, Iterable) or _is_batch(loader):
            raise InputError(
                f"A loader needs to give one batch after another, not be {described(loader)}; give a DataLoader, or [batch]."
            )
        self.nets, self.reading, self.images = nets, reading, None
        self._devices = {name: device_of(net) for name, net in nets.items()}
        self._whole = _whole(loader)
        if self._whole is not None:
            self.images = len(self._whole.dataset)  # type: ignore[arg-type]
        elif isinstance(loader, Sequence):
            self.images = sum(self._size(batch) for batch in loader)
        self._rest: Iterator[Any] = iter(loader) if self._whole is None else iter(())
        self.target_n: Tensor | None = None  # of the batch that was given last, where it has some
        self._waiting: list[Any] = []  # read before the pass, for its first images

    def first(self, n: int) -> Iterator[tuple[Tensor, dict[str, Seen]]]:
        """Up to n images: of a data set the first of the seeded order, otherwise the first that come.

        Raises:
            InputError: if there are none.
        """
        if self._whole is not None:
            for image_n, batch in first_batches(self._whole, n):
                self._numbers(batch, self._size(batch))
                yield image_n, self._seen(batch)
            return
        begun = 0
        for number in range(n):
            if number == len(self._waiting):
                self._waiting += [batch for _, batch in zip(range(1), self._rest)]
            if begun >= n or number == len(self._waiting):
                break
            batch = self._waiting[number]
            self._numbers(batch, self._size(batch))
            batch = _cut(batch, self._size(batch), n - begun)
            yield torch.arange(begun, begun + self._size(batch)), self._seen(batch)
            begun += self._size(batch)
        if not begun:
            raise InputError("The loader gives no batch; a generator is read but once, so make a new one.")

    def __iter__(self) -> Iterator[tuple[Tensor, dict[str, Seen]]]:
        """All batches: the images' numbers on the host, and what each net sees."""
        come = 0
        waiting, self._waiting = self._waiting, []
        for batch in chain(waiting, self._rest if self._whole is None else self._whole):
            size = self._size(batch)
            image_n = self._numbers(batch, size)
            y_n = batch[1] if isinstance(batch, (tuple, list)) and len(batch) > 1 else None
            self.target_n = (
                y_n if isinstance(y_n, Tensor) and y_n.dtype == torch.int64 and y_n.shape == (size,) else None
            )
            yield torch.arange(come, come + size) if image_n is None else image_n, self._seen(batch)
            come += size

    def _inputs(self, batch: Any) -> Any:
        """What the nets are given of a batch.

        Raises:
            InputError: if that is not known.
        """
        if self.reading.forward is not None:
            return batch
        x = batch[0] if isinstance(batch, (tuple, list)) and 0 < len(batch) <= 3 else batch
        if (isinstance(x, Tensor) and x.ndim) or (isinstance(x, Mapping) and x):
            return x
        raise InputError(
            "A batch needs to be a tensor, (x, y), (x, y, image numbers) or a mapping from the net's arguments to tensors, "
            f"not {described(batch)}; say how a net takes it: reading=Reading(forward=lambda net, batch: net(...))."
        )

    def _size(self, batch: Any) -> int:
        x = self._inputs(batch)
        tensors = [leaf for leaf in tree_leaves(_plain(x)) if isinstance(leaf, Tensor) and leaf.ndim]
        if not tensors:
            raise InputError(f"A batch needs a tensor that says how many images it has, not {described(batch)}.")
        return len(tensors[0])

    def _numbers(self, batch: Any, size: int) -> Tensor | None:
        """The numbers of a batch's images where it has them.

        Raises:
            InputError: if they are none.
        """
        if self.reading.forward is not None or not isinstance(batch, (tuple, list)) or len(batch) < 3:
            return None
        image_n = batch[2]
        if not isinstance(image_n, Tensor) or image_n.dtype not in WHOLE or image_n.shape != (size,):
            raise InputError(
                f"The third part of a batch needs to be the numbers of its {size} images, whole ones, not "
                f"{described(image_n)}; leave it out, or say with forward= how a net takes the batch."
            )
        image_n = image_n.cpu().long()
        if len(torch.unique(image_n)) < size:
            raise InputError(
                "The third part of a batch is taken for the numbers of its images, but one comes twice; leave it out, or "
                "say with forward= how a net takes the batch."
            )
        if self.images is not None:
            check_numbers(image_n, self.images)
        return image_n

    def _seen(self, batch: Any) -> dict[str, Seen]:
        x, mask_np = _plain(self._inputs(batch)), self._mask(batch)
        on = cache(lambda device: _moved(x, device))
        if isinstance(x, Tensor) and mask_np is None and self.reading.forward is None:
            return {net: on(device) for net, device in self._devices.items()}
        return {net: Input(partial(self._run, net, on(device)), mask_np) for net, device in self._devices.items()}

    def _run(self, name: str, x: Any, net: nn.Module) -> object:
        if self.reading.forward is not None:
            return self.reading.forward(net, x)
        if isinstance(x, Tensor):
            return net(x)
        try:
            inspect.signature(net.forward).bind(**x)
        except TypeError as error:
            raise InputError(
                f"Net {name} does not take a batch of {', '.join(x)} ({error}); say how it does: "
                "reading=Reading(forward=lambda net, batch: net(...))."
            ) from None
        return net(**x)

    def _mask(self, batch: Any) -> Tensor | None:
        """Which positions of a batch are samples.

        Raises:
            InputError: if the mask that was asked for is not there, or is none.
        """
        mask, x = self.reading.mask, self._inputs(batch)
        if callable(mask):
            mask_np = mask(batch)
        elif mask is None or not isinstance(x, Mapping) or (mask not in x and mask == Reading.mask):
            return None
        elif mask not in x:
            raise InputError(f"A batch of {', '.join(map(str, x))} has no mask {mask!r}; name one of these as mask=.")
        else:
            mask_np = x[mask]
        size = self._size(batch)
        if not isinstance(mask_np, Tensor) or mask_np.ndim != 2 or len(mask_np) != size:
            raise InputError(
                f"A mask needs to be a tensor with a row for each of the {size} images of a batch and a column for each "
                f"position, true for samples, not {described(mask_np)}."
            )
        return mask_np.cpu()


def _is_batch(loader: Iterable[Any]) -> bool:
    """Whether it is (x, y) rather than batches, as `x.split(n)` gives: of other shapes but for their number."""
    if not isinstance(loader, tuple) or not all(isinstance(x, Tensor) for x in loader):
        return False
    return len({x.shape[1:] for x in loader}) > 1


def device_of(net: nn.Module) -> torch.device:
    """Where a net is: its first parameter or buffer; the processor for a net that has none."""
    return next((x.device for tensors in (net.parameters(), net.buffers()) for x in tensors), torch.device("cpu"))


def _whole(loader: Iterable[Any]) -> DataLoader[Any] | None:
    """The loader if it gives every item of a data set once, so that these are counted, and can be read in another order."""
    if (
        not isinstance(loader, DataLoader)
        or isinstance(loader.dataset, IterableDataset)
        or loader.batch_sampler is None
    ):
        return None
    sampler = loader.sampler
    every = isinstance(sampler, SequentialSampler) or (isinstance(sampler, RandomSampler) and not sampler.replacement)
    return loader if every and len(loader.dataset) else None  # type: ignore[arg-type]


def _plain(batch: Any) -> Any:
    """A batch whose mappings are dictionaries: a tokenizer's are of a class of their own."""
    return dict(batch) if isinstance(batch, Mapping) else batch


def _cut(batch: Any, size: int, n: int) -> Any:
    """The first n of a batch of so many."""
    if n >= size:
        return batch
    return tree_map(lambda x: x[:n] if isinstance(x, Tensor) and x.ndim and len(x) == size else x, _plain(batch))


def _moved(x: Any, device: torch.device) -> Any:
    if callable(getattr(x, "to", None)) and not isinstance(x, Mapping):
        return x.to(device)
    return tree_map(lambda leaf: leaf.to(device) if isinstance(leaf, Tensor) else leaf, x)
