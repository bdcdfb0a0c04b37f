"""Second moments of nets on randomly rotated axes, with one another and with the nets themselves: what chance gives."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path

from torch import nn

from convergent.core.layer_moments import LayerMoments
from convergent.core.pairs import Pair
from convergent.storage.tensors import opened, save_tensors
from convergent.streaming.collector import First, Start, table_of
from convergent.streaming.layers import Layers, Pairs, resolve
from convergent.streaming.reading import Reading
from convergent.streaming.rotations import AFTER, BEFORE, Rotations, draws_of, rotated_name
from convergent.streaming.saved_moments import moments_of, tensors_of
from convergent.streaming.statistics_pass import Part, StatisticsPass, calibration_of

# So many rotations have products within nets, and blocks of images, so that methods can be fitted and have held-out scores;
# of the others only correlations with other nets are known. And how many blocks a null has: enough for held-out scores.
SCORED, BLOCKS = 3, 10

# A null is read at as many random positions of each image as make up so many samples in all, and at no fewer than some: what
# more of them would change in a correlation is far below what another rotation does.
_SAMPLES, _POSITIONS = 1_000_000, 64

_HEADINGS = ("random rotations of", "before the nonlinearity", "rotations", "blocks", "positions", "multiplications",
             "memory")  # fmt: skip


@dataclass(frozen=True, eq=False)
class RotatedMoments:
    """The second moments of a layer's nets and of their random rotations.

    Attributes:
        nets: their names.
        draws: numbers of the rotations.
        weaker: nets that were rotated after their nonlinearity, for it could not be seen.
        parts: the moments, each of nets first, then rotation by rotation the rotated nets. The first few rotations have
            blocks of images; of the others the products within a net are unknown, all but the squares.
    """

    nets: Sequence[str]
    draws: Sequence[int]
    weaker: Sequence[str]
    parts: Sequence[LayerMoments]

    def pair(self, a: int, b: int, draw: int, *, both: bool = False) -> Pair:
        """Net a as it is (or rotated too, by a rotation of its own) and net b rotated, under the nets' own names."""
        name_a, name_b = self.nets[a], self.nets[b]
        of_b = rotated_name(name_b, draw)
        part = next((part for part in self.parts if of_b in part.nets), self.parts[0])
        return replace(part.pair(rotated_name(name_a, draw) if both else name_a, of_b), name_a=name_a, name_b=name_b)


class RotatedPass(StatisticsPass):
    """Collects the second moments of all layers on randomly rotated axes, each rotated net with every other net.

    Nets are compared on the axes of the same rotation, too, where there are three or more that are all compared.
    """

    exact, energies, sparse = False, False, False  # what chance gives need not be known to twelve digits

    def parts(self, layer: str) -> list[Part]:
        """The rotations that methods are fitted to, and the others."""
        assert self.rotations is not None
        draws, pairs = self.rotations.draws[layer], self.pairs or list(combinations(range(len(self.nets)), 2))
        together = len(self.nets) > 2 and len(pairs) == len(self.nets) * (len(self.nets) - 1) // 2
        parts = []
        for some, blocks, within in ((draws[:SCORED], self.deal.blocks, True), (draws[SCORED:], 1, False)):
            names = [*self.nets, *self.rotations.names(layer, some)]
            parts.append(Part(names, self.rotations.pairs(len(some), pairs, both=together), blocks, within))
        return parts if draws[SCORED:] else parts[:1]

    def record(self, layer: str, moments: Sequence[LayerMoments]) -> RotatedMoments:
        """The moments of a layer with how it was rotated."""
        assert self.rotations is not None
        weaker = [net for net in self.nets if self.rotations.kind[net, layer] == AFTER]
        parts = moments if self.deal.images else [part.without_empty_blocks() for part in moments]
        return RotatedMoments(self.nets, self.rotations.draws[layer], weaker, parts)

    def plan(self) -> str:
        """A table of what is rotated and what it takes, a line per layer; multiplications are of each image."""
        assert self.rotations is not None
        rows = []
        for layer, parts in self.accumulators.items():
            kinds = {self.rotations.kind[net, layer] for net in self.nets}
            before = "no: none was seen" if AFTER in kinds else "yes" if kinds == {BEFORE} else "yes, or there is none"
            work = self.rotations.multiplications(layer)
            work += sum(accumulator.packing.multiplications * accumulator.positions for accumulator in parts)
            memory = sum(accumulator.memory for accumulator in parts)
            rows.append([
                layer,
                before,
                f"{len(self.rotations.draws[layer])}",
                f"{parts[0].blocks}",
                f"{parts[0].positions:,}",
                f"{work / 1e6:,.0f} M",
                f"{memory / 1e6:,.0f} MB",
            ])  # fmt: skip
        return table_of(_HEADINGS, rows, 2)


@dataclass(frozen=True)
class SavedRotations:
    """Moments on so many rotated axes as an artifact of a pass; None for as many as `rotations.draws_of` says."""

    rotations: int | None = None

    @property
    def folder(self) -> str:
        """Named after all that they depend on beside the moments' key."""
        return "rotations" if self.rotations is None else f"rotations={self.rotations}"

    def start(self, layers: Layers, reading: Reading, pairs: Pairs) -> Start:
        """What starts their collector."""

        def started(nets: Mapping[str, nn.Module], images: int | None, first: First) -> RotatedPass:
            some = max(_POSITIONS, -(-_SAMPLES // images)) if images and reading.sample == "every" else reading.sample
            thinned = replace(reading, sample=some, blocks=min(reading.blocks, BLOCKS))
            draws = partial(draws_of, wanted=self.rotations)
            rotations = Rotations(nets, resolve(nets, layers), thinned, first, draws)
            return RotatedPass(nets, layers, images, next(first(calibration_of(images)))[1], thinned, pairs, rotations)

        return started

    def save(self, rotated: RotatedMoments, file: Path) -> None:
        """Save those of one layer."""
        about = {"nets": rotated.nets, "draws": list(rotated.draws), "weaker": rotated.weaker}
        parts = [tensors_of(part, f"{number} ") for number, part in enumerate(rotated.parts)]
        tensors, texts = ({name: x for of in kind for name, x in of.items()} for kind in zip(*parts))
        save_tensors(tensors, file, texts | {"rotations": json.dumps(about)})

    def load(self, file: Path, layer: str, nets: Sequence[str]) -> RotatedMoments:
        """Those of one layer; sums of products are read when asked for."""
        with opened(file) as saved:
            about = json.loads(saved.metadata()["rotations"])
        draws, parts = about["draws"], []
        for number, some in enumerate((draws[:SCORED], draws[SCORED:])):
            if some or not number:
                names = [*nets, *(rotated_name(net, draw) for draw in some for net in nets)]
                parts.append(moments_of(file, layer, names, f"{number} "))
        return RotatedMoments(nets, draws, about["weaker"], parts)
