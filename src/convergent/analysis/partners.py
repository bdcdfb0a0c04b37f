"""Which units of a layer have partners in the other nets, and in how many of them.

Axes: `i`, `j` nets (k of them), `u` units of one net, `m` how many of the other nets, `g` groups of one unit of each net.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations, permutations
from math import isnan

import torch
from torch import Tensor

from convergent.analysis.several import SeveralNets
from convergent.errors import InputError


@dataclass(frozen=True, eq=False)
class PartnerCounts:
    """In how many of the other nets each unit has a partner.

    Attributes:
        count: per net, shape (units,): 0 to k - 1; -1 for constant units.
        share_im: share of net i's active units that have a partner in exactly m other nets, shape (k, k), m = 0 to k - 1.
    """

    count: tuple[Tensor, ...]
    share_im: Tensor

    @classmethod
    def of(cls, nets: SeveralNets, has_partner: Mapping[tuple[int, int], Tensor]) -> PartnerCounts:
        """The counts from {(i, j): whether each unit of net i has a partner in net j} for every ordered pair."""
        others = [[has_partner[i, j] for j in range(nets.k) if j != i] for i in range(nets.k)]
        count = tuple(torch.where(nets.active[i], torch.stack(others[i]).sum(0), -1) for i in range(nets.k))
        number_im = torch.stack([torch.bincount(c[c >= 0], minlength=nets.k) for c in count])
        return cls(count, number_im.double() / nets.active_i.clamp(min=1)[:, None])

    @property
    def share_m(self) -> Tensor:
        """The shares averaged over the nets, shape (k,): the last is what every net finds again in all others."""
        return self.share_im.mean(0)


def reliability(nets: SeveralNets, threshold: float | Mapping[tuple[int, int], float]) -> PartnerCounts:
    """In how many other nets each unit's best partner correlates above a threshold: which features are learned reliably.

    `threshold` is one number, or {(i, j): number} for units of net i that look for partners in net j, such as a null's
    quantile of the best correlation.

    Raises:
        InputError: if an ordered pair has no threshold, or NaN.

    Source: Li et al. 2016, the first finding: some features are learned reliably in multiple nets, others are not.
    """
    has = {}
    for i, j in permutations(range(nets.k), 2):
        least = threshold.get((i, j), torch.nan) if isinstance(threshold, Mapping) else threshold
        if isnan(least):
            raise InputError(
                f"Reliability needs a threshold for every ordered pair of nets, but ({i}, {j}) has none or NaN; "
                "give one number for all or one per ordered pair."
            )
        partner_u, corr_u = nets.best(i, j)
        has[i, j] = (partner_u >= 0) & (corr_u > least)
    return PartnerCounts.of(nets, has)


@dataclass(frozen=True, eq=False)
class MutualBest:
    """Units that are each other's best partners.

    Attributes:
        partner: {(i, j): the mutual best partner in net j of each unit of net i, shape (units of i,)}, every ordered pair;
            -1 for none.
        share_ij: share of net i's active units that have one in net j, shape (k, k); 1 on the diagonal.
        counts: in how many other nets each unit has one.
        cliques_gk: groups of one unit of each net, every two of them mutual best partners, shape (g, k).
        clique_share_i: share of each net's active units that are in such a group, shape (k,).
    """

    partner: Mapping[tuple[int, int], Tensor]
    share_ij: Tensor
    counts: PartnerCounts
    cliques_gk: Tensor
    clique_share_i: Tensor


def mutual_best(nets: SeveralNets) -> MutualBest:
    """The mutual nearest neighbours of every two nets, and the groups of units that are so in all nets at once.

    Source: Dravid et al. 2023, "Rosetta Neurons: mining the common units in a model zoo".
    """
    pairs = list(permutations(range(nets.k), 2))
    best = {(i, j): nets.best(i, j)[0] for i, j in pairs}
    partner = {}
    for i, j in pairs:
        back_u = best[j, i][best[i, j]]
        mutual_u = (best[i, j] >= 0) & (back_u == torch.arange(len(back_u)))
        partner[i, j] = torch.where(mutual_u, best[i, j], -1)
    has = {ij: partner_u >= 0 for ij, partner_u in partner.items()}
    active_i = nets.active_i.clamp(min=1).double()  # a whole number by another is float32 in torch
    share_ij = torch.eye(nets.k).double()
    for i, j in pairs:
        share_ij[i, j] = has[i, j].sum() / active_i[i]
    groups_gk = torch.stack([torch.arange(len(nets.active[0])), *(partner[0, j] for j in range(1, nets.k))], 1)
    groups_gk = groups_gk[(groups_gk >= 0).all(1)]
    for i, j in combinations(range(1, nets.k), 2):
        groups_gk = groups_gk[partner[i, j][groups_gk[:, i]] == groups_gk[:, j]]
    return MutualBest(partner, share_ij, PartnerCounts.of(nets, has), groups_gk, len(groups_gk) / active_i)
