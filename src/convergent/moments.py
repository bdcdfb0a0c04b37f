"""Second moments of units: the one record that every alignment is a function of.

Axes: `n` samples, `u` units, `k` blocks of images. A record may carry leading axes (one moment per block), written `...`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from convergent.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np

# A unit whose standard deviation is below this share of its mean is constant up to float32's resolution.
_DEAD = 1e-7


@dataclass(frozen=True, eq=False)
class Moments:
    """Count, means and centred sums of products of `u` units, in float64.

    Merging with `+` is exact up to rounding: batch size, order, processes and machines change nothing beyond it.

    Attributes:
        count: number of samples, shape (...).
        mean_u: mean of each unit, shape (..., u), in the unit's own activation.
        scatter_uu: sums of products of deviations from the mean, shape (..., u, u); divided by count it is the
            covariance.

    Source: Chan, Golub, LeVeque 1983, "Algorithms for computing the sample variance", equations 2.1.

    >>> x_nu = torch.tensor([[1.0, 2.0], [3.0, 6.0], [5.0, 4.0]])
    >>> moments = Moments.of(x_nu[:1]) + Moments.of(x_nu[1:])
    >>> round(moments.corr_uu[0, 1].item(), 6)
    0.5
    """

    count: Tensor
    mean_u: Tensor
    scatter_uu: Tensor
    _folds: dict[int, list[tuple[Moments, Moments]]] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of(cls, x_nu: Tensor | np.ndarray) -> Moments:
        """The moments of one batch of samples.

        Args:
            x_nu: activations, shape (n samples, u units), numpy or torch, any real type, any device.

        Raises:
            InputError: if `x_nu` has not two axes, has no sample, or holds NaN or infinity.
        """
        x_nu = torch.as_tensor(x_nu).detach()
        if x_nu.ndim != 2 or len(x_nu) == 0:
            raise InputError(
                f"Moments need activations of shape (samples, units) with at least one sample, not {tuple(x_nu.shape)}; "
                "reshape convolutional activations so that every position is a sample."
            )
        x_nu = x_nu.to("cpu", torch.float64)
        mean_u = x_nu.mean(0)
        if not torch.isfinite(mean_u).all():
            unit = int((~torch.isfinite(mean_u)).nonzero()[0])
            raise InputError(
                f"Moments need finite activations, but unit {unit} has NaN or infinity; look for it in the net."
            )
        x_nu = x_nu - mean_u
        left_u = x_nu.mean(0)  # what rounding left of the mean: the second of the two passes
        scatter_uu = x_nu.T @ x_nu - len(x_nu) * torch.outer(left_u, left_u)
        count = torch.tensor(float(len(x_nu)), dtype=torch.float64)
        return cls(count, mean_u + left_u, scatter_uu)

    @classmethod
    def stack(cls, blocks: Sequence[Moments]) -> Moments:
        """One record with a leading block axis from a record per block."""
        return cls(*(torch.stack(parts) for parts in zip(*((m.count, m.mean_u, m.scatter_uu) for m in blocks))))

    def __add__(self, other: Moments) -> Moments:
        """The moments of both sets of samples together (leading axes merge element by element)."""
        count = self.count + other.count
        share = (other.count / count.clamp(min=1))[..., None]
        gap_u = other.mean_u - self.mean_u
        scatter_uu = self.scatter_uu + other.scatter_uu
        scatter_uu = scatter_uu + (self.count[..., None] * share * gap_u)[..., :, None] * gap_u[..., None, :]
        return Moments(count, self.mean_u + share * gap_u, scatter_uu)

    def merged(self, weight_k: Tensor | None = None) -> Moments:
        """One record of all blocks together, each block counted `weight_k` times.

        Args:
            weight_k: shape (k,), at least 0; ones by default. Zeros leave blocks out (folds, jackknife), whole numbers
                repeat them (bootstrap).
        """
        n_k = self.count if weight_k is None else self.count * weight_k
        s_k = torch.ones_like(self.count) if weight_k is None else weight_k.to(self.count)
        count = n_k.sum()
        # Differences of means keep the digits that large means would eat. They are to a block that counts: from one that
        # does not, a unit that is constant in all others would get rounding errors for moments, and be alive.
        mean_u = self.mean_u[int((n_k > 0).to(torch.uint8).argmax())]
        from_first_ku = self.mean_u - mean_u
        shift_u = n_k @ from_first_ku / count.clamp(min=1)
        gap_ku = from_first_ku - shift_u
        scatter_uu = torch.tensordot(s_k, self.scatter_uu, 1) + gap_ku.T @ (n_k[:, None] * gap_ku)
        return Moments(count, mean_u + shift_u, scatter_uu)

    @cached_property
    def total(self) -> Moments:
        """One record of all blocks together."""
        return self.merged()

    def folds(self, n: int) -> list[tuple[Moments, Moments]]:
        """(Without the fold, the fold alone) for each of `n` folds of the blocks; kept, for every method asks for them."""
        if n not in self._folds:
            fold_k = torch.arange(len(self.count)) % n
            parts = [(fold_k != fold, fold_k == fold) for fold in range(n)]
            self._folds[n] = [(self.merged(rest.double()), self.merged(held.double())) for rest, held in parts]
        return self._folds[n]

    def leave_one_out(self) -> Iterator[Moments]:
        """One record of all blocks together but one, for each block in turn (jackknife).

        Halves of the blocks are merged with all that lies outside them, and so on down, which reads the blocks log2(k)
        times instead of k times. Subtracting a block from the total would be cheaper still, but a unit that fires in that
        block alone would be left with rounding errors for moments: alive, with correlations made of noise.
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
                half = Moments(self.count[other], self.mean_u[other], self.scatter_uu[other]).merged()
                yield from inside(start, stop, half if outside is None else outside + half)

        yield from inside(0, len(self.count), None)

    def select(self, units: Tensor) -> Moments:
        """The moments of some units only, in the order of the index `units`."""
        return Moments(self.count, self.mean_u[..., units], self.scatter_uu[..., units[:, None], units])

    @cached_property
    def cov_uu(self) -> Tensor:
        """Population covariance, shape (..., u, u)."""
        return self.scatter_uu / self.count.clamp(min=1)[..., None, None]

    @cached_property
    def sd_u(self) -> Tensor:
        """Population standard deviation, shape (..., u)."""
        return self.cov_uu.diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt()

    @cached_property
    def alive_u(self) -> Tensor:
        """False for units that are constant (up to float32's resolution of their mean), shape (..., u)."""
        return self.sd_u > _DEAD * self.mean_u.abs()

    @cached_property
    def scale_u(self) -> Tensor:
        """1 / standard deviation, and 0 for dead units, shape (..., u)."""
        return torch.where(self.alive_u, 1 / self.sd_u.where(self.alive_u, torch.ones_like(self.sd_u)), 0.0)

    @cached_property
    def corr_uu(self) -> Tensor:
        """Correlation, shape (..., u, u); rows and columns of dead units are 0."""
        corr_uu = self.cov_uu * self.scale_u[..., :, None] * self.scale_u[..., None, :]
        return corr_uu.clamp(-1, 1)
