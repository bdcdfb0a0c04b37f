"""Matching: a one-to-one assignment of units with the largest total correlation, with its certificate.

Axes: `a` units of net a, `b` units of net b; `i`, `j` rows and columns of the assignment problem.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from convergent.core.alignment import Alignment, Method
from convergent.core.pairs import Pair
from convergent.core.ties import best_assignment
from convergent.methods.solvers.sparse_partners import sparse_matching
from convergent.options import check_fields


@dataclass(frozen=True)
class Matching:
    """Each unit of b takes one unit of a, none twice, so that the correlations of the pairs sum to the maximum.

    Nets of unequal width leave |p - q| units of the wider one unmatched (`partner_b` is -1 there). The record's
    `solver["gap"]` is the duality gap of the assignment's linear programme: 0 up to rounding proves the optimum. Ties, as
    between copies of a unit, are broken by the units' numbers, see `ties.best_assignment`.

    Attributes:
        absolute: sum |r| instead of the signed correlation of the paper.

    Source: Li et al. 2016, section 3, "bipartite matching".

    >>> from convergent.core.pairs import Pair
    >>> Matching()(Pair.of(torch.eye(3), torch.eye(3)[:, [1, 2, 0]])).partner_b
    tensor([1, 2, 0])
    """

    absolute: bool = False

    def __post_init__(self) -> None:
        check_fields(self)

    def __call__(self, pair: Pair) -> Alignment:
        """The alignment of `pair`; constant units have no partner."""
        return self._matched(pair, proved=True)

    def refit(self, alignment: Alignment, *, choices: bool) -> Method:  # noqa: ARG002  (nothing is chosen)
        """The same without a proof each, of which nobody reads but the first."""
        return partial(self._matched, proved=False)

    def _matched(self, pair: Pair, *, proved: bool) -> Alignment:
        if pair.sparse:
            return sparse_matching(pair, absolute=self.absolute)
        corr_ab = pair.corr_ab
        a, b = pair.active_a.nonzero()[:, 0], pair.active_b.nonzero()[:, 0]
        weight_ij = corr_ab[a[:, None], b].numpy()
        weight_ij = np.abs(weight_ij) if self.absolute else weight_ij
        row, column = best_assignment(weight_ij)
        a, b = a[torch.from_numpy(row)], b[torch.from_numpy(column)]
        map_ab = torch.zeros_like(corr_ab)
        map_ab[a, b] = corr_ab[a, b]
        return Alignment(pair, map_ab, solver={"gap": duality_gap(weight_ij, row, column)} if proved else {})


def duality_gap(weight_ij: NDArray[np.float64], row: NDArray[np.intp], column: NDArray[np.intp]) -> float:
    """How far an assignment may be from the optimum, proved by prices and not by the solver that found it.

    Prices u, v with u_i + v_j >= weight_ij bound every assignment by their sum. They are the shortest distances in the
    graph of exchanges, which exist exactly if no exchange of partners gains anything; Bellman and Ford's iteration finds
    them, and whatever it leaves violated is added to the gap.

    Returns:
        Upper bound of (optimum - value of the assignment); 0 up to rounding for an optimal one.

    Source: Kuhn 1955; Ahuja, Magnanti, Orlin 1993, "Network Flows", section 12.4.
    """
    if weight_ij.shape[0] > weight_ij.shape[1]:
        weight_ij, row, column = weight_ij.T, column, row
    if weight_ij.size == 0:
        return 0.0
    weight_ij, matched_i = weight_ij[row], weight_ij[row, column]
    loss_ij = matched_i[:, None] - weight_ij  # what row i loses by giving up its column for column j
    free = np.setdiff1d(np.arange(weight_ij.shape[1]), column)  # unmatched columns have price 0
    v_j = np.full(weight_ij.shape[1], np.inf if len(free) else 0.0)
    v_j[free] = 0.0
    for _ in range(len(row) + 1):
        shorter_i = (v_j + loss_ij).min(1)
        if (shorter_i >= v_j[column] - 1e-13).all():
            break
        v_j[column] = np.minimum(v_j[column], shorter_i)
    if len(free):
        v_j = np.maximum(v_j, 0.0)
    u_i = (weight_ij - v_j).max(1)  # the smallest prices that cover every weight: feasible by construction
    return float(u_i.sum() + v_j.sum() - matched_i.sum())
