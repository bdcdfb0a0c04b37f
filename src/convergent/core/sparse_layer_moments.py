"""What a statistics pass finds in a layer of several nets that is nearly always zero and too wide for the dense record.

Axes: `k` blocks of images, `u` units of all nets side by side, `a` and `b` units of two of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from convergent.core.layer_moments import LayerMoments
from convergent.core.moments import Moments
from convergent.core.packing import net_number
from convergent.core.sparse_moments import SparseMoments
from convergent.core.sparse_products import Sparse


@dataclass(frozen=True, eq=False, repr=False)
class SparseLayerMoments(LayerMoments):
    """Counts, sums, squares, and sums of products of units that were active together between pairs of nets.

    Attributes:
        square_ku: sums of the units' squares, shape (k, u).
        products: {(i, j): of every block scipy's CSR of shape (units of net i, units of net j)} for i < j; may be read from
            disk when asked for.
    """

    square_ku: Tensor = field(kw_only=True)
    products: Mapping[tuple[int, int], Sequence[Sparse]] = field(kw_only=True)
    scatter: Mapping[tuple[int, int], Tensor] = field(default_factory=dict, init=False)

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The numbers (i, j), i < j, of the pairs of nets there are."""
        return list(self.products)

    def active(self, net: int | str) -> Tensor:
        """Which units of a net vary at all, shape (c,)."""
        sums = self.count_k.sum(), self._sum_ku.sum(0), self.square_ku.sum(0)
        return SparseMoments(*sums, []).active_u[self.units[net_number(net, self.nets)]]

    def moments(self, nets: Sequence[int | str] | None = None) -> Moments:
        """The joint moments of two nets' units, in the order given.

        Raises:
            InputError: if others are asked for, or this pair of nets was not measured.
        """
        chosen = [net_number(net, self.nets) for net in (range(len(self.nets)) if nets is None else nets)]
        i, j = chosen if len(chosen) == 2 else (0, 0)
        if (min(i, j), max(i, j)) not in self.products:
            return super().moments(chosen)  # which says that there are none
        of_pair = self.products[min(i, j), max(i, j)]
        unit_u = torch.cat([torch.arange(self.units[net].start, self.units[net].stop) for net in chosen])
        products = of_pair if i < j else [product.T.tocsr() for product in of_pair]
        return SparseMoments(self.count_k, self._sum_ku[:, unit_u], self.square_ku[:, unit_u], products)

    def without_empty_blocks(self) -> SparseLayerMoments:
        """The same without blocks of which no image was read; itself where there are none."""
        there = (self.count_k > 0).nonzero()[:, 0]
        if len(there) == len(self.count_k):
            return self
        products = {ij: [of_pair[k] for k in there.tolist()] for ij, of_pair in self.products.items()}
        count_k, mean_ku, square_ku = self.count_k[there], self.mean_ku[there], self.square_ku[there]
        return replace(self, count_k=count_k, mean_ku=mean_ku, square_ku=square_ku, products=products)

    @property
    def _sum_ku(self) -> Tensor:
        return self.count_k[:, None] * self.mean_ku
