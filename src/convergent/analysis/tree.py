"""The units of two nets in one tree, by how much of each other the sparse mapping makes them; and its balanced clusters.

The tree is made from B = [I W; W' I], W the mapping of shape (p, q): unit j of net b is predicted from net a's units
with the weights in column j, standardised, so that one unit of b that copies one of a has the weight 1 which the diagonal
has too. W is one direction, a predicts b; the other direction has its own map and its own tree. Entries are similarities
with their sign, and clusters are joined by the largest mean entry between them.

Axes: `a` units of net a, `b` units of net b, `u` both nets' units that count, a's first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform
from torch import Tensor

from convergent.core.alignment import Alignment
from convergent.core.pairs import Pair

_SIZES = range(2, 9)  # units of each net in a cluster that is listed: four and four, say


@dataclass(frozen=True, eq=False)
class Tree:
    """Average linkage of both nets' units.

    Attributes:
        units: numbers of a's units, then of b's, in their nets, shape (u,).
        of_b: which of the u units are net b's, shape (u,).
        similarity: B, shape (u, u).
        links: scipy's linkage matrix, shape (u - 1, 4), with heights of the largest entry of B less the mean similarity.
        top: the largest entry of B, at height 0.
    """

    units: NDArray[np.int64]
    of_b: NDArray[np.bool_]
    similarity: NDArray[np.float64]
    links: NDArray[np.float64]
    top: float

    @classmethod
    def of(cls, alignment: Alignment) -> Tree:
        """The tree of an alignment's map; constant units and those not asked for are left out.

        Source: Li et al. 2016, section 4.1 (hierarchical clustering of the mapping layer, figure 6).
        """
        a, b = alignment.pair.active_a.nonzero()[:, 0], alignment.counted_b.nonzero()[:, 0]
        map_ab = alignment.map_ab[a[:, None], b].numpy()
        similarity = np.block([[np.eye(len(a)), map_ab], [map_ab.T, np.eye(len(b))]])
        top = max(1.0, float(similarity.max(initial=0.0)))
        apart = top - similarity
        np.fill_diagonal(apart, 0.0)
        links = linkage(squareform(apart, checks=False), "average") if len(apart) > 1 else np.zeros((0, 4))
        of_b = np.arange(len(apart)) >= len(a)
        return cls(torch.cat([a, b]).numpy(), of_b, similarity, links, top)

    @property
    def order(self) -> NDArray[np.int64]:
        """The units in the order of the leaves, shape (u,)."""
        return leaves_list(self.links).astype(np.int64) if len(self.links) else np.arange(len(self.units))

    def balanced(self) -> list[tuple[float, NDArray[np.int64]]]:
        """The largest clusters of as many units of both nets, 2 to 8, the most similar first: similarity, and which of u."""
        inside: list[NDArray[np.int64]] = [np.array([u]) for u in range(len(self.units))]
        similarity: dict[int, float] = {}
        for row, (left, right, height, _) in enumerate(self.links):
            inside.append(np.concatenate([inside[int(left)], inside[int(right)]]))
            of_b = int(self.of_b[inside[-1]].sum())
            if 2 * of_b == len(inside[-1]) and of_b in _SIZES and self.top - height > 1e-9:
                similarity[len(self.units) + row] = self.top - height
        within = {part for node in similarity for part in self._parts(node)}
        clusters = ((value, inside[node]) for node, value in similarity.items() if node not in within)
        return sorted(clusters, key=lambda cluster: -cluster[0])

    def labels(self, pair: Pair) -> tuple[Tensor, Tensor]:
        """The balanced cluster of each unit of a, shape (p,), and of b, shape (q,), the best being 0; -1 for none."""
        label_u, labels = torch.full((len(self.units),), -1), []
        for label, (_, members) in enumerate(self.balanced()):
            label_u[torch.from_numpy(members)] = label
        for width, side in ((pair.p, ~self.of_b), (pair.q, self.of_b)):
            where = torch.from_numpy(self.units[side])
            labels.append(torch.full((width,), -1).index_copy(0, where, label_u[torch.from_numpy(side)]))
        return labels[0], labels[1]

    def _parts(self, node: int) -> list[int]:
        """All clusters inside a cluster, without itself."""
        if node < len(self.units):
            return []
        parts = [int(part) for part in self.links[node - len(self.units), :2]]
        return parts + [inner for part in parts for inner in self._parts(part)]
