"""More than two nets at once: what reliability, mutual partners, cycles and consensus of a layer are functions of.

Axes: `i`, `j` nets (k of them), `u`, `v` units of two of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from convergent.core.layer_moments import LayerMoments
from convergent.core.ties import first_best
from convergent.errors import InputError


@dataclass(frozen=True, eq=False)
class SeveralNets:
    """The correlations of one layer's units between every two of k nets.

    Attributes:
        names: of the nets.
        corr: {(i, j): correlations, shape (units of i, units of j)} for all i < j; magnitudes where the sign of a unit is
            not to count.
        active: which units of each net vary at all, each of shape (units,); the others are left out of everything.

    Raises:
        InputError: if there are fewer than two nets, a pair is missing, shapes disagree or a number is not finite.
    """

    names: Sequence[str]
    corr: Mapping[tuple[int, int], Tensor]
    active: Sequence[Tensor]

    def __post_init__(self) -> None:
        k, of = len(self.names), list(self.names)
        if k < 2 or len(self.active) != k:
            raise InputError(
                "Comparing several nets needs at least 2 nets with a mask of active units each, not "
                f"{k} nets with {len(self.active)} masks; give one name and one mask per net."
            )
        for i, j in combinations(range(k), 2):
            if (i, j) not in self.corr:
                raise InputError(
                    f"Comparing several nets needs the correlations of every pair, but {of[i]} with {of[j]} is missing; "
                    "measure all pairs or leave out a net."
                )
            shape, need = tuple(self.corr[i, j].shape), (len(self.active[i]), len(self.active[j]))
            if shape != need or not torch.isfinite(self.corr[i, j]).all():
                raise InputError(
                    f"The correlations of {of[i]} with {of[j]} need shape {need} and finite numbers, not shape {shape} or "
                    "NaN; take them from the nets' moments."
                )

    @classmethod
    def of(cls, layer: LayerMoments, absolute: bool = False) -> SeveralNets:
        """All nets of a measured layer, by correlation or by its magnitude; any pair not measured is an InputError."""
        corr, active = {}, {}
        for i, j in combinations(range(len(layer.nets)), 2):
            pair = layer.pair(i, j)
            # a view would keep the pair's moments
            corr[i, j] = pair.corr_ab.abs() if absolute else pair.corr_ab.clone()
            active[i], active[j] = pair.active_a, pair.active_b
        return cls(layer.nets, corr, list(active.values()))

    @property
    def k(self) -> int:
        """Number of nets."""
        return len(self.names)

    @property
    def active_i(self) -> Tensor:
        """Number of active units of each net, shape (k,)."""
        return torch.stack([active_u.sum() for active_u in self.active])

    def corr_between(self, i: int, j: int) -> Tensor:
        """Correlations of net i's units (rows) with net j's (columns), in either order of the nets."""
        return self.corr[i, j] if i < j else self.corr[j, i].T

    def select(self, nets: Sequence[int]) -> SeveralNets:
        """Some of the nets, in the order given."""
        corr = {(x, y): self.corr_between(nets[x], nets[y]) for x, y in combinations(range(len(nets)), 2)}
        return SeveralNets([self.names[i] for i in nets], corr, [self.active[i] for i in nets])

    def best(self, i: int, j: int) -> tuple[Tensor, Tensor]:
        """For each unit of net i its best of net j (-1 if constant or none is active) and their correlation (there 0)."""
        corr_uv = self.corr_between(i, j)
        has_u = self.active[i] & self.active[j].any()
        if not has_u.any():
            return torch.full((len(has_u),), -1), torch.zeros(len(has_u)).to(corr_uv)
        active_uv = corr_uv.masked_fill(~self.active[j], -torch.inf)
        best_u = torch.from_numpy(first_best(active_uv.numpy().T))
        corr_u = corr_uv.gather(1, best_u[:, None])[:, 0]
        return torch.where(has_u, best_u, -1), torch.where(has_u, corr_u, 0.0)
