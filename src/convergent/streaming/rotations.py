"""Nets on randomly rotated axes, as more nets of the same pass: the null of what is said of single units.

A layer's pre-activations are rotated and sent through its own nonlinearity while the net runs; nothing of the net is run
twice.

Axes: `n` images of a batch, `c` units of one net, `p` positions, `s` samples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from convergent.core.moments import Moments
from convergent.core.rotation import turning
from convergent.errors import InputError
from convergent.streaming.capture import Capture
from convergent.streaming.inputs import run
from convergent.streaming.layers import layout, random_positions
from convergent.streaming.pre_activations import PreActivations
from convergent.streaming.unit_axis import axis_by_type

if TYPE_CHECKING:
    from convergent.streaming.collector import First
    from convergent.streaming.layers import Layer
    from convergent.streaming.reading import Reading

BEFORE, LINEAR, AFTER = "before", "linear", "after"

_CALIBRATION, _POSITIONS = 256, 64  # images that give means and deviations of pre-activations, and positions of each


def rotated_name(net: str, draw: int) -> str:
    """What a net is called on the axes of one rotation."""
    return f"{net}, rotation {draw}"


def rotated_from(name: str) -> str:
    """The net behind the name of a rotated one; of any other name itself.

    >>> rotated_from(rotated_name("seed=0", 3)), rotated_from("seed=0")
    ('seed=0', 'seed=0')
    """
    return name.rpartition(", rotation ")[0] or name


def draws_of(units: int, wanted: int | None = None) -> int:
    """How many rotations a layer of so many units gets: where these are few, more, so that a draw decides nothing.

    >>> draws_of(32), draws_of(128), draws_of(1024), draws_of(1024, wanted=10)
    (10, 10, 3, 10)
    """
    return max(3, min(10, 1280 // max(units, 1))) if wanted is None else wanted


class Rotations:
    """Random rotations of the layers of several nets, each net's and each layer's by its own.

    Where a layer ends in a nonlinearity its pre-activations are rotated (`before`); where it mixes units and ends there, as
    a residual stream does, its outputs (`linear`), which is the same. Where neither can be seen, as of branches that are
    joined, its outputs are rotated too, but that null is the weaker one (`after`).

    Args:
        nets: by name.
        layers: {name of the layer: {net: path of its module}}.
        how: activations are read.
        first: gives the first images, the same in all processes: means and deviations of pre-activations come from them.
        draws: which rotations a layer of so many units gets.
        seed: of all rotations.

    Attributes:
        kind: {(net, layer): how it is rotated}.
        nets: by name.

    Source: docs/chance.md.
    """

    def __init__(
        self,
        nets: Mapping[str, nn.Module],
        layers: Mapping[str, Layer],
        how: Reading,
        first: First,
        draws: Callable[[int], range],
        seed: int = 0,
    ) -> None:
        self.nets, self.how = nets, how
        self.kind: dict[tuple[str, str], str] = {}
        self.draws: dict[str, range] = {}
        self._by_type = {
            (net, layer): axis_by_type(nets[net], path) for layer in layers for net, path in layers[layer].items()
        }
        self._units: dict[tuple[str, str], tuple[int, int]] = {}  # how many, and in which axis of the output
        self._watching = {net: PreActivations() for net in nets}
        self._handles = ExitStack()
        pre = self._calibrate(layers, first)
        for layer in layers:
            self.draws[layer] = draws(max(self._units[net, layer][0] for net in nets))
        self._maps = {
            (net, layer): [
                [_on(source, *turning(moments, _generator(seed, draw, net, layer))) for moments, source in sources]
                for draw in self.draws[layer]
            ]
            for (net, layer), sources in pre.items()
        }

    def __enter__(self) -> None:
        for net, module in self.nets.items():
            watching = self._watching[net]
            before = module.register_forward_pre_hook(partial(_begin, watching))
            after = module.register_forward_hook(partial(_end, watching), always_call=True)
            self._handles.callback(before.remove)
            self._handles.callback(after.remove)

    def __exit__(self, *exception: object) -> None:
        self._handles.close()

    def of(self, net: str, layer: str, output: Tensor) -> Iterator[tuple[str, Tensor]]:
        """A layer's activation on the axes of every rotation, with what the net is then called.

        Raises:
            InputError: if the layer's output came about in another way than for the first images.
        """
        kind, sources = self._sources(net, layer, output)
        if kind != self.kind[net, layer]:
            raise InputError(
                f"Layer {layer} of net {net} ends in another function here than for the first images, so it cannot be "
                "rotated before its nonlinearity; leave it out, or this null (nulls=[shuffled])."
            )
        found = self._watching[net].nonlinearity(output)
        spread = [_Spread.of(source, *self._units[net, layer]) for source in sources]
        for draw, maps in zip(self.draws[layer], self._maps[net, layer]):
            turned = [source.turned(*of) for source, of in zip(spread, maps)]
            yield rotated_name(net, draw), found.again(turned, output) if found and kind == BEFORE else turned[0]

    def names(self, layer: str) -> list[str]:
        """What a layer's rotated nets are called, rotation by rotation."""
        return [rotated_name(net, draw) for draw in self.draws[layer] for net in self.nets]

    def pairs(
        self, layer: str, wanted: Iterable[tuple[int, int]] | None = None, *, both: bool = False
    ) -> list[tuple[int, int]]:
        """Every rotated net of a layer with the other nets, by their numbers in the order of nets, then `names`.

        Args:
            layer: its name.
            wanted: pairs of nets that are to be compared; all with all by default.
            both: also of two nets that are both rotated, by the same draw.
        """
        k, found = len(self.nets), []
        for place in range(k, k * (1 + len(self.draws[layer])), k):
            for a, b in wanted or combinations(range(k), 2):
                found += [(a, place + b), (b, place + a), *([(place + a, place + b)] if both else ())]
        return found

    def _sources(self, net: str, layer: str, output: Tensor) -> tuple[str, list[Tensor]]:
        """How a layer's output is rotated, and what is."""
        watching = self._watching[net]
        axis = layout(output.shape, self.how.units_of(net), self._by_type[net, layer])
        units = {"channel": output.shape[1], "last": output.shape[-1], "flat": output[:1].numel()}[axis]
        self._units[net, layer] = units, -1 if axis == "last" else 1
        found = watching.nonlinearity(output)
        if found and all(_axis(source, *self._units[net, layer]) is not None for source in found.sources):
            return BEFORE, found.sources
        return LINEAR if watching.mixes(output) else AFTER, [output]

    def _calibrate(
        self, layers: Mapping[str, Layer], first: First
    ) -> dict[tuple[str, str], list[tuple[Moments, Tensor]]]:
        """The moments of the first images' pre-activations, and a tensor on their device: {(net, layer): of each source}."""
        pre: dict[tuple[str, str], list[tuple[Moments, Tensor]]] = {}
        numbers: list[Tensor] = []

        def measure(net: str, layer: str, output: Tensor) -> None:
            kind, sources = self._sources(net, layer, output)
            self.kind.setdefault((net, layer), kind)
            if not torch.isfinite(output).all():
                raise InputError(
                    f"Layer {layer} of net {net} gives NaN or infinite activations in the first images; check its weights "
                    "and the images, or leave this net or layer out."
                )
            batch = [
                (Moments.of(_samples(source, *self._units[net, layer], numbers[-1])), source[:0]) for source in sources
            ]
            if before := pre.get((net, layer)):
                batch = [(moments + more, there) for (moments, there), (more, _) in zip(before, batch)]
            pre[net, layer] = batch

        with self, Capture(self.nets, layers, measure, output=self.how.output) as capture:
            for image_n, x in first(_CALIBRATION):
                numbers.append(image_n)
                capture.begin()
                for name, net in self.nets.items():
                    run(net, x[name])
                capture.end()
        return pre


def _axis(x: Tensor, units: int, usual: int) -> int | None:
    """Where a tensor has its units: the usual axis, another one, 0 for "every element of an image", None for nowhere."""
    for axis in (usual, 1, -1):
        if x.ndim > 1 and x.shape[axis] == units:
            return axis % x.ndim
    return 0 if x[:1].numel() == units * len(x[:1]) else None


def _last(x: Tensor, units: int, usual: int) -> Tensor:
    """A tensor as a view with its units in the last axis."""
    axis = _axis(x, units, usual)
    return x.movedim(axis, -1) if axis else x.flatten(1)


def _samples(x: Tensor, units: int, usual: int, image_n: Tensor) -> Tensor:
    """Some positions of every image as samples, shape (s, c)."""
    x_npc = _last(x, units, usual).reshape(len(x), -1, units)
    if x_npc.shape[1] > _POSITIONS:
        chosen_np = random_positions(image_n.to(x.device), x_npc.shape[1], _POSITIONS)
        x_npc = x_npc.gather(1, chosen_np[:, :, None].expand(-1, -1, units))
    return x_npc.flatten(0, 1)


@dataclass(frozen=True)
class _Spread:
    """A tensor laid out unit by unit, shape (c, s), as one matrix product wants it, for all rotations."""

    x: Tensor
    x_cs: Tensor
    axis: int

    @classmethod
    def of(cls, x: Tensor, units: int, usual: int) -> _Spread:
        axis = _axis(x, units, usual) or 0
        x_cs = (x.movedim(axis, 0) if axis else x.flatten(1).T).reshape(units, -1)
        return cls(x, x_cs.to(torch.promote_types(x.dtype, torch.float32)), axis)

    def turned(self, turn_cc: Tensor, offset_c: Tensor) -> Tensor:
        """The tensor rotated over its units."""
        turned_cs = torch.addmm(offset_c[:, None], turn_cc.T, self.x_cs).to(self.x.dtype)
        if not self.axis:
            return turned_cs.T.reshape(self.x.shape)
        others = [size for axis, size in enumerate(self.x.shape) if axis != self.axis]
        return turned_cs.view(-1, *others).movedim(0, self.axis)


def _on(x: Tensor, turn_cc: Tensor, offset_c: Tensor) -> tuple[Tensor, Tensor]:
    """A rotation on the device of what it is to rotate, in float32 at least."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    return turn_cc.to(x.device, dtype), offset_c.to(x.device, dtype)


def _generator(seed: int, draw: int, net: str, layer: str) -> torch.Generator:
    """Of one rotation: each net's and each layer's is its own, whatever else is compared."""
    digest = hashlib.sha256(f"{seed} {draw} {net} {layer}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def _begin(watching: PreActivations, *_: object) -> None:
    watching.__enter__()  # type: ignore[no-untyped-call]


def _end(watching: PreActivations, *_: object) -> None:
    watching.__exit__(None, None, None)  # type: ignore[no-untyped-call]
    watching.forget()
