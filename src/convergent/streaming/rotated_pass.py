"""Second moments of nets on randomly rotated axes, with one another and with the nets themselves: what chance gives."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from convergent.core.layer_moments import LayerMoments
from convergent.core.pairs import Pair
from convergent.storage.tensors import opened
from convergent.streaming.collector import First, Start, table_of
from convergent.streaming.layers import Layer, resolve
from convergent.streaming.reading import Reading
from convergent.streaming.rotations import AFTER, BEFORE, Rotations, draws_of, rotated_name
from convergent.streaming.saved_moments import SavedMoments
from convergent.streaming.statistics_pass import CALIBRATION, StatisticsPass

# Rotations of which blocks of images are kept apart, so that methods have held-out scores there, and how many blocks.
SCORED, BLOCKS = 3, 10

_HEADINGS = ("random rotations of", "before the nonlinearity", "rotations", "blocks", "memory")


@dataclass(frozen=True, eq=False)
class RotatedMoments:
    """The second moments of a layer's nets and of their random rotations.

    Attributes:
        moments: nets first, then rotation by rotation the rotated nets.
        nets: names of the nets.
        draws: numbers of the rotations.
        weaker: nets that were rotated after their nonlinearity, for it could not be seen.
    """

    moments: LayerMoments
    nets: Sequence[str]
    draws: Sequence[int]
    weaker: Sequence[str]

    def pair(self, a: int, b: int, draw: int, *, both: bool = False) -> Pair:
        """Net a as it is (or rotated too, by a rotation of its own) and net b rotated, under the nets' own names."""
        name_a, name_b = self.nets[a], self.nets[b]
        of_a = rotated_name(name_a, draw) if both else name_a
        return replace(self.moments.pair(of_a, rotated_name(name_b, draw)), name_a=name_a, name_b=name_b)


class RotatedPass(StatisticsPass):
    """Collects the second moments of all layers on randomly rotated axes, each rotated net with every other net.

    Attributes:
        idle: layers so wide that the few rotations which they get are not among those collected here.
    """

    exact = False  # what chance gives need not be known to twelve digits
    idle: Sequence[str] = ()

    @classmethod
    def start_rotated(
        cls,
        layers: Sequence[str | Sequence[str] | Layer],
        how: Reading,
        pairs: Iterable[tuple[str, str]] | None,
        draws: Callable[[int], range],
    ) -> Start:
        """What starts this collector in a pass.

        Args:
            layers: what is compared, see `layers.resolve`.
            how: activations are read.
            pairs: names of the nets that are to be compared; all with all by default.
            draws: which rotations a layer of so many units gets.
        """
        wanted = None if pairs is None else list(pairs)

        def started(nets: Mapping[str, nn.Module], images: int | None, first: First) -> RotatedPass:
            every = resolve(nets, layers)
            rotations = Rotations(nets, every, how, first, draws)
            _, x = next(first(CALIBRATION))
            rotated = [paths for layer, paths in every.items() if rotations.draws[layer]]
            started = cls(nets, rotated, images, x, how, wanted, rotations)
            started.idle = [layer for layer in every if not rotations.draws[layer]]
            return started

        return started

    def pairs_of(self, layer: str) -> list[tuple[int, int]]:
        """Every rotated net with the others, as they are and on the axes of the same rotation."""
        assert self.rotations is not None
        return self.rotations.pairs(layer, super().pairs_of(layer), both=True)

    def collected(self) -> dict[str, RotatedMoments]:  # type: ignore[override]
        """The moments of every layer, summed over all processes."""
        assert self.rotations is not None
        rotations, found = self.rotations, {}
        for layer, moments in super().collected().items():
            weaker = [net for net in self.nets if rotations.kind[net, layer] == AFTER]
            found[layer] = RotatedMoments(moments, self.nets, rotations.draws[layer], weaker)
        for layer in self.idle:
            none = LayerMoments(layer, self.nets, [], torch.zeros(0), torch.zeros(0, 0), {}, self.images)
            found[layer] = RotatedMoments(none, self.nets, (), ())
        return found

    def plan(self) -> str:
        """A table of what is rotated and what it takes, a line per layer."""
        assert self.rotations is not None
        rows = []
        for layer, accumulator in self.accumulators.items():
            kinds = {self.rotations.kind[net, layer] for net in self.nets}
            told = "no: none was seen" if AFTER in kinds else "yes" if kinds == {BEFORE} else "yes, or there is none"
            draws = self.rotations.draws[layer]
            memory = f"{accumulator.memory / 1e6:,.0f} MB"
            rows.append([layer, told, f"{len(draws)}", f"{accumulator.blocks}", memory])
        return table_of(_HEADINGS, rows, 2)


@dataclass(frozen=True)
class SavedRotations:
    """Moments on rotated axes as a product of a pass, see `measurement.Artifact`.

    Attributes:
        rotations: how many of each layer; None for as many as `rotations.draws_of` gives its width.
        scored: the first few, in blocks of images, for whole methods; otherwise the others, for what costs little.
    """

    rotations: int | None = None
    scored: bool = True

    @property
    def folder(self) -> str:
        """Named after all that they depend on beside the moments' key."""
        some = "" if self.rotations is None else f",rotations={self.rotations}"
        return f"rotated{some}{'' if self.scored else ',others'}"

    def draws(self, units: int) -> range:
        """Which rotations of a layer of so many units."""
        every = draws_of(units, self.rotations)
        return range(min(SCORED, every)) if self.scored else range(SCORED, every)

    def start(self, layers: Sequence[Layer], how: Reading, pairs: Iterable[tuple[str, str]] | None) -> Start:
        """What starts their collector."""
        blocks = BLOCKS if self.scored else 1
        return RotatedPass.start_rotated(layers, replace(how, blocks=min(how.blocks, blocks)), pairs, self.draws)

    def save(self, found: RotatedMoments, file: Path) -> None:
        """Save those of one layer."""
        about = {"nets": found.nets, "draws": list(found.draws), "weaker": found.weaker}
        SavedMoments().save(found.moments, file, {"rotations": json.dumps(about)})

    def load(self, file: Path, layer: str, nets: Sequence[str]) -> RotatedMoments:
        """Those of one layer; sums of products are read when asked for."""
        with opened(file) as saved:
            about = json.loads(saved.metadata()["rotations"])
        names = [*nets, *(rotated_name(net, draw) for draw in about["draws"] for net in nets)]
        return RotatedMoments(SavedMoments().load(file, layer, names), nets, about["draws"], about["weaker"])
