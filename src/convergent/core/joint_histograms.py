"""Joint histograms of all pairs of units of several nets: the record that mutual information is a function of.

The record is how many samples lie above an edge of one unit and above an edge of the other; differences of neighbouring
numbers are the counts of the bins.

Axes: `u` units of all nets side by side, `a` and `b` units of two of them, `e` edges of a unit (`d` and `e` of two), `i` and
`j` bins, one more than edges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from convergent.core.packing import net_number
from convergent.errors import InputError

_INT32 = 2**31 - 1  # samples that fit into int32


@dataclass(frozen=True, eq=False)
class Histograms:
    """Joint counts of the wanted pairs of nets, as the numbers of samples above both edges; `+` merges two records.

    Attributes:
        nets: their names.
        units: which of the u units are each net's.
        edges_ue: edges of each unit, shape (u, bins - 1).
        count: number of samples.
        above_ue: how many of them lie above each edge, int64, shape (u, bins - 1).
        above: {(i, j): how many lie above edges of both units, shape (units of net i, bins - 1, units of net j,
            bins - 1)} for i <= j; int32, or int64 from 2^31 samples on.
        nats: mutual information that was computed from them, see `mutual_information.information`.
    """

    nets: Sequence[str]
    units: Sequence[slice]
    edges_ue: Tensor
    count: int
    above_ue: Tensor
    above: Mapping[tuple[int, int], Tensor]
    nats: dict[tuple[int, int, bool], Tensor] = field(default_factory=dict, init=False, repr=False)

    @property
    def bins(self) -> int:
        """Bins of each unit."""
        return self.edges_ue.shape[1] + 1

    @property
    def counts_ui(self) -> Tensor:
        """Samples in each bin of each unit, int64, shape (u, bins)."""
        every_u1 = torch.full_like(self.above_ue[:, :1], self.count)
        above_ui = torch.cat([every_u1, self.above_ue, torch.zeros_like(every_u1)], 1)
        return above_ui[:, :-1] - above_ui[:, 1:]

    @property
    def active_u(self) -> Tensor:
        """False for units all of whose samples fall into one bin: they say nothing about any other, shape (u,)."""
        return (self.counts_ui > 0).sum(1) > 1

    def pair(self, a: int | str, b: int | str, rows: slice = slice(None)) -> Tensor:
        """The joint counts of two nets' units, given by number or name, shape (units of a, units of b, bins, bins).

        `rows` takes some of a's units only; the counts of all take bins^2 / (bins - 1)^2 and more of the table's memory.

        Raises:
            InputError: if there is no such net, or the pair was not counted.
        """
        i, j = net_number(a, self.nets), net_number(b, self.nets)
        above_adbe = self._above(i, j)[rows]
        p, _, q, _ = above_adbe.shape
        table_abij = above_adbe.new_zeros(p, q, self.bins + 1, self.bins + 1)  # nothing is above the last edge
        table_abij[:, :, 1:-1, 1:-1] = above_adbe.transpose(1, 2)
        table_abij[:, :, 1:-1, 0] = self.above_ue[self.units[i]][rows, None].to(table_abij)
        table_abij[:, :, 0, 1:-1] = self.above_ue[self.units[j]].to(table_abij)
        table_abij[:, :, 0, 0] = self.count
        rows_abij = table_abij[:, :, :-1] - table_abij[:, :, 1:]
        return rows_abij[..., :-1] - rows_abij[..., 1:]

    def select(self, a: int | str, b: int | str) -> Histograms:
        """The histograms of two nets alone, in this order, in memory.

        Raises:
            InputError: if there is no such net, or the pair was not counted.
        """
        i, j = net_number(a, self.nets), net_number(b, self.nets)
        of_a, of_b = self.units[i], self.units[j]
        edges_ue, above_ue = (torch.cat([x_ue[of_a], x_ue[of_b]]) for x_ue in (self.edges_ue, self.above_ue))
        p, nets, above = of_a.stop - of_a.start, [self.nets[i], self.nets[j]], {(0, 1): self._above(i, j)}
        return Histograms(nets, [slice(0, p), slice(p, len(edges_ue))], edges_ue, self.count, above_ue, above)

    def _above(self, i: int, j: int) -> Tensor:
        """How many samples lie above edges of both units, for net i and net j in either order.

        Raises:
            InputError: if the pair was not counted.
        """
        if i > j:
            return self._above(j, i).permute(2, 3, 0, 1)
        if (i, j) not in self.above:
            raise InputError(
                f"There are no histograms of {self.nets[i]} with {self.nets[j]}, which were not among the pairs counted; "
                "count them too."
            )
        return self.above[i, j]

    def __add__(self, other: Histograms) -> Histograms:
        """The histograms of both sets of samples together.

        Raises:
            InputError: if the nets, pairs or edges differ.
        """
        self._check_same(other)
        count = self.count + other.count
        above = {pair: fitting(table, count) + other.above[pair] for pair, table in self.above.items()}
        return Histograms(self.nets, self.units, self.edges_ue, count, self.above_ue + other.above_ue, above)

    def __sub__(self, other: Histograms) -> Histograms:
        """The histograms without samples that are among them.

        Raises:
            InputError: if the nets, pairs or edges differ.
        """
        self._check_same(other)
        above = {pair: table - other.above[pair] for pair, table in self.above.items()}
        count, above_ue = self.count - other.count, self.above_ue - other.above_ue
        return Histograms(self.nets, self.units, self.edges_ue, count, above_ue, above)

    def _check_same(self, other: Histograms) -> None:
        same = all(list(own) == list(others) for own, others in ((self.nets, other.nets), (self.units, other.units)))
        if not same or self.above.keys() != other.above.keys() or not torch.equal(self.edges_ue, other.edges_ue):
            raise InputError(
                "Histograms are merged only if they have the same nets, pairs and edges; count both with the edges of one "
                "calibration."
            )


def fitting(table: Tensor, samples: int) -> Tensor:
    """The table in a type that holds so many samples."""
    return table.long() if samples > _INT32 else table
