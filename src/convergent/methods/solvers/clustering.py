"""Spectral clustering of a weighted graph: the same clusters for any order of its nodes.

Parts of the graph that no edge joins are clustered apart: the spectrum of the whole is the union of theirs, so each has as
many clusters as it has of the smallest eigenvalues, and none is ever cut to join another.

Axes: `u` and `v` nodes of the graph, `c` eigenvectors, as many as clusters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated, Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from convergent.methods.solvers.spectra import DENSE, Array, Graph, Labels, Laplacian, Spectrum
from convergent.options import NULL, Kind, check_fields, whole, word

ASSIGNMENTS = ("cluster_qr", "kmeans")


def _bounds(value: Any) -> bool:
    two = isinstance(value, Sequence) and len(value) == 2 and all(map(whole(1).fits, value))
    return two and bool(value[0] <= value[1])


Bounds = Annotated[Sequence[int], Kind("a least and a largest number of clusters, as [2,100]", _bounds)]
Assignment = Annotated[str, word(*ASSIGNMENTS)]

_threads, _threads_of_kmeans = cache(ThreadpoolController), cache(ThreadpoolController)  # of what was loaded by then


@dataclass(frozen=True)
class Clustering:
    """How a graph is cut into clusters.

    Attributes:
        number: of clusters; None for the widest gap between eigenvalues. A graph in more parts has as many as parts, one of
            fewer nodes as many as nodes.
        bounds: least and largest number that the widest gap may choose; at most as many as half the nodes.
        laplacian: `unnormalised` D - W (cuts few and light edges: small clusters of loosely joined nodes come off first),
            `symmetric` (Ng, Jordan, Weiss: before k-means, rows of the eigenvectors are scaled to length 1), or
            `random_walk` (Shi, Malik: the normalised cut).
        assign: `cluster_qr` needs no start; `kmeans` takes the best of `restarts` random ones.
        restarts: of k-means.
        seed: of k-means.

    Source: von Luxburg 2007, "A tutorial on spectral clustering"; Damle, Minden, Ying 2019, "Simple, direct and efficient
        multi-way spectral clustering" (cluster_qr).

    >>> weight_uu = np.kron(np.eye(2), np.ones((3, 3))) + 0.1
    >>> Clustering(number=2)(weight_uu).label_u
    array([0, 0, 0, 1, 1, 1])
    """

    number: Annotated[int | None, whole(1) | NULL] = None
    bounds: Bounds = (2, 100)
    laplacian: Laplacian = "symmetric"
    assign: Assignment = "cluster_qr"
    restarts: Annotated[int, whole(1)] = 10
    seed: Annotated[int, whole()] = 0

    def __post_init__(self) -> None:
        check_fields(self)

    def __call__(self, weight_uu: Array) -> Clusters:
        """The clusters of a graph.

        Args:
            weight_uu: weights of the edges, shape (u, u), symmetric, 0 or more, 0 for no edge; the diagonal is ignored.
        """
        if self.assign == "cluster_qr":
            return self.cut(Graph(weight_uu, self.laplacian))
        # the same graph is often cut again with other seeds
        key = repr(replace(self, seed=0)), hash(weight_uu.tobytes())
        if key not in _last:
            _last.clear()
            _last[key] = Graph(weight_uu, self.laplacian)
        return self.cut(_last[key])

    def cut(self, graph: Graph) -> Clusters:
        """The same of a graph that may be cut several times, with the Laplacian of this."""
        # several threads are no faster on small matrices, but wait for one another: ten times the processor's time
        largest = max(map(len, graph.parts), default=0)
        with _threads().limit(limits=1 if largest <= DENSE else None, user_api="blas"):
            return self._cut(graph)

    def _cut(self, graph: Graph) -> Clusters:
        label_u, parts = np.full(graph.nodes, -1), graph.parts
        if not parts:
            return Clusters(label_u, 0, len(label_u), 0.0)
        nodes = sum(map(len, parts))
        most = min(nodes, max(len(parts), self.number or min(self.bounds[1], nodes // 2)) + 1)
        values = [spectrum.values(most - len(parts) + 1) for spectrum in graph.spectra]
        value, owner = np.concatenate(values), np.repeat(np.arange(len(parts)), list(map(len, values)))
        order = np.argsort(value, kind="stable")
        number, gap = self._number(value[order], len(parts), nodes)
        share = np.bincount(owner[order[:number]], minlength=len(parts))
        first = 0
        for part, spectrum, of_part in zip(parts, graph.spectra, share):
            label_u[part] = first + self._assign(spectrum, of_part)
            first += of_part
        return Clusters(ordered(label_u), len(parts), int((label_u < 0).sum()), gap)

    def _number(self, value_c: Array, parts: int, nodes: int) -> tuple[int, float]:
        """How many clusters, and the gap above the last one's eigenvalue."""
        if self.number is None:
            least, most = (max(min(bound, nodes // 2), parts) for bound in self.bounds)
            most = max(least, min(most, len(value_c) - 1))
            gaps = np.diff(value_c)[least - 1 : most]
            number = least + int(gaps.argmax()) if len(gaps) else least
        else:
            number = min(max(self.number, parts), nodes)
        return number, float(value_c[number] - value_c[number - 1]) if number < len(value_c) else 0.0

    def _assign(self, spectrum: Spectrum, number: int) -> Labels:
        if number == 1 or number == spectrum.nodes:
            return np.arange(spectrum.nodes) % number
        vector_uc = spectrum.vectors(number)
        if self.assign == "cluster_qr":  # goes by the rows' lengths: were all the same, noise would choose its pivots
            return cluster_qr(vector_uc)
        if self.laplacian == "symmetric":
            vector_uc = vector_uc / np.linalg.norm(vector_uc, axis=1, keepdims=True)
        from sklearn.cluster import KMeans  # a second to import, which most runs need not spend

        first = iter(first_centres(vector_uc, number, self.restarts, self.seed))
        means = KMeans(number, init=lambda x_uc, *_, **__: x_uc[next(first)], n_init=self.restarts)
        with _threads_of_kmeans().limit(limits=1, user_api="openmp"):  # several sum in any order
            label_u: Labels = means.fit_predict(vector_uc)
        return label_u


_last: dict[tuple[str, int], Graph] = {}  # the graph that was cut last, and how


@dataclass(frozen=True, eq=False)
class Clusters:
    """What a graph was cut into.

    Attributes:
        label_u: cluster of each node, the largest being 0, of equals the one with the first node; -1 for nodes without an
            edge. Shape (u,).
        parts: how many parts of more than one node the graph has that no edge joins.
        isolated: how many nodes have no edge.
        gap: between the eigenvalues of the last cluster and the next.
    """

    label_u: Labels
    parts: int
    isolated: int
    gap: float

    @property
    def number(self) -> int:
        """How many clusters there are."""
        return int(self.label_u.max(initial=-1)) + 1


def first_centres(x_uc: Array, number: int, restarts: int, seed: int) -> NDArray[np.intp]:
    """The nodes at which k-means begins, shape (restarts, number): as scikit-learn draws them, in a third of the time.

    Source: Arthur, Vassilvitskii 2007, "k-means++: the advantages of careful seeding" (the greedy variant).
    """
    length_u, trials = np.einsum("uc,uc->u", x_uc, x_uc), 2 + int(np.log(number))
    square_uu = (length_u[:, None] - 2 * x_uc @ x_uc.T + length_u).clip(0)
    square_uu /= square_uu.max()
    np.fill_diagonal(square_uu, 0.0)
    drawn_rn = np.random.RandomState(seed).uniform(size=(restarts, 1 + (number - 1) * trials))
    even_u = np.full(len(x_uc), 1 / len(x_uc)).cumsum()
    centres = [(even_u / even_u[-1]).searchsorted(drawn_rn[:, 0], side="right")]
    nearest_ru = square_uu[centres[0]]
    for drawn_rt in np.split(drawn_rn[:, 1:], number - 1, axis=1):
        reached_rt = drawn_rt * nearest_ru.sum(1, keepdims=True)
        node_rt = np.stack([of.searchsorted(reached) for of, reached in zip(nearest_ru.cumsum(1), reached_rt)])
        node_rt = node_rt.clip(max=len(x_uc) - 1)
        nearest_rtu = np.minimum(square_uu[node_rt], nearest_ru[:, None])
        best_r = np.arange(restarts), nearest_rtu.sum(2).round(9).argmin(1)  # equals are not told apart by their noise
        nearest_ru = nearest_rtu[best_r]
        centres.append(node_rt[best_r])
    return np.stack(centres, 1)


def cluster_qr(vector_uc: Array) -> Labels:
    """The cluster of each node from eigenvectors, whatever orthogonal basis of their span these are.

    Pivots of a QR decomposition are one node of each cluster; rotated so that these lie near the axes, the eigenvectors say
    by their largest entry where every other node belongs.

    Source: Damle, Minden, Ying 2019, algorithm 1.
    """
    factors: Any = scipy.linalg.qr(vector_uc.T, mode="r", pivoting=True)
    pivot_c = factors[1][: vector_uc.shape[1]]
    left, _, right = scipy.linalg.svd(vector_uc[pivot_c].T)
    label_u: Labels = np.abs(vector_uc @ (left @ right)).argmax(1)
    return label_u


def ordered(label_u: Labels) -> Labels:
    """The same clusters with the largest called 0, and of equals the one with the first node; -1 stays.

    >>> ordered(np.array([7, 3, 3, -1, 5]))
    array([ 1,  0,  0, -1,  2])
    """
    there = label_u >= 0
    names, first, which, size = np.unique(label_u[there], return_index=True, return_inverse=True, return_counts=True)
    place = np.empty(len(names), np.intp)
    place[np.lexsort((first, -size))] = np.arange(len(names))
    ordered_u = np.full(len(label_u), -1)
    ordered_u[there] = place[which]
    return ordered_u
