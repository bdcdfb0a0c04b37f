"""The spectra of a weighted graph's Laplacian, part by part.

Axes: `u` and `v` nodes of the graph, `c` eigenvectors.
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.linalg.blas import dsymv
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh

from convergent.options import word

Array = NDArray[np.float64]
Labels = NDArray[np.intp]

LAPLACIANS = ("unnormalised", "symmetric", "random_walk")
Laplacian = Annotated[str, word(*LAPLACIANS)]
DENSE = 800  # up to so many nodes a dense solver is as fast as Lanczos' iteration, and knows no failure


class Graph:
    """A weighted graph whose parts and spectra are computed once, however often it is cut; see `Clustering`."""

    def __init__(self, weight_uu: Array, laplacian: str) -> None:
        self.weight_uu, self.laplacian = weight_uu - np.diag(weight_uu.diagonal()), laplacian
        self._spectra: list[tuple[Array, Array]] = []
        self._number = 0  # of eigenvalues there are

    @cached_property
    def parts(self) -> list[Labels]:
        """See `connected_parts`."""
        return connected_parts(self.weight_uu)

    def spectra(self, number: int) -> list[tuple[Array, Array]]:
        """The `spectrum` of each part; who asks a second time, for more, makes all of it be computed."""
        if number > self._number:
            self._number = len(self.weight_uu) if self._number else number
            weights = (self.weight_uu[np.ix_(part, part)] for part in self.parts)
            self._spectra = [spectrum(weight_uu, self._number, self.laplacian) for weight_uu in weights]
        return [(value_c[:number], vector_uc[:, :number]) for value_c, vector_uc in self._spectra]


def connected_parts(weight_uu: Array) -> list[Labels]:
    """The nodes of each part of the graph that no edge joins to others; nodes without an edge are in none.

    Nodes are sorted by the weight of all their edges, which does not depend on the order in which they are given: all that
    follows meets them in the same order, so that even k-means, whose random starts pick nodes by place, does not see it.
    """
    number, part_u = connected_components(csr_array(weight_uu), directed=False)
    order_u = np.argsort(weight_uu.sum(1), kind="stable")
    parts = [order_u[part_u[order_u] == part] for part in range(number)]
    return [part for part in parts if len(part) > 1]


def spectrum(weight_uu: Array, number: int, laplacian: str) -> tuple[Array, Array]:
    """The smallest eigenvalues of a connected graph's Laplacian, increasing, and their eigenvectors.

    Args:
        weight_uu: weights of the edges, shape (u, u), symmetric, with zeros on the diagonal.
        number: how many; as many as nodes at most.
        laplacian: see `clustering.Clustering`.

    Returns:
        Eigenvalues, shape (c,), and eigenvectors, shape (u, c); of `random_walk` those of the generalised problem
        (D - W) v = value D v.
    """
    degree_u, number = weight_uu.sum(1), min(number, len(weight_uu))
    if laplacian == "unnormalised":
        top = 2 * degree_u.max()  # no eigenvalue is larger: Lanczos finds the smallest as the largest of top - L
        value_c, vector_uc = _largest(weight_uu + np.diag(top - degree_u), number)
        return top - value_c, vector_uc
    scale_u = 1 / np.sqrt(degree_u)
    value_c, vector_uc = _largest(weight_uu * scale_u[:, None] * scale_u, number)
    return 1 - value_c, vector_uc * scale_u[:, None] if laplacian == "random_walk" else vector_uc


def _largest(matrix_uu: Array, number: int) -> tuple[Array, Array]:
    """The largest eigenvalues, decreasing, and their eigenvectors."""
    u = len(matrix_uu)
    if u > max(DENSE, 5 * number):
        start_u = np.random.default_rng(0).standard_normal(u)  # ones would be an eigenvector: nothing to iterate on
        try:
            value_c, vector_uc = eigsh(_product(matrix_uu), number, which="LA", v0=start_u)
            order = np.argsort(-value_c)
            return value_c[order], vector_uc[:, order]
        except ArpackError:  # no convergence: slower, but sure
            pass
    if 5 * number > u:  # then all of them take less time than some
        value_c, vector_uc = scipy.linalg.eigh(matrix_uu, driver="evd")
    else:
        value_c, vector_uc = scipy.linalg.eigh(matrix_uu, subset_by_index=(u - number, u - 1))
    return value_c[::-1][:number], vector_uc[:, ::-1][:, :number]


def _product(matrix_uu: Array) -> Any:
    """A symmetric matrix as what Lanczos' iteration, bound by memory, multiplies fastest: its entries, or one triangle."""
    if np.count_nonzero(matrix_uu) < matrix_uu.size / 3:
        return csr_array(matrix_uu)
    stored_uu = np.asfortranarray(matrix_uu)
    return LinearOperator(matrix_uu.shape, lambda x_u: dsymv(1.0, stored_uu, x_u.ravel()), dtype=np.float64)
