"""Where the sums of products of several nets' units lie in one flat vector: only those pairs of nets that are wanted.

Axes: `u` units of all nets side by side, `s` samples, `f` the flat vector.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, combinations, pairwise

from torch import Tensor

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
        """The products of nets i <= j, as a view, shape (..., units of i, units of j)."""
        column = sum(_length(self.units[other]) for other in self._columns[i][: self._columns[i].index(j)])
        return self._rows(flat_f, i)[..., column : column + _length(self.units[j])]

    def blocks(self) -> Iterator[tuple[int, int]]:
        """All pairs (i, j) that there are, each net with itself among them where that is wanted."""
        there = (i for i, rows in enumerate(self.rows) if self.bands is None or _length(rows))
        return ((i, j) for i in there for j in self._columns[i])

    @cached_property
    def every_band(self) -> list[tuple[int, slice]]:
        """All bands of rows, with or without sums here: a net, and which of its units."""
        longest = next((rows for units, rows in _STRIP if self.width <= units), _LONGEST_STRIP)
        bands = []
        for i, own in enumerate(map(_length, self.units)):
            count = -(-own // longest) if self._columns[i] else 0
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
            left -= _length(band) * sum(_length(self.units[j]) for j in self._columns[i])
            if left < 0:
                return stop
        return len(self.every_band)

    @property
    def multiplications(self) -> int:
        """Of all wanted pairs' products, for one sample."""
        halved = sum(_length(units) ** 2 // 2 for units in self.units) if self.within else 0
        return self._starts[-1] - self._starts[0] - halved

    def strips(self, flat_f: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
        """(Rows, columns, their sums) of the matrix products of the wanted pairs: little more than the upper triangle."""
        for i, band in self._bands:
            rows, own, column = self._rows(flat_f, i), self.units[i], 0
            for run in self._runs(self._columns[i]):
                into = rows[band.start - self.rows[i].start : band.stop - self.rows[i].start]
                into = into[:, column : column + _length(run)]
                column += _length(run)
                skipped = band.start if run.start == own.start else 0
                part = slice(own.start + band.start, own.start + band.stop)
                yield part, slice(run.start + skipped, run.stop), into[:, skipped:]

    @cached_property
    def _columns(self) -> list[list[int]]:
        return [[*([i] if self.within else ()), *(b for a, b in self.pairs if a == i)] for i in range(len(self.units))]

    @cached_property
    def _starts(self) -> list[int]:
        starts = [1 + self.width * (1 if self.within else 2)]
        for rows, columns in zip(self.rows, self._columns):
            starts.append(starts[-1] + _length(rows) * sum(_length(self.units[j]) for j in columns))
        return starts

    @property
    def _bands(self) -> list[tuple[int, slice]]:
        return self.every_band if self.bands is None else self.every_band[slice(*self.bands)]

    def _rows(self, flat_f: Tensor, i: int) -> Tensor:
        rows_f = flat_f[..., self._starts[i] : self._starts[i + 1]]
        columns = sum(_length(self.units[j]) for j in self._columns[i])
        return rows_f.view(*flat_f.shape[:-1], _length(self.rows[i]), columns)

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
    """How many blocks of images to keep: so many, or a half, a quarter, ... whose float64 sums fit into so many bytes."""
    while blocks > 1 and blocks * packing.size * 8 > memory:
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
