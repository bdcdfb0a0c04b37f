"""Second moments of two nets' units that are nearly always zero, where the matrix of all pairs would not fit.

Only units that are active in the same sample have an entry. The correlation of any two is that entry, scaled, less a product
of two numbers of one unit each: r_ab = E_ab - m_a m_b, with m the mean over the standard deviation.

Axes: `u` units, `a` and `b` those of the two nets, `k` blocks of images, written `...` as in `moments`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from convergent.core.moments import Moments
from convergent.core.sparse_products import Sparse, added
from convergent.errors import InputError
from convergent.memory import check_memory

_SUMS = "count", "sum_u", "square_u"


class SparseMoments(Moments):
    """The moments of a pair's units of which products between the nets alone are known, where there are any.

    Attributes:
        count: number of samples, shape (...).
        sum_u: sums of the units, shape (..., u), net a's first.
        square_u: sums of their squares, shape (..., u).
        products: sums of products between the nets, of all blocks: scipy's CSR of shape (a, b), one for each.
    """

    def __init__(self, count: Tensor, sum_u: Tensor, square_u: Tensor, products: Sequence[Sparse]) -> None:
        mean_u = sum_u / count.clamp(min=1)[..., None]
        values = {
            "count": count, "sum_u": sum_u, "square_u": square_u, "products": tuple(products),
            "mean_u": mean_u, "gain_u": None, "_folds": {},
        }  # fmt: skip
        for name, value in values.items():
            object.__setattr__(self, name, value)

    sum_u: Tensor
    square_u: Tensor
    products: tuple[Sparse, ...]

    @property
    def scatter_uu(self) -> Tensor:
        """All sums of products, which are not there.

        Raises:
            InputError: always.
        """
        a, b = self.products[0].shape
        raise InputError(
            f"The record of {a:,} and {b:,} units that are nearly always zero holds products between the nets only, of "
            "which matching and semi-matching are made; choose one of these, or, if it fits into memory, have the whole "
            "record made by a larger block_memory."
        )

    @classmethod
    def stack(cls, blocks: Sequence[Moments]) -> SparseMoments:
        """One record with a leading block axis from a record per block."""
        every = [block for block in blocks if isinstance(block, SparseMoments)]
        count, sum_u, square_u = (torch.stack([getattr(m, name) for m in every]) for name in _SUMS)
        return cls(count, sum_u, square_u, [m.products[0] for m in every])

    def __add__(self, other: Moments) -> SparseMoments:
        """The moments of both sets of samples together."""
        assert isinstance(other, SparseMoments)
        products = [here + there for here, there in zip(self.products, other.products)]
        sums = self.count + other.count, self.sum_u + other.sum_u, self.square_u + other.square_u
        return SparseMoments(*sums, products)

    def merged(self, weight_k: Tensor | None = None) -> SparseMoments:
        """One record of all blocks together, each counted `weight_k` times."""
        w_k = torch.ones_like(self.count) if weight_k is None else weight_k.to(self.count)
        weights = [(product, w) for product, w in zip(self.products, w_k.tolist()) if w]
        product = added([product if w == 1 else product * w for product, w in weights] or [self.products[0] * 0])
        return SparseMoments(w_k @ self.count, w_k @ self.sum_u, w_k @ self.square_u, [product])

    def merged_each(self, weight_wk: Tensor) -> SparseMoments:
        """A record per weighting, shape (w, k), each as `merged` makes it."""
        return self.stack([self.merged(weight_k) for weight_k in weight_wk])

    @cached_property
    def total(self) -> SparseMoments:
        """One record of all blocks together."""
        return self.merged()

    def leave_one_out(self, groups: int | None = None) -> Iterator[Moments]:
        """One record of all blocks together but one, for each block in turn (jackknife), or but one group: `in_groups`.

        Halves of the blocks are merged with all that lies outside them, and so on down: each block is read log2(k) times.
        Blocks taken away from the total would leave rounding errors as entries.
        """

        def inside(first: int, last: int, outside: Moments | None) -> Iterator[Moments]:
            if last - first == 1:
                if outside is not None:
                    yield outside
                return
            middle = (first + last) // 2
            for (start, stop), other in (
                ((first, middle), slice(middle, last)),
                ((middle, last), slice(first, middle)),
            ):
                half = self.some_blocks(other).merged()
                yield from inside(start, stop, half if outside is None else outside + half)

        return inside(0, len(self.count), None) if groups is None else self.in_groups(groups).leave_one_out()

    def some_blocks(self, blocks: slice) -> SparseMoments:
        """Those of some blocks."""
        return SparseMoments(self.count[blocks], self.sum_u[blocks], self.square_u[blocks], self.products[blocks])

    @cached_property
    def sd_u(self) -> Tensor:
        """Population standard deviation, shape (..., u)."""
        variance_u = self.square_u / self.count.clamp(min=1)[..., None] - self.mean_u.square()
        return variance_u.clamp(min=0).sqrt()

    def cov(self, rows: slice, columns: slice) -> Tensor:
        """Covariances, see `corr`."""
        sd_u = self.sd_u * self.active_u
        return self.corr(rows, columns) * sd_u[rows, None] * sd_u[columns]

    def corr(self, rows: slice, columns: slice) -> Tensor:
        """Correlations between the nets as a dense matrix; of a single block.

        Raises:
            InputError: if they do not fit into memory, or others are asked for.
        """
        a, b = self.products[0].shape
        if (rows, columns) not in ((slice(0, a), slice(a, a + b)), (slice(a, a + b), slice(0, a))):
            return self.scatter_uu  # which says why not
        check_memory(
            16 * a * b, f"The correlations of {a:,} with {b:,} units", "choose method=matching or semimatching"
        )
        corr = Correlations.of(self)
        corr_ab = torch.from_numpy(np.stack([corr.row(i) for i in range(a)]))
        return corr_ab if rows.start == 0 else corr_ab.T


@dataclass(frozen=True, eq=False)
class Correlations:
    """Correlations between two nets without their matrix: entries E less the outer product of m_a and m_b.

    Those of constant units are 0.

    Attributes:
        entries: E, scipy's CSR of shape (a, b).
        mean_a: means of a's units over their standard deviations, shape (a,).
        mean_b: those of b's.
    """

    entries: Sparse
    mean_a: NDArray[np.float64]
    mean_b: NDArray[np.float64]

    @classmethod
    def of(cls, moments: SparseMoments, *, flipped: bool = False) -> Correlations:
        """Those of a single block; of the second net with the first if flipped."""
        product, count = moments.products[0], max(float(moments.count), 1.0)
        scale_u, mean_u = moments.scale_u.numpy(), (moments.mean_u * moments.scale_u).numpy()
        a = product.shape[0]
        entries = sp.csr_array(product, copy=True)
        entries.data *= np.repeat(scale_u[:a] / count, np.diff(entries.indptr)) * scale_u[a:][entries.indices]
        this = cls(entries, mean_u[:a], mean_u[a:])
        return this.flip() if flipped else this

    def flip(self) -> Correlations:
        """Those of b with a."""
        return Correlations(self.entries.T.tocsr(), self.mean_b, self.mean_a)

    def select(self, a: NDArray[np.intp], b: NDArray[np.intp]) -> Correlations:
        """Those of some units."""
        return Correlations(self.entries[a][:, b], self.mean_a[a], self.mean_b[b])

    def row(self, i: int) -> NDArray[np.float64]:
        """Those of one unit of a with all of b, shape (b,)."""
        r_b: NDArray[np.float64] = self.mean_b * -self.mean_a[i]
        some = slice(self.entries.indptr[i], self.entries.indptr[i + 1])
        r_b[self.entries.indices[some]] += self.entries.data[some]
        return np.clip(r_b, -1, 1, out=r_b)

    def of_pairs(self, a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
        """Those of some pairs of units."""
        r: NDArray[np.float64] = at(self.entries, a, b) - self.mean_a[a] * self.mean_b[b]
        return np.clip(r, -1, 1)


def at(matrix: Sparse, row: NDArray[Any], column: NDArray[Any]) -> NDArray[np.float64]:
    """Some entries of a sparse matrix.

    >>> at(sp.csr_array(np.eye(3)), np.array([0, 1]), np.array([0, 2]))
    array([1., 0.])
    """
    if not len(row):
        return np.zeros(0)
    some = matrix[np.array(row), np.array(column)]  # sparse or dense, as scipy's version has it
    dense: NDArray[np.float64] = (some.toarray() if sp.issparse(some) else some).reshape(-1)
    return dense
