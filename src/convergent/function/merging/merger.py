"""Aligning every two nets in every way that is asked for, and judging what lies between them, then all nets in one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from convergent.core.alignment import Method
from convergent.errors import InputError
from convergent.function.merging.aligners import Aligners
from convergent.function.merging.alignments import Measured
from convergent.function.merging.line import Average, Judge, Place
from convergent.function.merging.permutations import first_tensor, named_tensors
from convergent.function.merging.repair import Statistics, has_batch_norm, repaired, statistics
from convergent.function.merging.ties import Ties
from convergent.progress import track
from convergent.streaming.loader import device_of, first_batches

ALL = "all"  # in place of net b's name: all nets averaged
_IMAGES, _BATCH = 512, 256  # that the statistics of units are renewed from, so many at a time
_CHECKED = 16  # images on which a reordered net is compared with itself
_BYTES = 2e9  # of moments in one pass


@dataclass(eq=False)
class Merged:
    """What merging gave.

    Attributes:
        places: on the lines between every two nets.
        together: all nets in one, whose `b` is `ALL` and whose `share_b` is that of each net.
        nets: all nets in one, by alignment, repaired where that was asked for.
        difference: the largest that reordering made in a net's outputs, relative to the largest output.
    """

    places: list[Place] = field(default_factory=list)
    together: list[Place] = field(default_factory=list)
    nets: dict[str, nn.Module] = field(default_factory=dict)
    difference: float = 0.0


@dataclass(frozen=True, eq=False)
class Merger:
    """Nets that are to be merged, and the images that this needs.

    Attributes:
        nets: by name, in evaluation mode; left as they are.
        ties: which of their units belong together.
        batches: images from which the statistics of units are renewed.
        judge: of merged nets.
        repair: whether they are judged with these statistics renewed, too.
        seed: of what is random.
    """

    nets: Mapping[str, nn.Module]
    ties: Ties
    batches: Sequence[Tensor]
    judge: Judge
    repair: bool = True
    seed: int = 0

    @classmethod
    def of(
        cls, nets: Mapping[str, nn.Module], loader: Iterable[Any], held_out: Iterable[Any], repair: bool, seed: int
    ) -> Merger:
        """Find out which units of nets belong together.

        Raises:
            InputError: if the nets are of different architectures, their ties are not known, or there are no images.
        """
        first = next(iter(nets.values()))
        batches = _first_images(loader, device_of(first))
        check_alike(nets, batches[0][:2])
        ties = Ties.of(first, batches[0][:2])
        return cls(nets, ties, batches, Judge(held_out, device_of(first)), repair, seed)

    def passes(self) -> Iterator[list[str]]:
        """The layers whose moments alignments on images need, as many at a time as memory has room for."""
        together: list[str] = []
        needed = 0.0
        for group in self.ties.groups:
            units = group.atom.size * max([axis.size for axis in group.inner], default=1)
            for point in group.points:
                needed += (more := 8.0 * (len(self.nets) * units) ** 2)
                if together and needed > _BYTES:
                    yield together
                    together, needed = [], more
                together.append(point)
        if together:
            yield together

    def merge(self, alignments: Mapping[str, Method | str], measured: Measured) -> Merged:
        """Merge every two nets, and all of them, by every alignment.

        Raises:
            InputError: if a method is not one to one, or a reordered net is another function.
        """
        names, merged = list(self.nets), Merged()
        aligners = Aligners(self.nets, self.ties, measured, self.batches[0][:_CHECKED], self.seed)
        pairs = list(combinations(names, 2))
        steps = track([(name, *pair) for name in alignments for pair in pairs], "merging")
        for name, a, b in steps:
            if (a, b) == pairs[0]:  # what was aligned otherwise is let go
                aligned = aligners.of(alignments[name])
            ends, average, difference = aligned([a, b])
            merged.places += self._line(a, b, name, ends, average)
            merged.difference = max(merged.difference, difference)
            if (a, b) == pairs[-1]:
                every, average, _ = aligned(names)
                judged = list(self._judged(every, [1 / len(every)] * len(every), average))
                chord = sum(self._ends[net][0] for net in names) / len(names)
                for repair, (_, loss, accuracy) in enumerate(judged):
                    place = Place(names[0], ALL, name, bool(repair), 1 / len(every), loss, accuracy, loss - chord)
                    merged.together.append(place)
                merged.nets[name] = judged[-1][0]
        return merged

    @cached_property
    def _ends(self) -> dict[str, tuple[float, float]]:
        """Loss and accuracy of every net."""
        return {name: self.judge(net) for name, net in self.nets.items()}

    def _line(self, a: str, b: str, alignment: str, ends: Sequence[nn.Module], average: Average) -> Iterator[Place]:
        """The places between two nets that are aligned with one another."""
        for share in average.shares:
            if 0 < share < 1:
                judged = [of[1:] for of in self._judged(ends, [1 - share, share], average)]
            else:
                judged = [self._ends[b if share else a]] * (1 + self.repair)
            chord = (1 - share) * self._ends[a][0] + share * self._ends[b][0]
            for repair, (loss, accuracy) in enumerate(judged):
                yield Place(a, b, alignment, bool(repair), share, loss, accuracy, loss - chord)

    def _judged(
        self, nets: Sequence[nn.Module], shares: Sequence[float], average: Average
    ) -> Iterator[tuple[nn.Module, float, float]]:
        """The average of nets with its loss and accuracy, and the same repaired, if it is to be."""
        net = average.net(nets, shares)
        yield net, *self.judge(net)
        if self.repair:
            targets = {} if has_batch_norm(net) else average.mixed([self._statistics(end) for end in nets], shares)
            yield (net := repaired(net, targets, self.batches)), *self.judge(net)

    @cached_property
    def _statistics(self) -> Callable[[nn.Module], Statistics]:
        return lru_cache(len(self.nets) + 1)(lambda net: statistics(net, self.batches))


def check_alike(nets: Mapping[str, nn.Module], x: Tensor) -> None:
    """Find out that nets are of one architecture: the same parameters, and outputs of the same size.

    Raises:
        InputError: if they are not.
    """
    first, *others = nets
    with torch.no_grad():
        classes = {name: first_tensor(it(x)).shape[-1] for name, it in nets.items()}
    shapes = {name: {key: tuple(t.shape) for key, t in named_tensors(it).items()} for name, it in nets.items()}
    for name in others:
        if classes[name] != classes[first]:
            raise InputError(
                f"Nets to be merged need the same classes, but {first} has {classes[first]} and {name} {classes[name]}; "
                "merge nets that were trained on the same classes."
            )
        different = [
            key for key in {**shapes[first], **shapes[name]} if shapes[first].get(key) != shapes[name].get(key)
        ]
        if different:
            there, here = (shapes[of].get(different[0], "not there") for of in (first, name))
            raise InputError(
                f"Nets to be merged need one architecture, but {different[0]} is {there} in {first} and {here} in {name}; "
                "merge nets that differ in their weights only."
            )


def _first_images(loader: Iterable[Any], device: torch.device) -> list[Tensor]:
    """Images of a loader, where the nets are, in batches: of a data set's random ones, otherwise the first.

    Raises:
        InputError: if there are none.
    """
    taken: list[Tensor] = []
    for batch in (of for _, of in first_batches(loader, _IMAGES)) if isinstance(loader, DataLoader) else loader:
        taken.append(batch[0] if isinstance(batch, (tuple, list)) else batch)
        if sum(map(len, taken)) >= _IMAGES:
            break
    if not taken:
        raise InputError("Merging needs images, but its loader gives no batch; a generator is read but once.")
    return list(torch.split(torch.cat(taken)[:_IMAGES].to(device), _BATCH))
