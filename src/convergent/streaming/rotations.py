"""Nets on randomly rotated axes, as more nets of the same pass: the null of what is said of single units.

A layer's pre-activations are rotated and sent through its own nonlinearity while the net runs; nothing of it is run twice.

Axes: `n` images of a batch, `p` positions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from convergent.errors import InputError
from convergent.streaming.capture import Capture, mask_of, places_of
from convergent.streaming.layers import layout, members_of, random_positions
from convergent.streaming.pre_activations import PreActivations
from convergent.streaming.pre_samples import ByUnit, PreSamples, at_positions, unit_axis_of
from convergent.streaming.unit_axis import axis_by_type

if TYPE_CHECKING:
    from convergent.streaming.collector import First
    from convergent.streaming.layers import Layer
    from convergent.streaming.reading import Reading

BEFORE, LINEAR, AFTER = "before", "linear", "after"

_CALIBRATION = 256  # images that give means and deviations of pre-activations


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
    return wanted or (10 if units < 256 else 3)


class Rotations:
    """Random rotations of the layers of several nets, each net's and each layer's by its own.

    Where a layer ends in a nonlinearity its pre-activations are rotated (`before`); where it mixes units and ends there, as
    a residual stream does, its outputs (`linear`), which is the same. Where neither can be seen, as of branches that are
    joined, its outputs are rotated too, but that null is the weaker one (`after`).

    Args:
        nets: by name.
        layers: {name of the layer: {net: path of its module}}.
        reading: how activations are read. Of a number of random positions of each image only these are rotated, where the
            nonlinearity acts on each position by itself.
        first: gives the first images, the same in all processes: means and deviations of pre-activations come from them.
        draws: how many rotations a layer of so many units gets.
        seed: of all rotations.

    Attributes:
        kind: {(net, layer): how it is rotated}.
        draws: of each layer.
        image_n: numbers of the images that are read, shape (n,); None where all positions are wanted.

    Source: docs/chance.md.
    """

    def __init__(
        self,
        nets: Mapping[str, nn.Module],
        layers: Mapping[str, Layer],
        reading: Reading,
        first: First,
        draws: Callable[[int], int],
        seed: int = 0,
    ) -> None:
        self.nets, self.reading = nets, reading
        self.image_n: Tensor | None = torch.empty(0, dtype=torch.long)
        self.kind: dict[tuple[str, str], str] = {}
        self._members = {
            (net, layer): members_of(layer, path) for layer in layers for net, path in layers[layer].items()
        }
        of_member = {(net, of): path for (net, _), every in self._members.items() for of, path in every.items()}
        self._layer = {(net, of): layer for (net, layer), every in self._members.items() for of in every}
        self._by_type = {(net, of): axis_by_type(nets[net], path) for (net, of), path in of_member.items()}
        self._units: dict[tuple[str, str], tuple[int, str]] = {}  # how many, and where in the output
        self._positions: dict[tuple[str, str], int] = {}  # of each image that are rotated
        self._watching = {net: PreActivations() for net in nets}
        self._handles = ExitStack()
        names = dict.fromkeys(of for _, of in of_member)
        pre = self._calibrate(
            {of: {net: p for (net, name), p in of_member.items() if name == of} for of in names}, first
        )
        for (net, layer), every in self._members.items():  # a population is as weak as its weakest member
            kinds = [self.kind[net, of] for of in every]
            self.kind[net, layer] = next((kind for kind in (AFTER, BEFORE) if kind in kinds), LINEAR)
        self.draws = {layer: range(draws(self.units(layer))) for layer in layers}
        self._turns = {
            (net, layer): [
                [source.turn(_generator(seed, draw, net, layer)) for source in sources]
                for draw in self.draws[self._layer[net, layer]]
            ]
            for (net, layer), sources in pre.items()
        }

    def units(self, layer: str) -> int:
        """How many units a layer has in its widest net."""
        return max(sum(self._units[net, of][0] for of in self._members[net, layer]) for net in self.nets)

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
        units, axis = self._units[net, layer]
        nonlinearity = self._watching[net].nonlinearity(output) if kind == BEFORE else None
        if (chosen_np := self._chosen(net, layer, output)) is not None:
            sources = [at_positions(source, axis, chosen_np) for source in sources]
        spread = [ByUnit.of(source, units, axis) for source in sources]
        for draw, turns in zip(self.draws[self._layer[net, layer]], self._turns[net, layer]):
            rotated = [source.turned(turn) for source, turn in zip(spread, turns)]
            yield rotated_name(net, draw), nonlinearity.again(rotated, output) if nonlinearity else rotated[0]

    def names(self, layer: str, draws: Iterable[int] | None = None) -> list[str]:
        """What a layer's rotated nets are called, rotation by rotation."""
        return [
            rotated_name(net, draw) for draw in (self.draws[layer] if draws is None else draws) for net in self.nets
        ]

    def pairs(
        self, draws: int, pairs: Iterable[tuple[int, int]] | None = None, *, both: bool = False
    ) -> list[tuple[int, int]]:
        """Every rotated net with the other nets, by their numbers in the order of nets, then `names`, for so many rotations.

        With `both`, two nets that are both rotated, by the same draw, too.
        """
        k, of_rotated = len(self.nets), []
        for place in range(k, k * (1 + draws), k):
            for a, b in pairs or combinations(range(k), 2):
                of_rotated += [(a, place + b), (b, place + a), *([(place + a, place + b)] if both else ())]
        return of_rotated

    def multiplications(self, layer: str) -> int:
        """How many the rotations of a layer take for each image, at all positions of the first ones that are rotated."""
        return sum(
            turn.multiplications * self._positions[net, of]
            for net in self.nets
            for of in self._members[net, layer]
            for turns in self._turns[net, of]
            for turn in turns
        )

    def layout(self, net: str, layer: str) -> str:
        """Where a rotated net's activations have their units: where the net's own have them."""
        return self._units[net, next(iter(self._members[net, layer]))][1]

    def _sources(self, net: str, layer: str, output: Tensor) -> tuple[str, list[Tensor]]:
        """How a layer's output is rotated, and what is."""
        watching = self._watching[net]
        axis = layout(output.shape, self.reading.units_of(net), self._by_type[net, layer])
        units = {"channel": output.shape[1], "last": output.shape[-1], "flat": output[:1].numel()}[axis]
        self._units[net, layer] = units, axis
        nonlinearity = watching.nonlinearity(output)
        if nonlinearity and all(unit_axis_of(source, units, axis) is not None for source in nonlinearity.sources):
            return BEFORE, nonlinearity.sources
        return LINEAR if watching.mixes(output) else AFTER, [output]

    def _chosen(self, net: str, layer: str, output: Tensor) -> Tensor | None:
        """The positions of each image that are rotated, shape (n, chosen); None where all are."""
        positions, chosen = output[:1].numel() // self._units[net, layer][0], self.reading.sample
        nonlinearity = self._watching[net].nonlinearity(output) if self.kind[net, layer] == BEFORE else None
        apart = nonlinearity is None or nonlinearity.by_element
        if self.image_n is None or not apart or not isinstance(chosen, int) or not 0 < chosen < positions:
            return None
        image_n = self.image_n if len(self.image_n) else torch.arange(len(output))
        return random_positions(image_n.to(output.device), positions, chosen)

    def _calibrate(self, layers: Mapping[str, Layer], first: First) -> dict[tuple[str, str], list[PreSamples]]:
        """What the first images' pre-activations are like: {(net, layer): of each source}."""
        pre: dict[tuple[str, str], list[PreSamples]] = {}
        batches, places = list[tuple[Tensor, Tensor | None]](), dict[str, Tensor]()

        def measure(net: str, layer: str, output: Tensor) -> None:
            kind, sources = self._sources(net, layer, output)
            self.kind.setdefault((net, layer), kind)
            if not torch.isfinite(output).all():
                raise InputError(
                    f"Layer {layer} of net {net} gives NaN or infinite activations in the first images; check its weights "
                    "and the images, or leave this net or layer out."
                )
            for known, source in zip(pre.setdefault((net, layer), [PreSamples() for _ in sources]), sources):
                at = at_positions(source, self._units[net, layer][1], places[net]) if net in places else source
                known.add(at, *self._units[net, layer], *batches[-1])
            chosen_np, units = self._chosen(net, layer, output), self._units[net, layer][0]
            self._positions[net, layer] = sources[0][:1].numel() // units if chosen_np is None else chosen_np.shape[1]

        with self, Capture(self.nets, layers, measure, output=self.reading.output) as capture:
            for image_n, x in first(_CALIBRATION):
                batches.append((image_n, mask_of(x)))
                places.update(places_of(x))
                capture.run(x)
        return pre


def _generator(seed: int, draw: int, net: str, layer: str) -> torch.Generator:
    digest = hashlib.sha256(f"{seed} {draw} {net} {layer}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def _begin(watching: PreActivations, *_: object) -> None:
    watching.__enter__()


def _end(watching: PreActivations, *_: object) -> None:
    watching.__exit__(None, None, None)
    watching.forget()
