"""Blocks of images: which image is in which, and the moments of two nets' units block by block.

Axes: `n` samples, `a` and `b` units of the two nets, `k` blocks of images.
"""

from __future__ import annotations

import torch
from torch import Tensor

from convergent.core.energies import Energies, energies_of
from convergent.core.moments import Moments, gain_for
from convergent.core.scatter import centred_products
from convergent.memory import check_memory


def block_of_image(images: int, blocks: int) -> Tensor:
    """The block of each image, shape (images,): dealt at random, always alike, sizes equal up to one; never by position."""
    order_n = torch.randperm(images, generator=torch.Generator().manual_seed(0))
    block_n = torch.empty(images, dtype=torch.long)
    blocks = min(blocks, images)
    block_n[order_n] = torch.arange(images) * blocks // images
    return block_n


def block_of_group(group_n: Tensor, blocks: int) -> Tensor:
    """The block of each image, shape (images,), where groups of them (documents) are dealt whole, see `block_of_image`.

    >>> block_of_group(torch.tensor([7, 7, 3, 7]), 2).unique_consecutive().tolist() in ([0, 1, 0], [1, 0, 1])
    True
    """
    groups, place_n = torch.unique(group_n, return_inverse=True)
    return block_of_image(len(groups), blocks)[place_n]


def moments_of_blocks(x_na: Tensor, x_nb: Tensor, block_n: Tensor) -> tuple[Moments, Energies | None]:
    """The moments of both nets' units per block, and the samples' energies where the units need no gains.

    No more is in memory beside them than the samples of one block.
    """
    count_k = torch.bincount(block_n)
    k, longest, p, u = len(count_k), int(count_k.max()), x_na.shape[1], x_na.shape[1] + x_nb.shape[1]
    advice = f"ask for fewer blocks (blocks={max(2, k // 4)}) or leave units out"
    check_memory(8 * (k * u * u + longest * u), f"The moments of {u} units in {k} blocks", advice)
    gain_u = gain_for(x_na, x_nb)
    mean_ku, scatter_kuu = (torch.empty(shape, dtype=torch.float64) for shape in ((k, u), (k, u, u)))
    buffer_nu = torch.empty(longest, u, dtype=torch.float64)
    samples = torch.split(block_n.argsort(stable=True), count_k.tolist())
    nets, centre_u = (slice(0, p), slice(p, u)), torch.zeros(u, dtype=torch.float64)
    of_blocks: list[tuple[Tensor, Tensor, Tensor]] = []
    for mean_u, scatter_uu, sample_n in zip(mean_ku, scatter_kuu, samples):
        x_nu = buffer_nu[: len(sample_n)]
        x_nu[:, :p], x_nu[:, p:] = x_na[sample_n], x_nb[sample_n]
        if gain_u is not None:
            mean_u.copy_(centred_products(x_nu.mul_(gain_u), scatter_uu))
            continue
        if not of_blocks:
            centre_u = x_nu.mean(0)
        energy_ni = energies_of(x_nu - centre_u, nets)
        mean_u.copy_(centred_products(x_nu, scatter_uu))
        mean_i = energy_ni.mean(0)
        energy_ni -= mean_i
        of_blocks.append((mean_i, energy_ni.T @ energy_ni, energy_ni.T @ x_nu))
    energies = Energies(nets, centre_u, *map(torch.stack, zip(*of_blocks))) if of_blocks else None
    return Moments(count_k.double(), mean_ku, scatter_kuu, gain_u), energies
