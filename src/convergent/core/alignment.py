"""What every method returns: one linear map from net a's units to net b's, whatever found it.

Axes: `a` units of net a (p of them), `b` units of net b (q of them).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Tensor

from convergent.core.prediction import explained
from convergent.core.ties import first_best

if TYPE_CHECKING:
    from convergent.core.pairs import Pair


@dataclass(frozen=True, eq=False)
class Alignment:
    """Every unit of net b accounted for from net a's units: z_nb ~ z_na @ map_ab on standardised units.

    Attributes:
        map_ab: the linear map, shape (p, q): a permutation scaled by r, a sparse row, a regression within a cluster.
        score_b: share of each unit's variance explained, shape (q,), on the samples that the map was fitted to; an
            in-sample figure, see `scores.held_out` for the evidence. 0 for constant and for unmatched units.
        labels_a: the cluster of each unit of a where the method clusters, shape (p,).
        labels_b: the cluster of each unit of b, shape (q,).
        solver: what the solver says of itself (optimality gap, iterations, ...).
        asked_b: which units of b the method was to account for, shape (q,); all if None. The others count nowhere.
    """

    map_ab: Tensor
    score_b: Tensor
    labels_a: Tensor | None = None
    labels_b: Tensor | None = None
    solver: Mapping[str, float] = field(default_factory=dict)
    asked_b: Tensor | None = None

    @classmethod
    def of(
        cls,
        pair: Pair,
        map_ab: Tensor,
        labels_a: Tensor | None = None,
        labels_b: Tensor | None = None,
        solver: Mapping[str, float] | None = None,
        asked_b: Tensor | None = None,
    ) -> Alignment:
        """The record of a map that was fitted to `pair`, with its in-sample scores."""
        return cls(map_ab, explained(map_ab, pair, pair), labels_a, labels_b, solver or {}, asked_b)

    @cached_property
    def predictors_b(self) -> Tensor:
        """How many units of a account for each unit of b, shape (q,)."""
        return (self.map_ab != 0).sum(0)

    @cached_property
    def partner_b(self) -> Tensor:
        """The unit of a with the largest weight for each unit of b, shape (q,); -1 for units with none."""
        return torch.where(self.predictors_b > 0, torch.from_numpy(first_best(self.map_ab.abs().numpy())), -1)

    @cached_property
    def sharing_a(self) -> Tensor:
        """For how many units of b each unit of a is the partner, shape (p,)."""
        return torch.bincount(self.partner_b[self.partner_b >= 0], minlength=len(self.map_ab))

    @cached_property
    def r_b(self) -> Tensor:
        """Correlation of each unit of b with what accounts for it, shape (q,).

        Signed for a single partner; the multiple correlation, which is positive, for several.
        """
        return torch.where(self.predictors_b == 1, self.map_ab.sum(0), self.score_b.clamp(min=0).sqrt())


# A method is any function of a pair; ours are frozen dataclasses of their hyper-parameters, one YAML each in conf/method.
Method = Callable[["Pair"], Alignment]


@runtime_checkable
class Refitting(Protocol):
    """A method that is faster on images that are nearly those of an alignment which it has made: on all but a few."""

    def near(self, alignment: Alignment) -> Method:
        """The same method, starting at that alignment; what it finds does not depend on the start."""


@runtime_checkable
class Settling(Protocol):
    """A method that chooses a setting by held-out images, which takes many fits."""

    def settled(self, alignment: Alignment) -> Method:
        """The method with the setting that it chose for an alignment: what chance gives is judged by that one."""


@runtime_checkable
class Choosing(Protocol):
    """A method whose choice, of clusters or a penalty, jumps from one to another where a few images change.

    Leaving out blocks says nothing of a jump (the jackknife needs smooth statistics), so intervals over images are given the
    choice; how far it holds is told apart.
    """

    def given(self, alignment: Alignment) -> Method:
        """The method with what it chose for an alignment: all but that is fitted anew."""
