"""Mutual information: partners by what units say about one another, in whatever way they depend.

Axes: `a` units of net a, `b` units of net b; `i`, `j` rows and columns of the assignment problem.
"""

from dataclasses import dataclass
from typing import Annotated

import torch

from convergent.core.alignment import Alignment
from convergent.core.histogram_source import Counting
from convergent.core.joint_histograms import Histograms
from convergent.core.mutual_information import information
from convergent.core.pairs import Pair
from convergent.core.ties import best_assignment, first_best
from convergent.errors import InputError
from convergent.methods.matching import duality_gap
from convergent.options import check_fields, whole, word


@dataclass(frozen=True)
class MutualInformation:
    """Each unit of b takes the unit of a with which it has the most mutual information, in nats, from joint histograms.

    The map is the correlation with that partner, so that the method stands on the common yardstick, where it cannot
    exceed semi-matching: what partners say of one another beyond a line is not seen there, but in nats
    (`analysis.information`).

    Attributes:
        bins: of each unit: the first for zeros, the others of equal mass.
        assignment: "semimatching", in which partners may be shared, or "matching": none twice, largest sum of nats.
        correct: subtract the bias of finite samples, see `mutual_information.mutual_information`.
        samples: of a layer that are counted in a pass, about; a pair from samples at hand counts all.

    Raises:
        InputError: if an attribute is none that it can be.

    Source: Li et al. 2016, supplement S.1 and figure S4.

    >>> from convergent.core.pairs import Pair
    >>> MutualInformation(bins=2)(Pair.of(torch.eye(3), torch.eye(3)[:, [1, 1, 0]])).partner_b
    tensor([1, 1, 0])
    """

    bins: Annotated[int, whole(2)] = 10
    assignment: Annotated[str, word("matching", "semimatching")] = "semimatching"
    correct: bool = False
    samples: Annotated[int, whole(1)] = 1_000_000

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def counting(self) -> Counting:
        """The joint histograms that it needs."""
        return Counting(self.bins, self.samples)

    def __call__(self, pair: Pair) -> Alignment:
        """The alignment of `pair`; units that are constant, or stay in one bin, have no partner.

        Raises:
            InputError: if the pair has no joint histograms, or others.
        """
        histograms, (first, second) = histograms_of(pair, self.bins)
        nats_ab = information(histograms, first, second, self.correct)
        a = (pair.active_a & histograms.active_u[histograms.units[first]]).nonzero()[:, 0]
        b = (pair.active_b & histograms.active_u[histograms.units[second]]).nonzero()[:, 0]
        nats_ij = nats_ab[a[:, None], b].numpy()
        solver = {}
        if self.assignment == "matching":
            row, column = best_assignment(nats_ij)
            solver["gap"] = duality_gap(nats_ij, row, column)
            a, b = a[torch.from_numpy(row)], b[torch.from_numpy(column)]
        elif len(a) and len(b):
            a = a[torch.from_numpy(first_best(nats_ij))]
        else:
            a, b = a[:0], b[:0]
        map_ab = torch.zeros_like(pair.corr_ab)
        map_ab[a, b] = pair.corr_ab[a, b]
        return Alignment(pair, map_ab, solver=solver)


def histograms_of(pair: Pair, bins: int) -> tuple[Histograms, tuple[int, int]]:
    """A pair's joint histograms, and the numbers that its net a and net b have in them.

    Raises:
        InputError: if it has none, or others.
    """
    if pair.joint is None:
        raise InputError(
            "Mutual information needs the joint histograms of the pair's units, which do not follow from its moments; take "
            "the pair from Pair.of, or count them in the pass (HistogramsCallback)."
        )
    return pair.joint.histograms(bins), (0, 1) if pair.a.start < pair.b.start else (1, 0)
