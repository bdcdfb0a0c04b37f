"""The spectra of a weighted graph's Laplacian, part by part.

Axes: `u` and `v` nodes of the graph, `c` eigenvectors.
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.linalg import lapack
from scipy.linalg.blas import dsymv
from scipy.sparse import csr_array
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh

from convergent.options import word

Array = NDArray[np.float64]
Labels = NDArray[np.intp]

LAPLACIANS = ("unnormalised", "symmetric", "random_walk")
Laplacian = Annotated[str, word(*LAPLACIANS)]
DENSE = 800  # up to so many nodes a dense solver is as fast as Lanczos' iteration, and knows no failure


class Graph:
    """A weighted graph, or some nodes of it, whose parts and spectra are computed once, however often it is cut.

    Attributes:
        nodes: how many it has, those left out included.
        parts: the numbers of the nodes of each, see `connected_parts`.
        spectra: that of each part.
    """

    def __init__(self, weight_uu: Array, laplacian: str, some: Labels | None = None) -> None:
        self.nodes, some = len(weight_uu), np.arange(len(weight_uu)) if some is None else some
        weight_uu = weight_uu.take(some, 0).take(some, 1)
        np.fill_diagonal(weight_uu, 0)
        parts = connected_parts(weight_uu)
        self.parts = [some[part] for part in parts]
        self.spectra = [Spectrum(weight_uu.take(part, 0).take(part, 1), laplacian) for part in parts]


def connected_parts(weight_uu: Array) -> list[Labels]:
    """The nodes of each part of the graph that no edge joins to others; nodes without an edge are in none.

    Nodes are sorted by the weight of all their edges, which does not depend on the order in which they are given: all that
    follows meets them in the same order, so that even k-means, whose random starts pick nodes by place, does not see it.
    """
    joined_uu, order_u = weight_uu > 0, np.argsort(weight_uu.sum(1), kind="stable")
    left_u, parts = joined_uu.any(1), list[Labels]()
    while left_u.any():
        inside_u, reached = np.zeros_like(left_u), np.flatnonzero(left_u)[:1]
        while len(reached):
            inside_u[reached] = True
            reached = np.flatnonzero(joined_uu[reached].any(0) & ~inside_u)
        parts.append(order_u[inside_u[order_u]])
        left_u &= ~inside_u
    return parts


class Spectrum:
    """The smallest eigenvalues of a connected graph's Laplacian and their eigenvectors, computed as they are asked for.

    Few of a large graph come from Lanczos' iteration; else all follow from its matrix made tridiagonal, once.

    Args:
        weight_uu: weights of the edges, shape (u, u), symmetric, with zeros on the diagonal.
        laplacian: see `clustering.Clustering`.
    """

    def __init__(self, weight_uu: Array, laplacian: str) -> None:
        degree_u, self.nodes = weight_uu.sum(1), len(weight_uu)
        self._few: tuple[Array, Array] | None = None
        scale_u = 1 / np.sqrt(degree_u)
        self._scale_u = scale_u if laplacian == "random_walk" else np.ones(self.nodes)
        if laplacian == "unnormalised":
            self._top = 2 * degree_u.max()  # no eigenvalue is larger: the smallest are the largest of top - L
            self._matrix_uu = weight_uu + np.diag(self._top - degree_u)
        else:
            self._top, self._matrix_uu = 1.0, weight_uu * scale_u[:, None] * scale_u

    def values(self, number: int) -> Array:
        """So many eigenvalues, or as many as there are, increasing."""
        few = self._iterated(number)
        value_c: Array = self._top - (self._tridiagonal.value_c if few is None else few[0])[:number]
        return value_c

    def vectors(self, number: int) -> Array:
        """Their eigenvectors, shape (u, c); of `random_walk` those of the generalised problem (D - W) v = value D v."""
        few = self._iterated(number)
        return self._scale_u[:, None] * (self._tridiagonal.vectors(number) if few is None else few[1][:, :number])

    @cached_property
    def _tridiagonal(self) -> Tridiagonal:
        return Tridiagonal(self._matrix_uu)

    def _iterated(self, number: int) -> tuple[Array, Array] | None:
        """The largest eigenvalues of the matrix, decreasing, and their eigenvectors, if Lanczos' iteration gives them."""
        if self._few is None and "_tridiagonal" not in vars(self) and self.nodes > max(DENSE, 5 * number):
            start_u = np.random.default_rng(0).standard_normal(self.nodes)  # ones would be an eigenvector
            try:
                value_c, vector_uc = eigsh(_product(self._matrix_uu), number, which="LA", v0=start_u)
                order = np.argsort(-value_c)
                self._few = value_c[order], vector_uc[:, order]
            except ArpackError:  # no convergence: slower, but sure
                pass
        return None if self._few is None or number > len(self._few[0]) else self._few


class Tridiagonal:
    """A symmetric matrix made tridiagonal by reflections, all its eigenvalues, decreasing, and any eigenvectors."""

    def __init__(self, matrix_uu: Array) -> None:
        self._mirror_uu, *self._diagonals, self._tau, _ = lapack.dsytrd(matrix_uu.T, lower=1, lwork=64 * len(matrix_uu))
        self.value_c: Array = lapack.dsterf(*self._diagonals)[0][::-1]

    def vectors(self, number: int) -> Any:
        """The eigenvectors of the `number` largest eigenvalues, shape (u, c); four times as fast as LAPACK's default."""
        u, value_c = len(self.value_c), self.value_c[:number][::-1]
        noise = np.finfo(float).eps * abs(self.value_c).max()
        vector_uc, failed = lapack.dstein(*self._diagonals, value_c, np.ones(u, np.int32), np.full(u, u, np.int32))
        if failed or abs(self._diagonals[1]).min() <= noise:  # a zero beside the diagonal is not what it is made for
            _, vector_uc = scipy.linalg.eigh_tridiagonal(*self._diagonals, select="i", select_range=(u - number, u - 1))
        mirror, room = (self._mirror_uu[1:, :-1], self._tau), 64 * (number + 65)
        vector_uc[1:], *_ = lapack.dormqr("L", "N", *mirror, vector_uc[1:], room)
        return vector_uc[:, ::-1]


def _product(matrix_uu: Array) -> Any:
    """A symmetric matrix as what Lanczos' iteration, bound by memory, multiplies fastest: its entries, or one triangle."""
    if np.count_nonzero(matrix_uu) < matrix_uu.size / 3:
        return csr_array(matrix_uu)
    stored_uu = np.asfortranarray(matrix_uu)
    return LinearOperator(matrix_uu.shape, lambda x_u: dsymv(1.0, stored_uu, x_u.ravel()), dtype=np.float64)
