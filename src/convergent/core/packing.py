"""Where the sums of products of several nets' units lie in one flat vector: only those pairs of nets that are wanted.

Of a net with itself each band of rows has the columns from its own first unit on; at last the bands become a triangle.

Axes: `u` units of all nets side by side, `s` samples, `f` the flat vector, `t` entries of a triangle, row after row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, combinations, pairwise

from torch import Tensor

from convergent.core.triangles import length_of
from convergent.errors import InputError

# Rows of one matrix product: few, so that little below the diagonal is computed; many enough to keep the product fast.
_STRIP = ((256, 64), (1536, 128))  # (up to so many units, so many rows)
_LONGEST_STRIP = 256


@dataclass(frozen=True)
class Packing:
    """A vector of count, sums of units, and for each net its products with itself and with the later nets it is paired with.

    Attributes:
        units: which of the u units are each net's.
        pairs: numbers (i, j) of nets, i < j, whose products are wanted.
        within: whether each net's products with itself are wanted; otherwise there are only its units' squares.
        energies: whether each net's energy is wanted, a column more beside its units, see `energies.Energies`.
        bands: which of `every_band` hold products, (first, stop); None for all. Sums of some bands are those of all, bit by
            bit, for a band is a matrix product of its own.

    >>> packing = Packing.of([2, 3, 1], [(0, 2)])
    >>> packing.size  # 1 + (2 + 3 + 1) + 2 x (2 + 1) + 3 x 3 + 1 x 1
    23
    """

    units: Sequence[slice]
    pairs: Sequence[tuple[int, int]]
    within: bool = True
    energies: bool = False
    bands: tuple[int, int] | None = None

    @classmethod
    def of(
        cls,
        widths: Sequence[int],
        pairs: Iterable[tuple[int, int]] | None = None,
        *,
        within: bool = True,
        energies: bool = False,
    ) -> Packing:
        """The packing of nets of these numbers of units; all pairs by default."""
        edges = [0, *accumulate(widths)]
        every = list(combinations(range(len(widths)), 2))
        wanted = every if pairs is None else sorted({(min(pair), max(pair)) for pair in pairs if pair[0] != pair[1]})
        return cls([slice(*edge) for edge in pairwise(edges)], wanted, within, energies)

    @property
    def width(self) -> int:
        """Number of units of all nets."""
        return int(self.units[-1].stop)

    @cached_property
    def size(self) -> int:
        """Length of the flat vector."""
        nets = len(self.units)
        return self._starts[-1] + (nets * (1 + nets + self.width) if self.energies else 0)

    @property
    def unfolded_size(self) -> int:
        """The length that it would have with whole matrices, as methods read them."""
        within = sum(_length(units) ** 2 for units in self.units) if self.within else 0
        return self.size - (self._own_starts[-1] - self._own_starts[0]) + within

    def sums(self, flat_f: Tensor) -> Tensor:
        """The sums of all units, as a view, shape (..., u)."""
        return flat_f[..., 1 : 1 + self.width]

    def squares(self, flat_f: Tensor) -> Tensor:
        """The sums of squares of all units where there are no products within nets, as a view, shape (..., u)."""
        return flat_f[..., 1 + self.width : 1 + 2 * self.width]

    def products(self, flat_f: Tensor) -> Tensor:
        """All sums of products of units, squares among them, as a view, shape (..., rest)."""
        return flat_f[..., 1 + self.width : self._starts[-1]]

    def energy(self, flat_f: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The sums of the nets' energies, of their products with each other and with all units, as views.

        Shapes (..., i), (..., i, i) and (..., i, u).
        """
        nets = len(self.units)
        of_f = flat_f[..., self._starts[-1] :]
        sums, with_energies, with_units = of_f.tensor_split((nets, nets + nets**2), -1)
        shape = *flat_f.shape[:-1], nets
        return sums, with_energies.view(*shape, nets), with_units.view(*shape, self.width)

    def block(self, flat_f: Tensor, i: int, j: int) -> Tensor:
        """The products of nets i < j, as a view, shape (..., units of i, units of j); of i = j, after `fold`, (..., t)."""
        if i == j:
            start = next(start for (net, _), start in zip(self._bands, self._own_starts) if net == i)
            return flat_f[..., start : start + length_of(_length(self.units[i]), self.rows[i])]
        column = self._columns_of(i, self._later[i].index(j))
        return self._with_later(flat_f, i)[..., column : column + _length(self.units[j])]

    def add(self, flat_f: Tensor, i: int, j: int, s_ab: Tensor) -> None:
        """Add products of nets i <= j, shape (units of i, units of j), to one vector."""
        if i < j:
            self.block(flat_f, i, j).add_(s_ab)
        for (net, band), own_ab in zip(self._bands, self._own(flat_f)):
            if net == i == j:
                own_ab.add_(s_ab[band, band.start :])

    def fold(self, flat_f: Tensor) -> None:
        """Leave of each net's products with itself the triangle, in place; to be called when all are summed."""
        to = net = -1
        for (i, band), start in zip(self._bands, self._own_starts):
            to, net, width = start if i != net else to, i, self._own_columns(i, band)
            for row in range(min(_length(band), width)):
                from_diagonal_f = flat_f[..., start + row * (width + 1) : start + (row + 1) * width]
                stop, apart = to + width - row, to + width - row <= start
                flat_f[..., to:stop] = from_diagonal_f if apart else from_diagonal_f.clone()
                to = stop

    def blocks(self) -> Iterator[tuple[int, int]]:
        """All pairs (i, j) that there are, each net with itself among them where that is wanted."""
        there = (i for i, rows in enumerate(self.rows) if self.bands is None or _length(rows))
        return ((i, j) for i in there for j in (*([i] if self.within else ()), *self._later[i]))

    @cached_property
    def every_band(self) -> list[tuple[int, slice]]:
        """All bands of rows, with or without sums here: a net, and which of its units."""
        longest = next((rows for units, rows in _STRIP if self.width <= units), _LONGEST_STRIP)
        bands = []
        for i, own in enumerate(map(_length, self.units)):
            count = -(-own // longest) if self.within or self._later[i] else 0
            bands += [(i, slice(own * strip // count, own * (strip + 1) // count)) for strip in range(count)]
        return bands

    @cached_property
    def rows(self) -> list[slice]:
        """Which of each net's units have a row of products here."""
        rows = [slice(0, 0)] * len(self.units)
        for i, band in self._bands:
            rows[i] = slice(rows[i].start if _length(rows[i]) else band.start, band.stop)
        return rows

    def fitting(self, first: int, entries: float) -> int:
        """The band behind the last one that fits, with those before it from `first` on, into so many entries."""
        left = entries - replace(self, bands=(first, first)).size
        for stop, (i, band) in enumerate(self.every_band[first:], first):
            left -= _length(band) * (self._own_columns(i, band) + self._columns_of(i))
            if left < 0:
                return stop
        return len(self.every_band)

    @property
    def multiplications(self) -> int:
        """Of all wanted pairs' products, for one sample."""
        within = sum(_length(units) ** 2 // 2 for units in self.units) if self.within else 0
        return within + sum(_length(self.units[i]) * _length(self.units[j]) for i, j in self.pairs)

    def strips(self, flat_f: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
        """(Rows, columns, their sums) of the matrix products of the wanted pairs: little more than the upper triangle."""
        for (i, band), own_ab in zip(self._bands, self._own(flat_f)):
            units, first = self.units[i], self.rows[i].start
            rows = slice(units.start + band.start, units.start + band.stop)
            if self.within:
                yield rows, slice(rows.start, units.stop), own_ab
            column, into = 0, self._with_later(flat_f, i)[band.start - first : band.stop - first]
            for run in self._runs(self._later[i]):
                yield rows, run, into[:, column : column + _length(run)]
                column += _length(run)

    @cached_property
    def _later(self) -> list[list[int]]:
        return [[b for a, b in self.pairs if a == i] for i in range(len(self.units))]

    def _own_columns(self, i: int, band: slice) -> int:
        """Of how many of its own net's units a band has the products."""
        return _length(self.units[i]) - band.start if self.within else 0

    def _columns_of(self, i: int, some: int | None = None) -> int:
        """How many units the later nets have that a net is paired with, or the first few of them."""
        return sum(_length(self.units[j]) for j in self._later[i][:some])

    def _own(self, flat_f: Tensor) -> Iterator[Tensor]:
        """Each band's products with its own net, from its own first unit on."""
        for (i, band), (start, stop) in zip(self._bands, pairwise(self._own_starts)):
            yield flat_f[start:stop].view(_length(band), self._own_columns(i, band))

    @cached_property
    def _own_starts(self) -> list[int]:
        """Where each of these begins, and where the last one ends."""
        sizes = (_length(band) * self._own_columns(i, band) for i, band in self._bands)
        return list(accumulate(sizes, initial=1 + self.width * (1 if self.within else 2)))

    @cached_property
    def _starts(self) -> list[int]:
        """Where each net's products with later nets begin, and where the last ones end."""
        sizes = (_length(rows) * self._columns_of(i) for i, rows in enumerate(self.rows))
        return list(accumulate(sizes, initial=self._own_starts[-1]))

    @property
    def _bands(self) -> list[tuple[int, slice]]:
        return self.every_band if self.bands is None else self.every_band[slice(*self.bands)]

    def _with_later(self, flat_f: Tensor, i: int) -> Tensor:
        rows_f = flat_f[..., self._starts[i] : self._starts[i + 1]]
        return rows_f.view(*flat_f.shape[:-1], _length(self.rows[i]), self._columns_of(i))

    def _runs(self, columns: Sequence[int]) -> list[slice]:
        """The units of these nets, neighbours joined: the fewer products, the faster."""
        runs: list[slice] = []
        for j in columns:
            units = self.units[j]
            if runs and runs[-1].stop == units.start:
                runs[-1] = slice(runs[-1].start, units.stop)
            else:
                runs.append(units)
        return runs


def blocks_within(packing: Packing, blocks: int, memory: float) -> int:
    """How many blocks of images to keep: so many, or a half, ... whose float64 sums, unfolded, fit into so many bytes."""
    while blocks > 1 and blocks * packing.unfolded_size * 8 > memory:
        blocks //= 2
    return blocks


def net_number(net: int | str, nets: Sequence[str]) -> int:
    """The number of a net that is given by number or name.

    Raises:
        InputError: if no net has that name.
    """
    if isinstance(net, int):
        return net
    if net not in nets:
        raise InputError(f"There is no net {net!r} among {', '.join(nets)}.")
    return list(nets).index(net)


def _length(units: slice) -> int:
    return int(units.stop - units.start)
