"""The assignment problem of correlations of which few have an entry, row by row: their matrix is never made.

Axes: `i` rows, `j` columns, no fewer than rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convergent.core.sparse_moments import Correlations
from convergent.core.ties import TIED, preference


def best_sparse_assignment(
    corr: Correlations, *, absolute: bool = False
) -> tuple[NDArray[np.intp], NDArray[np.intp], float]:
    """The rows, in order, and columns with the largest sum, those of `ties.best_assignment`; and their duality gap.

    Every row is given its best column where nobody has it; the others, one after another, the column at the end of the
    shortest path of exchanges, which leaves prices with which no row would rather have another column. All pairs are
    looked at, row by row; the prices are then tried on all rows anew. The gap is that of the weights with the preference
    among ties that the solution is the only optimum of.

    Source: Jonker, Volgenant 1987; Crouse 2016, "On implementing 2D rectangular assignment algorithms" (scipy's).
    """
    if corr.entries.shape[0] > corr.entries.shape[1]:
        column, row, gap = best_sparse_assignment(corr.flip(), absolute=absolute)
        order = row.argsort()
        return row[order], column[order], gap
    problem = _Problem(corr, absolute)
    for i in problem.assign_best():
        problem.assign(i)
    return np.arange(len(problem.column_i)), problem.column_i, problem.gap()


class _Problem:
    """Prices and assignment so far: costs less prices are 0 where assigned and nowhere below."""

    def __init__(self, corr: Correlations, absolute: bool) -> None:
        self.corr, self.absolute = corr, absolute
        p, q = corr.entries.shape
        self.price_i, self.price_j = np.zeros(p), np.zeros(q)
        self.column_i, self.row_j = np.full(p, -1), np.full(q, -1)

    def cost(self, i: int) -> NDArray[np.float64]:
        """What a row's columns cost: less correlation, and less of the preference among ties."""
        weight_j = self.corr.row(i)
        weight_j = np.abs(weight_j) if self.absolute else weight_j
        return -(weight_j + TIED * preference(i + 1.0, np.arange(1.0, len(weight_j) + 1)))

    def assign_best(self) -> list[int]:
        """Give every row its cheapest column where nobody has it; the rows that are left."""
        for i in range(len(self.price_i)):
            cost_j = self.cost(i)
            j = int(cost_j.argmin())
            self.price_i[i] = cost_j[j]
            if self.row_j[j] < 0:
                self.row_j[j], self.column_i[i] = i, j
        return [int(i) for i in (self.column_i < 0).nonzero()[0]]

    def assign(self, first: int) -> None:
        """Give a row a column by the shortest path of exchanges (Dijkstra)."""
        q = len(self.price_j)
        length_j, from_j = np.full(q, np.inf), np.full(q, -1)
        open_j, reached_j = np.full(q, np.inf), np.zeros(q, bool)
        i, length, rows = first, 0.0, []
        while True:
            by_j = self.cost(i) - self.price_j + (length - self.price_i[i])
            shorter_j = (by_j < length_j) & ~reached_j
            length_j[shorter_j] = open_j[shorter_j] = by_j[shorter_j]
            from_j[shorter_j] = i
            j = int(open_j.argmin())
            length, reached_j[j], open_j[j] = float(open_j[j]), True, np.inf
            if self.row_j[j] < 0:
                break
            i = int(self.row_j[j])
            rows.append(i)
        self.price_i[first] += length
        self.price_i[rows] += length - length_j[self.column_i[rows]]
        self.price_j[reached_j] -= length - length_j[reached_j]
        i = -1
        while i != first:
            i = int(from_j[j])
            self.row_j[j] = i
            self.column_i[i], j = j, int(self.column_i[i])

    def gap(self) -> float:
        """How far the assignment may be from the optimum, by its columns' prices: 0 or less, and 0 of free columns."""
        reduced_i, value = np.empty_like(self.price_i), 0.0
        for i, j in enumerate(self.column_i):
            cost_j = self.cost(i)
            value += cost_j[j]
            reduced_i[i] = (cost_j - self.price_j).min()
        return float(value - reduced_i.sum() - self.price_j.sum())
