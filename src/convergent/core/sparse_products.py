"""Sums of products of units that are nearly always zero: only samples in which both are active count.

Matrices are scipy's, by rows (CSR). Axes: `s` samples, `i` and `j` units.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

Sparse = Any  # scipy.sparse.csr_array, which has no types


def active_entries(x_su: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The entries of a dense matrix that are not 0, on the host: how many each row has, their columns, their values.

    Values are float64; NaN is not 0.
    """
    row, column = x_su.nonzero(as_tuple=True)
    value = x_su[row, column].double()
    count_s = torch.bincount(row, minlength=len(x_su))
    return count_s.cpu(), column.int().cpu(), value.cpu()


def by_rows(count_s: Tensor, column: Tensor, value: Tensor, units: int) -> Sparse:
    """The matrix of these entries, shape (s, units)."""
    starts = np.concatenate([[0], count_s.cumsum(0).numpy()])
    starts = starts.astype(np.int32) if starts[-1] < 2**31 else starts
    return sp.csr_array((value.numpy(), column.numpy(), starts), shape=(len(count_s), units))


def add_products(sums_ij: Sparse | None, x_si: Sparse, y_sj: Sparse) -> Sparse:
    """Sums of products with those of more samples: S + X'Y as one product, (I X') times S over Y, which sorts nothing."""
    x_is = x_si.T.tocsr()
    if sums_ij is None or not sums_ij.nnz:
        return x_is @ y_sj
    own = sp.eye_array(x_is.shape[0], format="csr")
    return sp.hstack([own, x_is], format="csr") @ sp.vstack([sums_ij, y_sj], format="csr")


def added(matrices: list[Sparse]) -> Sparse:
    """The sum of matrices of one shape, at least one, without copies of what is 0 in all of them.

    >>> added([sp.csr_array(np.eye(2)), sp.csr_array(np.eye(2))]).nnz
    2
    """
    while len(matrices) > 1:  # halves, so that large sums are added seldom
        pairs = [matrices[at : at + 2] for at in range(0, len(matrices), 2)]
        matrices = [pair[0] + pair[1] if len(pair) > 1 else pair[0] for pair in pairs]
    return matrices[0]


def tensors_of(matrix: Sparse) -> dict[str, Tensor]:
    """A matrix as tensors, by the names of its parts."""
    parts = {"starts": matrix.indptr, "columns": matrix.indices, "values": matrix.data}
    return {name: torch.from_numpy(part) for name, part in parts.items()}


def matrix_of(tensors: dict[str, Tensor], shape: tuple[int, int]) -> Sparse:
    """The matrix of the tensors that `tensors_of` gave."""
    parts = [tensors[name].numpy() for name in ("values", "columns", "starts")]
    return sp.csr_array(tuple(parts), shape=shape)
