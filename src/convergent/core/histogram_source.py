"""Where a pair's joint histograms come from: counted in a pass fold by fold, or from samples at hand when asked for.

Axes: `n` samples, `a` and `b` units of the two nets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from operator import add
from typing import Protocol

import torch
from torch import Tensor

from convergent.core.histogram_counter import HistogramCounter
from convergent.core.histogram_edges import edges_of
from convergent.core.joint_histograms import Histograms
from convergent.errors import InputError


@dataclass(frozen=True)
class Counting:
    """Which joint histograms are counted.

    Attributes:
        bins: of each unit, the first of which is for zeros, see `edges.edges_of`.
        samples: of a layer, about: so many random positions of every image as make them up, or one.
        folds: of blocks of images, each counted apart, so that held-out scores need no further pass.
    """

    bins: int = 10
    samples: int = 1_000_000
    folds: int = 5


def counting_of(method: object) -> Counting | None:
    """The joint histograms that a method needs, its attribute `counting`; None for one that needs none."""
    return getattr(method, "counting", None)


class Joint(Protocol):
    """The joint histograms of two nets' units, net a's first as in the pair's moments."""

    def histograms(self, bins: int) -> Histograms:
        """Those of all samples.

        Raises:
            InputError: if there are none of so many bins.
        """

    def folds(self, n: int) -> list[tuple[Joint, Joint]]:
        """(Without the fold, the fold alone) for each of `n` folds of the blocks, as `moments.Moments.folds` deals them."""


@dataclass(frozen=True, eq=False)
class CountedJoint:
    """Histograms counted in a pass, one record (of `parts`) for each fold of the blocks, in their order."""

    parts: Sequence[Histograms]
    _folds: list[tuple[Joint, Joint]] = field(default_factory=list, init=False, repr=False)

    @cached_property
    def _total(self) -> Histograms:
        return reduce(add, self.parts)

    def histograms(self, bins: int) -> Histograms:
        """See `Joint`.

        Raises:
            InputError: if others were counted.
        """
        if self.parts[0].bins != bins:
            raise InputError(
                f"These histograms have {self.parts[0].bins} bins, not {bins}; count them with that number of bins."
            )
        return self._total

    def folds(self, n: int) -> list[tuple[Joint, Joint]]:
        """See `Joint`.

        Raises:
            InputError: if they were counted in another number of folds.
        """
        if n != len(self.parts):
            raise InputError(
                f"These histograms were counted in {len(self.parts)} folds of the images, not in {n}; count them in {n} "
                f"folds, or ask for folds={len(self.parts)}."
            )
        if not self._folds:  # made once for both directions
            self._folds.extend((CountedJoint([self._total - held]), CountedJoint([held])) for held in self.parts)
        return self._folds


@dataclass(frozen=True, eq=False)
class SampledJoint:
    """Samples at hand, not copied, counted when asked for, with the edges of `whole`, themselves by default.

    `block_n` is the block of each sample's image.
    """

    x_na: Tensor
    x_nb: Tensor
    block_n: Tensor
    whole: SampledJoint | None = None
    _edges: dict[int, Tensor] = field(default_factory=dict, init=False, repr=False)
    _counted: dict[int, Histograms] = field(default_factory=dict, init=False, repr=False)

    def edges(self, bins: int) -> Tensor:
        """The edges of both nets' units, side by side."""
        if self.whole is not None:
            return self.whole.edges(bins)
        if bins not in self._edges:
            self._edges[bins] = edges_of(self._side_by_side(), bins)
        return self._edges[bins]

    def histograms(self, bins: int) -> Histograms:
        """See `Joint`."""
        if bins not in self._counted:
            counter = HistogramCounter({"a": self.x_na.shape[1], "b": self.x_nb.shape[1]}, self.edges(bins))
            counter.add(self._side_by_side())
            self._counted[bins] = counter.histograms()
        return self._counted[bins]

    def folds(self, n: int) -> list[tuple[Joint, Joint]]:
        """See `Joint`; the edges stay those of all samples."""
        fold_n = self.block_n % n
        return [(self._part(fold_n != fold), self._part(fold_n == fold)) for fold in range(n)]

    def _part(self, where_n: Tensor) -> SampledJoint:
        return SampledJoint(self.x_na[where_n], self.x_nb[where_n], self.block_n[where_n], self.whole or self)

    def _side_by_side(self) -> Tensor:
        return torch.cat([self.x_na, self.x_nb], 1).T
