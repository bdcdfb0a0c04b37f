"""Random rotations: of any space, and of a layer's pre-activations, before its nonlinearity.

Axes: `n` samples, `u` units of a layer, `b` units of net b.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from convergent.core.moments import Moments
from convergent.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np


def rotation(n: int, generator: torch.Generator) -> Tensor:
    """A random orthogonal matrix, every one equally likely (Haar), shape (n, n), float64.

    Source: Mezzadri 2007, "How to generate random matrices from the classical compact groups".
    """
    q_nn, r_nn = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))
    # only the QR with R's diagonal positive is unique, and hence Haar: LAPACK's signs are not random
    return torch.where(r_nn.diagonal() < 0, -q_nn, q_nn)


def turning(pre: Moments, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The affine map that rotates a layer's pre-activations at random and leaves each unit its mean and deviation.

    Pre-activations are standardised, multiplied by a random orthogonal matrix, standardised again, and given each unit's own
    mean and standard deviation back: h' = h @ turn_uu + offset_u. So a rotated unit fires about as often as the unit
    whose place it takes, which is what a rotation of the activations themselves cannot do.

    Args:
        pre: moments of the pre-activations of a layer's units, without block axis: `Moments.of(pre_nu)`.
        generator: of the rotation; each call takes the next one from it.

    Returns:
        turn_uu, shape (units, units), and offset_u, shape (units,), float64. Constant units stay as they are and take no
        part: the identity in turn_uu, 0 in offset_u.

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
    return turn_uu, offset_u


def rotated_before(
    pre_nb: Tensor | np.ndarray,
    nonlinearity: Callable[[Tensor], Tensor | np.ndarray],
    seed: int = 0,
    pre_na: Tensor | np.ndarray | None = None,
) -> Tensor:
    """What net b's units would be on random axes of the same space: rotated first, then sent through the nonlinearity.

    This is the null of every claim that single units mean something beyond the space that they span. A rotation of the
    *activations* (`rotated`; the literature's) gives dense, nearly Gaussian units. Rectified ones are sparse and skewed, and
    skewed ones correlate more at the extremes, so that null is too low: up to 8 of 10 units exceed its 5 % threshold where
    two nets share a space and nothing of its axes. docs/chance.md has the rates of both.

    Args:
        pre_nb: pre-activations of net b, shape (n samples, q units), numpy or torch: what the nonlinearity is given.
        nonlinearity: unit by unit, such as `torch.relu`; it is given float64. A gated layer is
            `rotated_before(gate_nb, silu, seed) * rotated_before(value_nb, lambda h: h, seed)`: one seed, one rotation.
        seed: of the rotation, whose generator is its own.
        pre_na: pre-activations of the net to compare with, shape (n, p); many more samples than p. With it only that part
            of each unit is rotated which least squares predict from net a, and each unit keeps how much that is. The level
            then holds for units that differ in how much of them is shared, too.

    Returns:
        Activations of the rotated units, shape (n, q), float64. Units whose pre-activation is constant keep it.

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
    turned_nb = part_nb @ rotation(len(active), torch.Generator().manual_seed(seed))
    turned_nb *= part_nb.norm(dim=0) / turned_nb.norm(dim=0).clamp(min=1e-300)  # both of mean 0
    turned = pre_nb.clone()
    turned[:, active] = (turned_nb + (z_nb - part_nb)) * pre.sd_u[active] + pre.mean_u[active]
    x_nb = torch.as_tensor(nonlinearity(turned)).detach()
    if x_nb.shape != turned.shape:
        raise InputError(
            f"The nonlinearity needs to return a number per sample and unit, shape {tuple(turned.shape)}, not "
            f"{tuple(x_nb.shape)}; give one that acts on each unit by itself."
        )
    return x_nb


def _predicted(z_nb: Tensor, pre_na: Tensor) -> Tensor:
    """What least squares predict of z-scores from net a's pre-activations, shape (n, q)."""
    pre = Moments.of(pre_na)
    z_na = (pre_na.to("cpu", torch.float64) - pre.mean_u) * pre.scale_u
    inverse_aa: Tensor = torch.linalg.pinv(z_na.T @ z_na, hermitian=True, rtol=1e-10)
    return z_na @ (inverse_aa @ (z_na.T @ z_nb))
