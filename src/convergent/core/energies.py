"""One column more beside every net's units: the energy of a sample, its squared distance from a fixed centre.

With it what is said of pairs of samples (Gram matrices without their diagonals, distances between all samples) follows from
sums over samples, see `similarity.grams`.

Axes: `n` samples, `u` units of all nets side by side, `i` and `j` nets, `k` blocks of images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from convergent.core.moments import Moments


@dataclass(frozen=True, eq=False)
class Energies:
    """Second moments of the energies q_i = |x_i - centre|^2 of some nets with each other and with all of their units.

    Attributes:
        units: which of the u units are each net's.
        centre_u: from which units are measured, shape (u,).
        mean_ki: means of the energies, shape (k, i).
        with_energies_kij: centred sums of products, shape (k, i, i).
        with_units_kiu: centred sums of products with the units, shape (k, i, u).
    """

    units: Sequence[slice]
    centre_u: Tensor
    mean_ki: Tensor
    with_energies_kij: Tensor
    with_units_kiu: Tensor

    def of(self, nets: Sequence[int]) -> Energies:
        """Those of some nets, in the order given."""
        u = torch.cat([torch.arange(self.units[i].start, self.units[i].stop) for i in nets])
        units, width, i = [], 0, torch.tensor(nets)
        for net in nets:
            units.append(slice(width, width + self.units[net].stop - self.units[net].start))
            width = units[-1].stop
        with_energies_kij, with_units_kiu = (
            self.with_energies_kij[:, i[:, None], i],
            self.with_units_kiu[:, i[:, None], u],
        )
        return Energies(units, self.centre_u[u], self.mean_ki[:, i], with_energies_kij, with_units_kiu)

    def blocks(self, some_k: Tensor) -> Energies:
        """Those of some blocks, an index or a mask."""
        parts = self.mean_ki[some_k], self.with_energies_kij[some_k], self.with_units_kiu[some_k]
        return Energies(self.units, self.centre_u, *parts)

    def merged(self, moments: Moments, weight_k: Tensor | None = None) -> Energies:
        """Those of all blocks together, each counted `weight_k` times, as a single block; `moments` are the units'."""
        s_k = torch.ones_like(moments.count) if weight_k is None else weight_k.to(moments.count)
        n_k = moments.count * s_k
        share_k = n_k / n_k.sum().clamp(min=1)
        mean_i = share_k @ self.mean_ki
        gap_ki, from_centre_ku = self.mean_ki - mean_i, moments.mean_u - self.centre_u
        gap_ku = from_centre_ku - share_k @ from_centre_ku
        with_energies_ij = torch.tensordot(s_k, self.with_energies_kij, 1) + gap_ki.T @ (n_k[:, None] * gap_ki)
        with_units_iu = torch.tensordot(s_k, self.with_units_kiu, 1) + gap_ki.T @ (n_k[:, None] * gap_ku)
        return Energies(self.units, self.centre_u, mean_i[None], with_energies_ij[None], with_units_iu[None])

    def products(self, total: Moments) -> tuple[Tensor, Tensor]:
        """Sums of the energies about the units' means, shape (i,), and of their products, shape (i, i); of a single block.

        About its mean a net's energy is q - 2 (mean - centre) . x + a constant: linear in what is known. `total` are the
        units' moments.
        """
        shift_iu = torch.zeros(len(self.units), len(self.centre_u), dtype=torch.float64)
        for shift_u, units in zip(shift_iu, self.units):
            shift_u[units] = 2 * (total.mean_u - self.centre_u)[units]
        cross_ij = self.with_units_kiu[0] @ shift_iu.T
        scatter_ij = self.with_energies_kij[0] - cross_ij - cross_ij.T + shift_iu @ total.scatter_uu @ shift_iu.T
        sum_i = torch.stack([total.scatter_uu.diagonal()[units].sum() for units in self.units])
        return sum_i, scatter_ij + sum_i[:, None] * sum_i / total.count.clamp(min=1)


def energies_of(x_nu: Tensor, units: Sequence[slice]) -> Tensor:
    """The energies of some samples, shape (n, i), given their deviations from the centre, shape (n, u)."""
    return torch.stack([x_nu[:, of].square().sum(1) for of in units], 1)
