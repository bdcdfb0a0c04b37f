"""What a statistics pass finds in one layer of several nets: second moments per block of images.

Axes: `k` blocks of images, `u` units of all nets side by side, `a` and `b` units of two of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement

import torch
from torch import Tensor

from convergent.core.energies import Energies
from convergent.core.moments import Moments
from convergent.core.packing import net_number
from convergent.core.pairs import Pair
from convergent.core.scatter import spread
from convergent.core.triangles import diagonal, mirrored, unfolded
from convergent.errors import InputError
from convergent.memory import huge_zeros


@dataclass(frozen=True, eq=False)
class LayerMoments:
    """Counts, means and centred sums of products within every net and between the pairs of nets that were wanted.

    Attributes:
        layer: its name.
        nets: names of the nets.
        units: which of the u units are each net's.
        count_k: number of samples, shape (k,).
        mean_ku: means, shape (k, u).
        scatter: {(i, j): centred sums of products, shape (k, units of net i, units of net j)} for i <= j; may be read from
            disk when asked for. Of a net with itself only the part on and above the diagonal is looked at, which may come
            as a triangle, see `triangles`, or there are squares only, shape (k, units): its products are NaN.
        images: how many images were read.
        energies: of the nets' samples; None where they were not collected.
    """

    layer: str
    nets: Sequence[str]
    units: Sequence[slice]
    count_k: Tensor
    mean_ku: Tensor
    scatter: Mapping[tuple[int, int], Tensor]
    images: int
    energies: Energies | None = None

    def __repr__(self) -> str:
        nets = ", ".join(f"{of.stop - of.start} units of {net}" for net, of in zip(self.nets, self.units))
        return f"LayerMoments({self.layer}: {nets}, {self.images:,} images in {len(self.count_k)} blocks)"

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The numbers (i, j), i < j, of the pairs of nets there are."""
        return [(i, j) for i, j in self.scatter if i != j]

    def pair(self, a: int | str, b: int | str) -> Pair:
        """The pair of two nets, given by number or name.

        Raises:
            InputError: if there is no such net, or the pair was not measured.
        """
        of_a, of_b = net_number(a, self.nets), net_number(b, self.nets)
        p, q = (self.units[net].stop - self.units[net].start for net in (of_a, of_b))
        moments, energies = self.moments([of_a, of_b]), self.energies and self.energies.of([of_a, of_b])
        names = self.nets[of_a], self.nets[of_b], self.layer
        return Pair(moments, slice(0, p), slice(p, p + q), *names, energies=energies)

    @property
    def mean_u(self) -> Tensor:
        """Mean activation of all nets' units over all blocks, shape (u,)."""
        return ((self.count_k / self.count_k.sum())[:, None] * self.mean_ku).sum(0)

    def active(self, net: int | str) -> Tensor:
        """Which units of a net vary at all, shape (c,)."""
        number = net_number(net, self.nets)
        mean_ku, s_kab = self.mean_ku[:, self.units[number]], self._scatter(number, number)
        square_ku = s_kab if s_kab.shape == mean_ku.shape else None
        if square_ku is None:
            square_ku = diagonal(s_kab, mean_ku.shape[1]) if s_kab.ndim == 2 else s_kab.diagonal(dim1=1, dim2=2)
        return spread(self.count_k, mean_ku, square_ku, torch.ones(1, len(self.count_k), dtype=torch.float64))[2][0]

    def moments(self, nets: Sequence[int | str] | None = None) -> Moments:
        """The joint moments of some nets' units (of all by default), side by side in the order given.

        Raises:
            InputError: if a pair of these nets was not measured.
        """
        chosen = [net_number(net, self.nets) for net in (range(len(self.nets)) if nets is None else nets)]
        units, width = [], 0  # where each net's units come to lie
        for net in chosen:
            units.append(slice(width, width + self.units[net].stop - self.units[net].start))
            width = units[-1].stop
        mean_ku = torch.empty(len(self.count_k), width, dtype=torch.float64)
        scatter_kuu = huge_zeros(len(self.count_k), width, width)
        for i, rows in zip(chosen, units):
            mean_ku[:, rows] = self.mean_ku[:, self.units[i]]
        for (i, rows), (j, columns) in combinations_with_replacement(zip(chosen, units), 2):
            self._put(i, j, scatter_kuu[:, rows, columns])  # read from disk, once
            if rows != columns:
                scatter_kuu[:, columns, rows] = scatter_kuu[:, rows, columns].mT
        return Moments(self.count_k, mean_ku, scatter_kuu)

    def without_empty_blocks(self) -> LayerMoments:
        """The same without blocks of which no image was read; itself where there are none."""
        there_k = self.count_k > 0
        if there_k.all():
            return self
        scatter = {ij: s_kab[there_k] for ij, s_kab in self.scatter.items()}
        mean_ku, energies = self.mean_ku[there_k], self.energies and self.energies.blocks(there_k)
        return replace(self, count_k=self.count_k[there_k], mean_ku=mean_ku, scatter=scatter, energies=energies)

    def _scatter(self, i: int, j: int) -> Tensor:
        if (min(i, j), max(i, j)) not in self.scatter:
            raise InputError(
                f"Layer {self.layer} has no moments of {self.nets[i]} with {self.nets[j]}, which were not among the pairs "
                "of the pass; measure them too."
            )
        return self.scatter[min(i, j), max(i, j)]

    def _put(self, i: int, j: int, into_kab: Tensor) -> None:
        s_kab = self._scatter(i, j)
        if i != j:
            into_kab.copy_(s_kab if i < j else s_kab.mT)
        elif s_kab.shape[1:] == into_kab.shape[1:2]:
            into_kab.fill_(torch.nan).diagonal(dim1=1, dim2=2).copy_(s_kab)
        elif s_kab.ndim == 2:
            unfolded(s_kab, into_kab)
        else:
            mirrored(into_kab.copy_(s_kab))
