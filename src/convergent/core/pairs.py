"""Two nets, one layer: what an alignment method is given.

Axes: `n` samples, `a` and `b` units of the two nets (p and q of them), `k` blocks of images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from convergent.core.blocks import block_of_image, moments_of_blocks
from convergent.core.energies import Energies
from convergent.core.histogram_source import Joint, SampledJoint
from convergent.core.matrices import as_count, as_matrix, as_whole_numbers
from convergent.core.moments import Moments
from convergent.core.sparse_moments import SparseMoments
from convergent.errors import InputError

T = TypeVar("T")
Store = Callable[[str, Callable[[], Any]], Any]  # the value of a name: as it was stored, or made now and stored

_ENOUGH = 10  # blocks of images to recognise a unit that varies in one of them only


@dataclass(frozen=True, eq=False)
class Pair:
    """The joint second moments of one layer's units in net a and net b, per block of images.

    Means, covariances and correlations are those of all blocks together. Constant units are decided here, once: their
    entries are 0 in every array and `active_a`, `active_b` say which they are, so no NaN leaves this record.

    Attributes:
        moments: of both nets' units side by side, with a leading block axis.
        a: which of those units are net a's.
        b: which are net b's.
        name_a: what to call net a.
        name_b: what to call net b.
        layer: the layer's name.
        joint: where joint histograms of the same samples come from, for methods that need them; None for none.
        parts: where blocks were merged into `moments`, which ones with what weights, so that a method can hold out images
            of its own among those that it is fitted to.
        held_out_folds: how many folds of the blocks of images every held-out score of this pair is made of; 0 for none. What
            a method chooses by images held out among those of its fit (a ridge, a penalty) has folds of its own.
        energies: of the samples of both nets, in the order of their units in `moments` (those of `parts` where there are
            such), for measures that are functions of pairs of samples; None where they were not collected.
        samples: activations of net a and net b, shapes (n, p) and (n, q), all or some, for measures that need them; or None.
        store: of values that methods share, see `shared`; None where they are made each time.
    """

    moments: Moments
    a: slice
    b: slice
    name_a: str = "a"
    name_b: str = "b"
    layer: str = ""
    joint: Joint | None = None
    parts: tuple[Moments, Tensor] | None = None
    held_out_folds: int = 5
    energies: Energies | None = None
    samples: tuple[Tensor, Tensor] | None = None
    store: Store | None = None

    @classmethod
    def of(
        cls,
        x_na: Tensor | ArrayLike,
        x_nb: Tensor | ArrayLike,
        image_n: Tensor | ArrayLike | None = None,
        blocks: int = 20,
    ) -> Pair:
        """The pair of two activation matrices whose rows are the same samples; it keeps a reference to them.

        Args:
            x_na: activations of net a, shape (n samples, p units), whatever `matrices.as_matrix` takes.
            x_nb: activations of net b, shape (n samples, q units).
            image_n: the image of each sample, shape (n,), any whole numbers; each sample an image of its own by default.
            blocks: how many blocks the images are dealt into, for held-out scores and intervals; at most one per image.

        Raises:
            InputError: if the samples do not correspond, the activations are unusable, or memory does not suffice.

        >>> Pair.of(torch.eye(4), torch.eye(4).flip(1)).corr_ab.argmax(0)
        tensor([3, 2, 1, 0])
        """
        x_na, x_nb = as_matrix(x_na, "Activations of net a"), as_matrix(x_nb, "Activations of net b")
        if len(x_na) != len(x_nb):
            raise InputError(
                "A pair needs two matrices (samples, units) whose rows are the same samples, "
                f"not shapes {tuple(x_na.shape)} and {tuple(x_nb.shape)}."
            )
        image_n = torch.arange(len(x_na)) if image_n is None else as_whole_numbers(image_n, len(x_na), "image_n")
        image, which_n = torch.unique(image_n, return_inverse=True)
        block_n = block_of_image(len(image), as_count(blocks, "blocks"))[which_n]
        a, b = slice(0, x_na.shape[1]), slice(x_na.shape[1], x_na.shape[1] + x_nb.shape[1])
        moments, energies = moments_of_blocks(x_na, x_nb, block_n)
        joint = SampledJoint(x_na, x_nb, block_n)
        return cls(moments, a, b, joint=joint, energies=energies, samples=(x_na, x_nb))

    def __repr__(self) -> str:
        layer = f"{self.layer}: " if self.layer else ""
        nets = f"{self.p} units of {self.name_a}, {self.q} of {self.name_b}"
        return f"Pair({layer}{nets}, {self.count:,} samples in {self.blocks} blocks)"

    @property
    def total(self) -> Moments:
        """The joint moments of all blocks together."""
        return self.moments.total

    @property
    def p(self) -> int:
        """Number of net a's units, constant ones included."""
        return int(self.a.stop - self.a.start)

    @property
    def q(self) -> int:
        """Number of net b's units."""
        return int(self.b.stop - self.b.start)

    @property
    def count(self) -> int:
        """Number of samples."""
        return round(self.total.count.item())

    @property
    def blocks(self) -> int:
        """Number of blocks of images."""
        return len(self.moments.count)

    @property
    def sparse(self) -> bool:
        """Whether there is a sparse record alone, see `SparseMoments`."""
        return isinstance(self.moments, SparseMoments)

    @property
    def holds_out(self) -> bool:
        """Whether held-out scores are asked for and there are blocks of images to make them of."""
        return min(self.held_out_folds, self.blocks) > 1

    @property
    def active_a(self) -> Tensor:
        """Which units of a vary at all, shape (p,)."""
        return self.total.active_u[self.a]

    @property
    def active_b(self) -> Tensor:
        """Which units of b vary at all, shape (q,)."""
        return self.total.active_u[self.b]

    @property
    def reliable_a(self) -> Tensor:
        """Which active units of a vary in more than one block of images, so that a prediction may rest on them, shape (p,).

        Measured by the one image in which it fires, a unit may be far off in the next one and spoil the prediction of
        every unit. Blocks are counted by their share of the unit's variance (1 / sum of squared shares, at
        least 2); with fewer than ten of them all active units pass.
        """
        moments, weight_k = self.parts or (self.moments, torch.ones(self.blocks, dtype=torch.float64))
        if int((weight_k > 0).sum()) < _ENOUGH:
            return self.active_a
        gap_ka = moments.mean_u[:, self.a] - self.total.mean_u[self.a]
        scatter_ka = moments.scatter_uu.diagonal(dim1=1, dim2=2)[:, self.a]
        share_ka = weight_k[:, None] * (scatter_ka + moments.count[:, None] * gap_ka.square())
        return self.active_a & (share_ka.sum(0).square() >= 2 * share_ka.square().sum(0))

    @property
    def cov_aa(self) -> Tensor:
        """Covariances within net a, shape (p, p); in its activations' own unit, but for `Moments.gain_u`."""
        return self.total.cov(self.a, self.a)

    @property
    def cov_ab(self) -> Tensor:
        """Covariances between the nets, shape (p, q)."""
        return self.total.cov(self.a, self.b)

    @property
    def cov_bb(self) -> Tensor:
        """Covariances within net b, shape (q, q)."""
        return self.total.cov(self.b, self.b)

    @cached_property
    def corr_aa(self) -> Tensor:
        """Correlations within net a, shape (p, p)."""
        return self.total.corr(self.a, self.a)

    @cached_property
    def corr_ab(self) -> Tensor:
        """Correlations between the nets, shape (p, q)."""
        return self.total.corr(self.a, self.b)

    @cached_property
    def corr_bb(self) -> Tensor:
        """Correlations within net b, shape (q, q)."""
        return self.total.corr(self.b, self.b)

    @cached_property
    def energy_products(self) -> tuple[Tensor, Tensor] | None:
        """Sums over samples of |x - mean|^2 of a and b, shape (2,), and of their products, shape (2, 2); None if unknown."""
        if self.energies is None:
            return None
        moments, weight_k = self.parts or (self.moments, None)
        sum_i, product_ij = self.energies.merged(moments, weight_k).products(self.total)
        return (sum_i, product_ij) if self.a.start <= self.b.start else (sum_i.flip(0), product_ij.flip(0, 1))

    def shared(self, name: str, make: Callable[[], T], *about: Tensor) -> T:
        """A value that methods share: it follows from the moments, the folds and what it is `about`; of what JSON has.

        It comes from the pair's `store`, under a name that changes with all that it follows from, or is made now.
        """
        if self.store is None:
            return make()
        of, content = self.moments, hashlib.sha256(repr((self.a, self.b, self.held_out_folds)).encode())
        squares_ku = of.scatter_uu.diagonal(dim1=-2, dim2=-1)
        for x in (of.count, of.mean_u, squares_ku, self.total.scatter_uu, *about):
            content.update(x.contiguous().numpy().tobytes())
        return self.store(f"{name},{content.hexdigest()[:16]}", make)  # type: ignore[no-any-return]

    def flip(self) -> Pair:
        """The same pair seen from the other net: its a is this b."""
        samples = self.samples and self.samples[::-1]
        return replace(self, a=self.b, b=self.a, name_a=self.name_b, name_b=self.name_a, samples=samples)

    def weighted(self, weight_k: Tensor) -> Pair:
        """The pair with each block of images counted `weight_k` times, shape (k,), without joint histograms."""
        parts, energies = ((self.moments, weight_k), self.energies) if self.parts is None else (None, None)
        merged = Moments.stack([self.moments.merged(weight_k)])
        return replace(self.of_moments(merged), parts=parts, energies=energies)

    def of_moments(self, moments: Moments) -> Pair:
        """The pair with the moments of other samples, of which no more is known."""
        return replace(self, moments=moments, joint=None, parts=None, energies=None, samples=None)

    def folds(self, n: int | None = None) -> Iterator[tuple[Pair, Pair]]:
        """Pairs (fit, held out) over `n` folds of the blocks, those of held-out scores by default; each block held out once.

        Raises:
            InputError: if there are fewer than two blocks to tell apart.
        """
        n = self.held_out_folds if n is None else n
        if self.parts is not None:
            yield from self._folds_of_parts(n, *self.parts)
            return
        n = min(n, self.blocks)
        if n < 2:
            raise InputError(
                f"Held-out scores need at least 2 blocks of images and 2 folds, but there are {self.blocks} blocks and "
                f"{n} folds; measure with more blocks or ask for folds=0."
            )
        joints = [(None, None)] * n if self.joint is None else self.joint.folds(n)
        fold_k = torch.arange(self.blocks) % n
        for fold, ((fit, held), (joint_fit, joint_held)) in enumerate(zip(self.moments.folds(n), joints)):
            parts = (self.moments, (fold_k != fold).double())
            yield (
                replace(self, moments=Moments.stack([fit]), joint=joint_fit, parts=parts, samples=None),
                replace(self.of_moments(Moments.stack([held])), joint=joint_held),
            )

    def _folds_of_parts(self, n: int, whole: Moments, weight_k: Tensor) -> Iterator[tuple[Pair, Pair]]:
        there = weight_k.nonzero()[:, 0]
        fold_k = torch.full((len(weight_k),), -1).index_copy(0, there, torch.arange(len(there)) % n)
        weight_nk = torch.stack([weight_k * (fold_k == fold) for fold in range(min(n, len(there)))])
        held_n = whole.merged_each(weight_nk)
        fits = held_n.leave_one_out() if len(weight_nk) > 1 else [whole.merged(0 * weight_k)]
        for fold, (fit, held_k) in enumerate(zip(fits, weight_nk)):
            held = held_n.some_blocks(slice(fold, fold + 1))
            yield (
                replace(self.of_moments(Moments.stack([fit])), parts=(whole, weight_k - held_k)),
                self.of_moments(held),
            )
