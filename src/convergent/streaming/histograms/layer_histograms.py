"""What a pass counts in one layer of several nets: joint histograms, per fold of the images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from convergent.core.histogram_source import CountedJoint

if TYPE_CHECKING:
    from convergent.core.joint_histograms import Histograms
    from convergent.core.pairs import Pair


@dataclass(frozen=True, eq=False)
class LayerHistograms:
    """The joint histograms of one layer of several nets, per fold of blocks of images.

    Attributes:
        layer: its name.
        parts: of each fold; all with the same edges.
    """

    layer: str
    parts: Sequence[Histograms]

    def joint(self, a: int | str, b: int | str) -> CountedJoint:
        """Those of two nets, given by number or name.

        Raises:
            InputError: if there is no such net, or the pair was not counted.
        """
        return CountedJoint([part.select(a, b) for part in self.parts])

    def with_moments(self, pair: Pair) -> Pair:
        """A pair of this layer's nets with their joint histograms, for methods that need them."""
        a, b = (pair.name_a, pair.name_b) if pair.a.start < pair.b.start else (pair.name_b, pair.name_a)
        return replace(pair, joint=self.joint(a, b))
