"""Random rotations: of any space, and of a layer's pre-activations, before its nonlinearity.

Axes: `n` samples, `u` units of a layer, `b` units of net b.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from convergent.core.moments import Moments
from convergent.errors import InputError

# Up to so many units a rotation is Haar's; of more, whose QR takes minutes, a product of rotations of random groups.
HAAR = 1024
_GROUP, _ROUNDS = 128, 3


def rotation(n: int, generator: torch.Generator, groups: tuple[int, ...] = ()) -> Tensor:
    """A random orthogonal matrix, every one equally likely (Haar), or several, shape (*groups, n, n), float64.

    Source: Mezzadri 2007, "How to generate random matrices from the classical compact groups".
    """
    q_nn, r_nn = torch.linalg.qr(torch.randn(*groups, n, n, generator=generator, dtype=torch.float64))
    # only the QR with R's diagonal positive is unique, and hence Haar: LAPACK's signs are not random
    return torch.where(r_nn.diagonal(dim1=-2, dim2=-1)[..., None, :] < 0, -q_nn, q_nn)


@dataclass(frozen=True)
class GroupRotation:
    """A random orthogonal matrix of many units: several times they are shuffled into groups, each rotated by Haar's measure.

    Three rounds of groups of 128 mix each unit with all others, up to some millions, at 3 x 128 multiplications a unit; what
    nulls say is Haar's within simulations' errors (docs/chance.md).

    Attributes:
        rounds: of each the shuffled units, and the groups' matrices, shape (groups, units, units): the larger groups first.
    """

    rounds: Sequence[tuple[Tensor, Sequence[Tensor]]]

    @classmethod
    def draw(cls, n: int, generator: torch.Generator, like: Tensor) -> GroupRotation:
        """The next one of n units, on the device and of the type of another tensor."""
        groups, rounds = -(-n // _GROUP), []
        for _ in range(_ROUNDS):
            order_u = torch.randperm(n, generator=generator)
            sizes = ((n % groups, n // groups + 1), (groups - n % groups, n // groups))
            parts = [rotation(size, generator, (count,)).to(like) for count, size in sizes if count]
            rounds.append((order_u.to(like.device), parts))
        return cls(rounds)

    @property
    def multiplications(self) -> int:
        """Of one sample."""
        return sum(q.numel() for _, parts in self.rounds for q in parts)

    def __call__(self, x_us: Tensor) -> Tensor:
        """Samples in columns, rotated, shape (u, s)."""
        for order_u, parts in self.rounds:
            slices = torch.split(x_us[order_u], [q.shape[0] * q.shape[1] for q in parts])
            x_us = torch.cat([(q @ x.view(*q.shape[:2], -1)).flatten(0, 1) for q, x in zip(parts, slices)])
        return x_us


class Turn(NamedTuple):
    """An affine map that rotates a layer's pre-activations, see `turning`: h' = turn_uu.T @ h + offset_u."""

    turn_uu: Tensor
    offset_u: Tensor

    @property
    def multiplications(self) -> int:
        """Of one sample."""
        return self.turn_uu.numel()

    def __call__(self, x_us: Tensor) -> Tensor:
        """Samples in columns, rotated, shape (units, s)."""
        return torch.addmm(self.offset_u[:, None], self.turn_uu.T, x_us)


@dataclass(frozen=True)
class WideTurn:
    """The same for many units, by a `GroupRotation` of the active ones; all arrays have the shape (active units, 1)."""

    active_u: Tensor
    mean_u: Tensor
    scale_u: Tensor
    gain_u: Tensor
    rotation: GroupRotation

    @property
    def multiplications(self) -> int:
        """Of one sample."""
        return self.rotation.multiplications

    def __call__(self, x_us: Tensor) -> Tensor:
        """Samples in columns, rotated, shape (units, s)."""
        rotated_us = x_us.clone()
        z_us = (x_us[self.active_u] - self.mean_u) * self.scale_u
        rotated_us[self.active_u] = self.rotation(z_us) * self.gain_u + self.mean_u
        return rotated_us


def turning(pre: Moments, generator: torch.Generator, like: Tensor | None = None) -> Turn:
    """The affine map that rotates a layer's pre-activations at random and leaves each unit its mean and deviation.

    Pre-activations are standardised, rotated, standardised again, and given each unit's own mean and deviation back, so that
    a rotated unit fires about as often as the unit whose place it takes. Constant units stay as they are.

    Args:
        pre: moments of the pre-activations of a layer's units, without block axis.
        generator: of the rotation; each call takes the next one from it.
        like: on whose device and of whose type the map is to be; float64 on the host by default.

    Raises:
        InputError: if the moments have a block axis.
    """
    if pre.mean_u.ndim != 1:
        raise InputError(
            f"A rotation needs the moments of all samples together, not of {len(pre.mean_u)} blocks; take their total."
        )
    active = pre.active_u.nonzero()[:, 0]
    q_uu = rotation(len(active), generator)
    corr_uu = pre.corr_uu[active[:, None], active]
    gain_u = pre.sd_u[active] / (q_uu * (corr_uu @ q_uu)).sum(0).sqrt()
    turn_uu = torch.eye(len(pre.mean_u), dtype=torch.float64)
    turn_uu[active[:, None], active] = pre.scale_u[active, None] * q_uu * gain_u
    mean_u = pre.mean_u[active]
    offset_u = torch.zeros_like(pre.mean_u)
    offset_u[active] = mean_u - mean_u @ turn_uu[active[:, None], active]
    like = turn_uu if like is None else like
    return Turn(turn_uu.to(like), offset_u.to(like))


def wide_turning(pre_us: Tensor, generator: torch.Generator) -> WideTurn:
    """The same as `turning` for many units, whose products would take long: from samples, shape (units, s)."""
    sd_u, mean_u = torch.std_mean(pre_us.double(), 1, correction=0)
    active_u = (sd_u > torch.finfo(torch.float32).eps * mean_u.abs()).nonzero()[:, 0]
    mean_u, sd_u = (x_u[active_u, None].to(pre_us) for x_u in (mean_u, sd_u))
    turn = GroupRotation.draw(len(active_u), generator, pre_us)
    rotated_us = turn((pre_us[active_u] - mean_u) / sd_u)
    return WideTurn(active_u, mean_u, 1 / sd_u, sd_u / rotated_us.std(1, correction=0, keepdim=True), turn)


def rotated_before(
    pre_nb: Tensor | np.ndarray,
    nonlinearity: Callable[[Tensor], Tensor | np.ndarray],
    seed: int = 0,
    pre_na: Tensor | np.ndarray | None = None,
) -> Tensor:
    """What net b's units would be on random axes of the same space: rotated first, then sent through the nonlinearity.

    This is the null of every claim that single units mean something beyond the space that they span. A rotation of the
    *activations* (`rotated`; the literature's) gives dense, nearly Gaussian units, which correlate less than sparse ones at
    the extremes: that null is too low. docs/chance.md has the rates of both.

    Args:
        pre_nb: pre-activations of net b, what the nonlinearity is given.
        nonlinearity: unit by unit, such as `torch.relu`; it is given float64. A gated layer is
            `rotated_before(gate_nb, silu, seed) * rotated_before(value_nb, lambda h: h, seed)`: one seed, one rotation.
        seed: of the rotation, whose generator is its own.
        pre_na: pre-activations of the net to compare with, shape (n, p); many more samples than p. With it only that part
            of each unit is rotated which least squares predict from net a, and each unit keeps how much that is. The level
            then holds for units that differ in how much of them is shared, too.

    Returns:
        Shape (n, q), float64. Units whose pre-activation is constant keep it.

    Raises:
        InputError: if either is no matrix (samples, units) of finite numbers, their samples differ in number, or the
            nonlinearity changes the shape.

    >>> pre_nb = torch.randn(5000, 16, generator=torch.Generator().manual_seed(0)) - 1.5
    >>> x_nb = rotated_before(pre_nb, torch.relu, seed=1)
    >>> round(((pre_nb > 0).double().mean() - (x_nb > 0).double().mean()).abs().item(), 2)  # as sparse as before
    0.0
    """
    pre_nb = torch.as_tensor(pre_nb).detach()
    pre = Moments.of(pre_nb)
    if pre_na is not None and len(pre_na) != len(pre_nb):
        raise InputError(f"Both nets need the same samples, not {len(pre_na)} of net a and {len(pre_nb)} of net b.")
    pre_nb = pre_nb.to("cpu", torch.float64)
    active = pre.active_u.nonzero()[:, 0]
    z_nb = (pre_nb[:, active] - pre.mean_u[active]) * pre.scale_u[active]
    part_nb = z_nb if pre_na is None else _predicted(z_nb, torch.as_tensor(pre_na).detach())
    rotated_nb = part_nb @ rotation(len(active), torch.Generator().manual_seed(seed))
    rotated_nb *= part_nb.norm(dim=0) / rotated_nb.norm(dim=0).clamp(min=1e-300)  # both of mean 0
    rotated = pre_nb.clone()
    rotated[:, active] = (rotated_nb + (z_nb - part_nb)) * pre.sd_u[active] + pre.mean_u[active]
    x_nb = torch.as_tensor(nonlinearity(rotated)).detach()
    if x_nb.shape != rotated.shape:
        raise InputError(
            f"The nonlinearity needs to return a number per sample and unit, shape {tuple(rotated.shape)}, not "
            f"{tuple(x_nb.shape)}; give one that acts on each unit by itself."
        )
    return x_nb


def _predicted(z_nb: Tensor, pre_na: Tensor) -> Tensor:
    """What least squares predict of z-scores from net a's pre-activations, shape (n, q)."""
    pre = Moments.of(pre_na)
    z_na = (pre_na.to("cpu", torch.float64) - pre.mean_u) * pre.scale_u
    inverse_aa: Tensor = torch.linalg.pinv(z_na.T @ z_na, hermitian=True, rtol=1e-10)
    return z_na @ (inverse_aa @ (z_na.T @ z_nb))
