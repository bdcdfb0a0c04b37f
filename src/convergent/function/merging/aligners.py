"""What brings nets together before they are averaged: their units reordered and rescaled.

Each net is still the function it was, as running it shows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

from torch import Tensor, nn

from convergent.core.alignment import Method
from convergent.function.merging.alignments import MATCHING, Measured, by_consensus, by_images, correlation, covariance
from convergent.function.merging.axes import Axis
from convergent.function.merging.line import Average, Straight
from convergent.function.merging.permutations import check_same, permuted, random_order
from convergent.function.merging.rescaling import rescalable, rescaled, scales, to_one
from convergent.function.merging.ties import Group, Ties
from convergent.function.merging.weight_matching import by_weights
from convergent.function.merging.zipping import ClustersNets, zippable, zipped

# How units of net b may be ordered, beside methods of alignment.
WORDS = ("none", "random", "covariance", "weights", "consensus", "zip")

# Nets by name -> these, ready to be averaged; what averages them; how far one is from the function it was.
Aligner = Callable[[Sequence[str]], tuple[list[nn.Module], Average, float]]


@dataclass(frozen=True, eq=False)
class Aligners:
    """What aligns nets with one another, in every way.

    Attributes:
        nets: by name, in evaluation mode.
        ties: which of their units belong together.
        measured: the moments of the groups' points.
        checked: images on which a reordered net is compared with itself.
        seed: of what is random.
    """

    nets: Mapping[str, nn.Module]
    ties: Ties
    measured: Measured
    checked: Tensor
    seed: int

    def of(self, alignment: Method | str) -> Aligner:
        """What aligns nets in one way.

        Raises:
            InputError: where it is used, if a method is not one to one, or a reordered net is another function.
        """
        if alignment == "zip" or isinstance(alignment, ClustersNets):
            return self._zipper(alignment)
        agreed = by_consensus(self.ties, self.measured, list(self.nets)) if alignment == "consensus" else {}

        @cache
        def aligned(a: str, b: str) -> tuple[nn.Module, float]:
            if a == b or alignment == "none":
                return self.nets[b], 0.0
            order = agreed[b] if agreed else self._order(alignment, a, b)
            scale = scales(self._rescalable, self.measured, a, b, order) if needs_images(alignment) else {}
            return self._moved(b, order, scale)

        def both(names: Sequence[str]) -> tuple[list[nn.Module], Average, float]:
            first = next(iter(self.nets)) if agreed else names[0]  # there all are aligned with one another
            of = [aligned(first, name) for name in names]
            return [net for net, _ in of], Straight(), max(difference for _, difference in of)

        return both

    def _zipper(self, alignment: ClustersNets | str) -> Aligner:
        groups = zippable(self.ties)
        atoms = {group.atom for group in groups}

        def both(names: Sequence[str]) -> tuple[list[nn.Module], Average, float]:
            scale = {name: to_one(self._rescalable, self.measured, name) for name in names}
            of = []
            for name in names:  # units of which none can be merged within a net are matched
                order = {} if name == names[0] else self._order(MATCHING, names[0], name)
                order = {axis: of_axis for axis, of_axis in order.items() if axis not in atoms}
                of.append(self._moved(name, order, scale[name]))
            by_axis = {group.atom: [scale[name][group.atom] for name in names] for group in self._rescalable}
            method = None if isinstance(alignment, str) else alignment
            average = zipped(self.ties, groups, self.measured, names, by_axis, method)
            return [net for net, _ in of], average, max(difference for _, difference in of)

        return both

    def _order(self, alignment: Method | str, a: str, b: str) -> dict[Axis, Tensor]:
        """The order of net b's units in which they are aligned with net a's."""
        if alignment == "random":
            return random_order(self.ties, self.seed + list(self.nets).index(b))
        if alignment == "weights":
            return by_weights(self.ties, self.nets[a], self.nets[b], self.seed)
        method = MATCHING if isinstance(alignment, str) else alignment
        similarity = covariance if alignment == "covariance" else correlation
        order = by_images(self.ties, self.measured, a, b, method, similarity)
        # what no module gives cannot be measured, so that weights decide of it
        unmeasured = any(group.atom not in order for group in self.ties.groups)
        return by_weights(self.ties, self.nets[a], self.nets[b], self.seed, order) if unmeasured else order

    def _moved(self, name: str, order: Mapping[Axis, Tensor], scale: Mapping[Axis, Tensor]) -> tuple[nn.Module, float]:
        """A net with its units in another order and at other scales, and how far it is from the function it was."""
        made = rescaled(permuted(self.nets[name], self.ties, order), self.ties, scale)
        return made, check_same(self.nets[name], made, self.checked, name)

    @cached_property
    def _rescalable(self) -> list[Group]:
        return rescalable(next(iter(self.nets.values())), self.ties, self.checked)


def needs_images(alignment: Method | str) -> bool:
    """Whether an alignment is made of what units do on images."""
    return alignment not in ("none", "random", "weights")
