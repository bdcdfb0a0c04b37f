"""Second moments of units: the one record that every alignment is a function of.

Axes: `n` samples, `u` units, `k` blocks of images. A record may carry leading axes (one moment per block), written `...`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from convergent.core.matrices import as_matrix
from convergent.core.scatter import active, centred_products, scale, spread

_SMALL = 2**26  # bytes of folds that are kept
_EATEN = 1e-2  # share of a unit's variance, below which a difference from it has lost digits


@dataclass(frozen=True, eq=False)
class Moments:
    """Count, means and centred sums of products of `u` units, in float64.

    Merging with `+` is exact up to rounding: batch size, order, processes and machines change nothing beyond it.

    Attributes:
        count: number of samples, shape (...).
        mean_u: mean of each unit, shape (..., u), in the unit's own activation.
        scatter_uu: sums of products of deviations from the mean, shape (..., u, u); divided by count it is the
            covariance.
        gain_u: powers of two, shape (u,), that the activations were multiplied by, where their squares would leave float64's
            range (beyond 1e60 or 1e-60); None, which is nearly always, stands for ones.

    Source: Chan, Golub, LeVeque 1983, "Algorithms for computing the sample variance", equations 2.1.

    >>> x_nu = torch.tensor([[1.0, 2.0], [3.0, 6.0], [5.0, 4.0]])
    >>> moments = Moments.of(x_nu[:1]) + Moments.of(x_nu[1:])
    >>> round(moments.corr_uu[0, 1].item(), 6)
    0.5
    """

    count: Tensor
    mean_u: Tensor
    scatter_uu: Tensor
    gain_u: Tensor | None = None
    _folds: dict[int, list[tuple[Moments, Moments]]] = field(default_factory=dict, init=False, repr=False)

    def __repr__(self) -> str:
        blocks = f" in {len(self.count)} blocks" if self.count.ndim else ""
        return f"Moments({self.mean_u.shape[-1]} units, {round(self.count.sum().item()):,} samples{blocks})"

    @classmethod
    def of(cls, x_nu: Tensor | ArrayLike) -> Moments:
        """The moments of one batch of samples, shape (n, u), whatever `matrices.as_matrix` takes."""
        x_nu = as_matrix(x_nu)
        gain_u = gain_for(x_nu)
        x_nu = torch.empty(x_nu.shape, dtype=torch.float64).copy_(x_nu)  # rows after rows, so that all round alike
        scatter_uu = x_nu.new_empty(2 * x_nu.shape[1:])
        mean_u = centred_products(x_nu if gain_u is None else x_nu.mul_(gain_u), scatter_uu)
        return cls(torch.tensor(float(len(x_nu)), dtype=torch.float64), mean_u, scatter_uu, gain_u)

    @classmethod
    def stack(cls, blocks: Sequence[Moments]) -> Moments:
        """One record with a leading block axis from a record per block; of one block it shares the memory."""
        if type(blocks[0]) is not cls:  # a record of another kind
            return type(blocks[0]).stack(blocks)
        gain_u = _common_gain(blocks)
        blocks = [block.regained(gain_u) for block in blocks]
        parts = ([m.count for m in blocks], [m.mean_u for m in blocks], [m.scatter_uu for m in blocks])
        count, mean_u, scatter_uu = (part[0][None] if len(part) == 1 else torch.stack(part) for part in parts)
        return cls(count, mean_u, scatter_uu, gain_u)

    def regained(self, gain_u: Tensor | None) -> Moments:
        """The same moments with activations multiplied by other powers of two."""
        if gain_u is None or (self.gain_u is not None and torch.equal(gain_u, self.gain_u)):
            return self
        ratio_u = gain_u if self.gain_u is None else gain_u / self.gain_u
        scatter_uu = self.scatter_uu * ratio_u[:, None] * ratio_u
        return Moments(self.count, self.mean_u * ratio_u, scatter_uu, gain_u)

    def __add__(self, other: Moments) -> Moments:
        """The moments of both sets of samples together (leading axes merge element by element)."""
        if (gain_u := _common_gain([self, other])) is not None:
            self, other = self.regained(gain_u), other.regained(gain_u)
        count = self.count + other.count
        share = (other.count / count.clamp(min=1))[..., None]
        gap_u = other.mean_u - self.mean_u
        scatter_uu = self.scatter_uu + other.scatter_uu
        scatter_uu.addcmul_((self.count[..., None] * share * gap_u)[..., None], gap_u[..., None, :])
        return Moments(count, self.mean_u + share * gap_u, scatter_uu, gain_u)

    def merged(self, weight_k: Tensor | None = None) -> Moments:
        """One record of all blocks together, each counted `weight_k` times, at least 0 (leaves it out); once by default."""
        weight_k = torch.ones_like(self.count) if weight_k is None else weight_k.to(self.count)
        return self._merged(weight_k, torch.tensordot(weight_k, self.scatter_uu, 1))

    def merged_each(self, weight_wk: Tensor) -> Moments:
        """A record per weighting, shape (w, k), each as `merged` makes it; the blocks are read once for all of them."""
        weight_wk = weight_wk.to(self.count)
        scatter_wuu = torch.tensordot(weight_wk, self.scatter_uu, 1)
        every = [self._merged(weight_k, scatter_uu) for weight_k, scatter_uu in zip(weight_wk, scatter_wuu)]
        count_w, mean_wu = torch.stack([of.count for of in every]), torch.stack([of.mean_u for of in every])
        return Moments(count_w, mean_wu, scatter_wuu, self.gain_u)

    def _merged(self, weight_k: Tensor, scatter_uu: Tensor) -> Moments:
        """One record of the blocks so weighted; `scatter_uu`, the sum of theirs, becomes its own."""
        count, mean_u, gap_ku, n_k = self._about_mean(weight_k)
        scatter_uu.addmm_(gap_ku.T, n_k[:, None] * gap_ku)
        return Moments(count, mean_u, scatter_uu, self.gain_u)

    def _about_mean(self, weight_k: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of the blocks so weighted the count, the mean, shape (u,), the blocks' distances from it and their samples."""
        n_k = self.count * weight_k
        count = n_k.sum()
        # Differences of means keep the digits that large means would eat. They are to a block that counts: from one that
        # does not, a unit that is constant in all others would get rounding errors for moments, and be active.
        mean_u = self.mean_u[int((n_k > 0).to(torch.uint8).argmax())]
        from_first_ku = self.mean_u - mean_u
        shift_u = n_k @ from_first_ku / count.clamp(min=1)
        return count, mean_u + shift_u, from_first_ku - shift_u, n_k

    @cached_property
    def total(self) -> Moments:
        """One record of all blocks together; of one block it shares the memory."""
        if len(self.count) == 1:
            return Moments(self.count[0], self.mean_u[0], self.scatter_uu[0], self.gain_u)
        return self.merged()

    def folds(self, n: int) -> Iterator[tuple[Moments, Moments]]:
        """(Without the fold, the fold alone) for each of `n` folds of the blocks, read once; few units' are kept."""
        if n in self._folds:
            yield from self._folds[n]
            return
        held = self.in_groups(n)
        folds = zip(held.leave_one_out(), (held.some_blocks(slice(fold, fold + 1)).total for fold in range(n)))
        if 16 * n * self.mean_u.shape[-1] ** 2 <= _SMALL:
            self._folds[n] = list(folds)
        yield from self._folds.get(n, folds)

    def in_groups(self, n: int) -> Moments:
        """A record with so many blocks, at most as many as there are: every n-th block together, from each of the first."""
        return self.stack([self.some_blocks(slice(group, None, n)).total for group in range(min(n, len(self.count)))])

    def leave_one_out(self, groups: int | None = None) -> Iterator[Moments]:
        """One record of all blocks together but one, for each block in turn (jackknife), or but one group: `in_groups`.

        A block is taken away from the total. Of a unit that has nearly all its variance in that block this would leave
        rounding errors: its sums are merged from the other blocks. Each block is read twice.

        Source: Chan, Golub, LeVeque 1983, equations 2.1, solved for one of the two sets of samples.
        """
        k = torch.arange(len(self.count))
        n = len(k) if groups is None else min(groups, len(k))
        if n < 2:
            return
        total, squares_ku = self.total, self.scatter_uu.diagonal(dim1=1, dim2=2)
        for group in range(n):
            weight_k = (k % n != group).to(self.count)
            count, mean_u, gap_ku, n_k = self._about_mean(weight_k)
            square_u = weight_k @ squares_ku + n_k @ gap_ku.square()
            eaten = (square_u < _EATEN * total.scatter_uu.diagonal()).nonzero()[:, 0]
            if 8 * len(eaten) > len(mean_u) or not count:  # whose copy would take much memory
                yield self.merged(weight_k)
                continue
            left_out = self.some_blocks(slice(group, None, n)).total
            scatter_uu, gap_u = total.scatter_uu - left_out.scatter_uu, left_out.mean_u - mean_u
            scatter_uu.addr_(gap_u, gap_u, alpha=-float(left_out.count * count / total.count))
            if len(eaten):
                rows_iu = torch.tensordot(weight_k, self.scatter_uu[:, eaten], 1)
                rows_iu.addmm_(gap_ku[:, eaten].T, n_k[:, None] * gap_ku)
                scatter_uu[eaten], scatter_uu[:, eaten] = rows_iu, rows_iu.T
            scatter_uu.diagonal().copy_(square_u)
            yield Moments(count, mean_u, scatter_uu, self.gain_u)

    def some_blocks(self, blocks: slice) -> Moments:
        """Those of some blocks."""
        return Moments(self.count[blocks], self.mean_u[blocks], self.scatter_uu[blocks], self.gain_u)

    def select(self, units: Tensor) -> Moments:
        """The moments of some units only, in the order of the index `units`."""
        gain_u = None if self.gain_u is None else self.gain_u[units]
        return Moments(self.count, self.mean_u[..., units], self.scatter_uu[..., units[:, None], units], gain_u)

    @property
    def cov_uu(self) -> Tensor:
        """Population covariance, shape (..., u, u)."""
        return self.scatter_uu / self.count.clamp(min=1)[..., None, None]

    def weighted_corr(self, weight_wk: Tensor, rows: slice, columns: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Correlations between some units, of blocks `merged` by each of several weightings, shape (w, rows, columns).

        And which of the rows' and of the columns' units are active, shapes (w, rows) and (w, columns).
        """
        n_wk, squares_ku = self.count * weight_wk, self.scatter_uu.diagonal(dim1=1, dim2=2)
        (gap_wki, sd_wi, active_wi), (gap_wkj, sd_wj, active_wj) = (
            spread(self.count, self.mean_u[:, units], squares_ku[:, units], weight_wk) for units in (rows, columns)
        )
        scatter_wij = torch.tensordot(weight_wk, self.scatter_uu[:, rows, columns], 1)
        scatter_wij.baddbmm_((n_wk[..., None] * gap_wki).mT, gap_wkj)
        corr_wij = scatter_wij.div_(n_wk.sum(1).clamp(min=1)[:, None, None]).mul_(scale(sd_wi, active_wi)[..., None])
        return corr_wij.mul_(scale(sd_wj, active_wj)[:, None]).clamp_(-1, 1), active_wi, active_wj

    @cached_property
    def sd_u(self) -> Tensor:
        """Population standard deviation, shape (..., u)."""
        variance_u = self.scatter_uu.diagonal(dim1=-2, dim2=-1) / self.count.clamp(min=1)[..., None]
        return variance_u.clamp(min=0).sqrt()

    @cached_property
    def active_u(self) -> Tensor:
        """False for units that are constant (up to float32's resolution of their mean), shape (..., u)."""
        return active(self.sd_u, self.mean_u)

    @cached_property
    def scale_u(self) -> Tensor:
        """1 / standard deviation, and 0 for constant units, shape (..., u)."""
        return scale(self.sd_u, self.active_u)

    def cov(self, rows: slice, columns: slice) -> Tensor:
        """Covariances between some units, shape (..., rows, columns); those of constant units are 0."""
        cov_ij = self.scatter_uu[..., rows, columns] / self.count.clamp(min=1)[..., None, None]
        return cov_ij.mul_(self.active_u[..., rows, None]).mul_(self.active_u[..., None, columns])

    @property
    def corr_uu(self) -> Tensor:
        """Correlation, shape (..., u, u); rows and columns of constant units are 0."""
        return self.corr(slice(None), slice(None))

    def corr(self, rows: slice, columns: slice) -> Tensor:
        """Correlations between some units, shape (..., rows, columns); those of constant units are 0."""
        corr_ij = self.scatter_uu[..., rows, columns] / self.count.clamp(min=1)[..., None, None]
        return corr_ij.mul_(self.scale_u[..., rows, None]).mul_(self.scale_u[..., None, columns]).clamp_(-1, 1)


# Squares of activations within these bounds, their sums and the squares of these are far from the ends of float64.
_LARGEST = 200  # as a power of two, some 1e60


def gain_for(*x_nu: Tensor) -> Tensor | None:
    """Powers of two that bring the columns of matrices, side by side, near 1, those that need it; None if none does."""
    if all(x.dtype != torch.float64 for x in x_nu):  # whose squares all lie within float64's range
        return None
    exponent_u = torch.cat([torch.frexp(torch.maximum(x.amax(0), -x.amin(0)).double()).exponent for x in x_nu])
    exponent_u = torch.where(exponent_u.abs() > _LARGEST, exponent_u.clamp(-1000, 1000), 0)
    return torch.exp2(-exponent_u.double()) if exponent_u.any() else None


def _common_gain(records: Sequence[Moments]) -> Tensor | None:
    """The smallest gain of each unit in some records."""
    gains = [record.gain_u for record in records]
    if all(gain_u is None for gain_u in gains):
        return None
    ones_u = torch.ones(records[0].mean_u.shape[-1], dtype=torch.float64)
    return torch.stack([ones_u if gain_u is None else gain_u for gain_u in gains]).amin(0)
