"""Mutual information: partners by what units tell about one another, in whatever way they depend.

Axes: `a` units of net a, `b` units of net b; `i`, `j` rows and columns of the assignment problem.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import torch
from torch import Tensor

from convergent.analysis.findings import Findings
from convergent.core.alignment import Alignment
from convergent.core.histogram_source import Counting
from convergent.core.mutual_information import entropy, information
from convergent.core.ties import best_assignment, first_best
from convergent.errors import InputError
from convergent.figures.densities import Joint2D, densities
from convergent.figures.nats import nats
from convergent.methods.matching import Matching, duality_gap
from convergent.methods.semimatching import SemiMatching
from convergent.options import check_fields, whole, word

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

    from convergent.core.joint_histograms import Histograms
    from convergent.core.pairs import Pair

BEST = 8  # pairs that the paper shows


@dataclass(frozen=True)
class MutualInformation:
    """Each unit of b takes the unit of a with which it has the most mutual information, in nats, from joint histograms.

    The map is the correlation with that partner, so that the method stands on the common yardstick, where it cannot
    exceed semi-matching: what partners tell one another beyond a line is not seen there, but told apart (`tell`).

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
        return Alignment.of(pair, map_ab, solver=solver)

    def tell(self, pair: Pair, alignment: Alignment) -> Findings:
        """Nats with each partner, and where the correlation would have given another one."""
        histograms, (first, second) = histograms_of(pair, self.bins)
        nats_ab = information(histograms, first, second, self.correct)
        by_r = Matching() if self.assignment == "matching" else SemiMatching()
        partner_b, other_b = alignment.partner_b, by_r(pair).partner_b
        b = (partner_b >= 0).nonzero()[:, 0]
        nats_b = nats_ab[partner_b[b], b]
        b = b[nats_b.argsort(descending=True, stable=True)]
        rows = [_row(pair, nats_ab, unit, int(partner_b[unit]), int(other_b[unit])) for unit in b.tolist()]
        if not rows:
            return Findings.of(pair)
        same = [row["same"] for row in rows]
        figures = {
            "nats": float(nats_b.mean()),
            "mean_abs_r": sum(abs(row["r"]) for row in rows) / len(rows),
            "same_partner": sum(same) / len(rows),
            f"same_partner_of_best_{BEST}": sum(same[:BEST]) / len(same[:BEST]),
        }
        entropy_b = entropy(histograms.counts_ui[histograms.units[second]])
        lively_b = (
            entropy_b >= entropy_b[b].median()
        )  # that next to nothing is shared by a unit that is next to constant says nothing
        worst = next(row for row in reversed(rows) if lively_b[row["unit"]])
        joints = [_joint(pair, histograms, row, how) for row, how in ((rows[0], "best"), (worst, "worst"))]
        return Findings.of(
            pair,
            figures=figures,
            tables={"partners": rows},
            curves={"rank": {"rank": list(range(1, len(rows) + 1)), "nats": [row["nats"] for row in rows]}},
            drawings={"densities": partial(densities, joints, f"{pair.layer}: two units together")},
        )

    def overview(self, told: Sequence[Findings]) -> Mapping[str, Figure]:
        """Sorted nats of all layers, as in the paper's figure S4."""
        found = [findings for findings in told if findings.tables]
        return {"nats": nats(found)} if any(not findings.null for findings in found) else {}


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
    return pair.joint.histograms(bins), _numbers(pair)


def _joint(pair: Pair, histograms: Histograms, row: Mapping[str, Any], how: str) -> Joint2D:
    """The joint histogram of one unit of b and its partner."""
    (first, second), a, b = _numbers(pair), row["partner"], row["unit"]
    count_ij = histograms.pair(first, second, slice(a, a + 1))[0, b]
    edges = [histograms.edges_ue[histograms.units[net]][unit] for net, unit in ((first, a), (second, b))]
    return Joint2D(
        title=f"{how} pair: {row['nats']:.2f} nats, r = {row['r']:.2f}",
        names=(f"unit {a} of {pair.name_a}", f"unit {b} of {pair.name_b}"),
        count_ij=count_ij.numpy().copy(),
        edges=(edges[0].double().numpy(), edges[1].double().numpy()),
    )


def _numbers(pair: Pair) -> tuple[int, int]:
    """The numbers that a pair's net a and net b have in its histograms."""
    return (0, 1) if pair.a.start < pair.b.start else (1, 0)


def _row(pair: Pair, nats_ab: Tensor, unit: int, partner: int, by_r: int) -> dict[str, Any]:
    """What there is to say of one unit of b."""
    return {
        "unit": unit,
        "partner": partner,
        "nats": round(nats_ab[partner, unit].item(), 6),
        "r": round(pair.corr_ab[partner, unit].item(), 6),
        "partner_by_r": by_r,
        "nats_by_r": round(nats_ab[by_r, unit].item(), 6) if by_r >= 0 else None,
        "best_r": round(pair.corr_ab[by_r, unit].item(), 6) if by_r >= 0 else None,
        "same": int(partner == by_r),
    }
