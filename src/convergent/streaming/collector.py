"""What collects something of all activations while nets read the images once; several of these share one pass.

Axes: `n` images of a batch, `c` units of one net, `p` positions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from convergent.errors import InputError
from convergent.streaming.capture import Capture, Seen
from convergent.streaming.layers import Layer, Layers, by_unit, layout, resolve, samples
from convergent.streaming.masks import Unmasked, remaining
from convergent.streaming.pre_samples import at_positions
from convergent.streaming.reading import Reading
from convergent.streaming.rotations import Rotations, rotated_from
from convergent.streaming.unit_axis import axis_by_type

NO_PLACES: Mapping[str, Tensor] = {}  # of nets that all read the same
# So many of the first images of the seeded order, the same in all processes: batches of (image numbers, what each net sees).
First = Callable[[int], Iterator[tuple[Tensor, Mapping[str, Seen]]]]


class Collector(ABC):
    """Open it, run all nets on each batch between `begin` and `end`, and take what was collected with `finish`.

    A subclass says what it does with an activation (`see`), with the end of a batch, and at the end of the pass.

    Args:
        nets: by name.
        layers: whose activations are seen, see `layers.resolve`; or what that gives.
        reading: how activations are read.
        rotations: of the nets, whose activations are seen too, under the rotated nets' names.

    Attributes:
        nets: their names.
        images: how many were read; those of all processes after `finish`.
        image_n: numbers of the images of the batch, on the host.
        unmasked: which positions of these images are samples; None for all.
        memory: bytes that decided what is left to later passes; None where nothing is.
    """

    def __init__(
        self,
        nets: Mapping[str, nn.Module],
        layers: Layers | Mapping[str, Layer],
        reading: Reading,
        rotations: Rotations | None = None,
    ) -> None:
        self.nets, self.layers = list(nets), dict(layers) if isinstance(layers, Mapping) else resolve(nets, layers)
        self.reading, self.rotations = reading, rotations
        self.images, self.image_n = 0, torch.empty(0, dtype=torch.long)
        self.unmasked: Unmasked | None = None
        self.memory: float | None = None
        self._places, self._there_n = NO_PLACES, dict[torch.device, Tensor]()
        self._by_type = {
            (net, layer): axis_by_type(nets[net], path)
            for layer, paths in self.layers.items()
            for net, path in paths.items()
        }
        self._capture = Capture(nets, self.layers, self.see, rotations, self.reading.output)

    def __enter__(self) -> Self:
        self._capture.observer = self.see
        self._capture.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._capture.__exit__()
        self._capture.observer = lambda *_: None  # no cycle, which would keep the sums

    def begin(self, image_n: Tensor, mask_np: Tensor | None = None, places: Mapping[str, Tensor] = NO_PLACES) -> None:
        """Start a batch of these images: numbers, and where some positions are padding which are not, on the host.

        Where nets read other tokens, `places` says at which of its own each net has the mask's positions, shape (n, p).
        """
        self.images += len(image_n)
        self.name_images(image_n, mask_np, places)
        self._capture.begin()

    def label(self, target_n: Tensor) -> None:  # noqa: B027  (most collectors have no use for it)
        """Take the classes of the batch's images, shape (n,)."""

    @abstractmethod
    def see(self, net: str, layer: str, activation: Tensor) -> None:
        """Take the activation of one net's layer, which may be overwritten afterwards."""

    def end(self) -> None:
        """Finish the batch."""
        self._capture.end()

    def finish(self) -> dict[str, Any]:
        """What was collected of each layer, over all processes; the last call.

        Raises:
            InputError: if an activation was NaN or infinite.
        """
        return dict(self.finished())

    def finished(self) -> Iterator[tuple[str, Any]]:
        """The same layer by layer: one can be saved while the next is finished."""
        images = torch.tensor([self.images])
        over_processes(images)
        self.images = int(images)
        yield from self.by_layer()

    def by_layer(self) -> Iterator[tuple[str, Any]]:
        """What was collected, layer by layer, over all processes."""
        yield from self.collected().items()

    @abstractmethod
    def collected(self) -> dict[str, Any]:
        """What was collected of each layer, over all processes."""

    def parts_read(self) -> Mapping[str, Any]:
        """What reads the activations, by name, each with `state` and `load_state` of its own."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """All that was read so far, for a process that takes the pass up where this one was killed."""
        return {"images": torch.tensor(self.images)} | state_of(self.parts_read())

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on where `state` was taken."""
        self.images = int(state["images"])
        for name, part in self.parts_read().items():
            part.load_state(part_of(state, name))

    @abstractmethod
    def plan(self) -> str:
        """A table of what is collected and what it takes, a line per layer."""

    def names(self, layer: str) -> list[str]:
        """Whose activations of a layer are seen: the nets, then the rotated ones."""
        return [*self.nets, *(self.rotations.names(layer) if self.rotations else ())]

    def name_images(
        self, image_n: Tensor, mask_np: Tensor | None = None, places: Mapping[str, Tensor] = NO_PLACES
    ) -> None:
        """Say which images come next, see `begin`."""
        self.image_n, self._there_n, self._places = image_n, {}, places
        sample, drop = self.reading.sample, self.reading.drop
        self.unmasked = None if mask_np is None else Unmasked.of(mask_np, sample, drop, image_n)
        if self.rotations:  # which choose no positions themselves where some are left out
            self.rotations.image_n = None if mask_np is not None or drop else image_n

    def units(self, net: str, layer: str, shape: Sequence[int]) -> str:
        """Where the units of a layer's activation of this shape are: "channel" (axis 1), "last" or "flat"."""
        if self.rotations and (recorded := rotated_from(net)) != net:  # whose shape may be of some positions only
            return self.rotations.layout(recorded, layer)
        return layout(shape, self.reading.units_of(net), self._by_type[net, layer])

    def by_unit(self, net: str, layer: str, activation: Tensor) -> Tensor:
        """An activation with its units in axis 1, see `layers.by_unit`, at the positions that are compared."""
        x_nc = by_unit(activation, self.units(net, layer, activation.shape), f"Layer {layer} of net {net}")
        place_np = self._places.get(rotated_from(net))
        return x_nc if place_np is None or x_nc.ndim < 3 else at_positions(x_nc, "channel", place_np)

    def samples(self, net: str, layer: str, activation: Tensor) -> Tensor:
        """The samples of an activation of the batch, shape (n images, c units, p positions).

        Where positions are masked, shape (s samples, c units, 1): `unmasked` says which images these are of.

        Raises:
            InputError: if there is not one activation for each image.
        """
        where, n = f"Layer {layer} of net {net}", len(self.image_n)
        x_nc = self.by_unit(net, layer, activation)
        if n and len(x_nc) != n:
            raise InputError(
                f"{where} gives {len(x_nc)} activations for a batch of {n} images; choose a layer whose first axis is the "
                "batch (batch_first=True for recurrent nets and transformers)."
            )
        x_nc = remaining(x_nc, self.reading.drop, where)
        if self.unmasked and self.unmasked.of_layer(x_nc, where):
            return self.unmasked.samples(x_nc.flatten(2))
        random = isinstance(self.reading.sample, int) and n
        return samples(x_nc, self.reading.sample, where, self.images_on(activation.device) if random else None)

    def images_on(self, device: torch.device) -> Tensor:
        """The numbers of the batch's images on a device, without waiting for it."""
        if self.image_n.device == device:
            return self.image_n
        if device not in self._there_n:
            self._there_n[device] = self.image_n.pin_memory().to(device, non_blocking=True)
        return self._there_n[device]


# What starts a collector, given the nets, the number of images in all processes together where it is known, and the first.
Start = Callable[[Mapping[str, nn.Module], int | None, First], Collector]


def table_of(headings: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int) -> str:
    """A table in plain text; all columns but the first few are numbers."""
    columns = []
    for number, column in enumerate(zip(headings, *rows)):
        width = max(map(len, column))
        columns.append([cell.ljust(width) if number < text_columns else cell.rjust(width) for cell in column])
    return "\n".join("  ".join(row) for row in zip(*columns))


def state_of(parts: Mapping[str, Any]) -> dict[str, Tensor]:
    """The states of several parts, on the host, whose tensors are called NAME/..."""
    return {f"{name}/{key}": x.cpu() for name, part in parts.items() for key, x in part.state().items()}


def part_of(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """What a state says of one part."""
    head = f"{name}/"
    return {key.removeprefix(head): x for key, x in state.items() if key.startswith(head)}


def over_processes(x: Tensor, device: torch.device | None = None) -> None:
    """Add a tensor on the host up over all processes, in place, through a GPU if need be."""
    _through(device, x, torch.distributed.all_reduce)


def of_other_processes(state: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """The tensors that the other processes have under the same names, of the same shapes, process by process."""
    dist = torch.distributed
    if not (dist.is_available() and dist.is_initialized()):
        return
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    gathered = {}
    for name, tensor in state.items():
        here = tensor.to(device).contiguous()
        gathered[name] = [torch.empty_like(here) for _ in range(dist.get_world_size())]
        dist.all_gather(gathered[name], here)
    for rank in range(dist.get_world_size()):
        if rank != dist.get_rank():
            yield {name: gathered[name][rank].to(state[name].device) for name in state}


def from_first_process(x: Tensor, device: torch.device | None = None) -> None:
    """Take the first process's tensor in all processes, in place, see `over_processes`."""
    _through(device, x, lambda there: torch.distributed.broadcast(there, 0))


def _through(device: torch.device | None, x: Tensor, exchange: Callable[[Tensor], Any]) -> None:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return
    if torch.distributed.get_backend() != "nccl":
        exchange(x)
        return
    there = x.to("cuda" if device is None or device.type == "cpu" else device)
    exchange(there)
    x.copy_(there)
