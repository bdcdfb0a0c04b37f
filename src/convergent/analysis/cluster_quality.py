"""How good clusters of several nets' units are, what they are made of, and whether two clusterings agree.

Axes: `u` and `v` units of all nets side by side, `c` clusters, `i` nets, `x` similarities that may be exceeded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from convergent.core.pairs import Pair


@dataclass(frozen=True, eq=False)
class Quality:
    """How alike the units of each cluster are, within and between nets.

    Attributes:
        units_ci: how many units of each net a cluster has, shape (c, nets).
        between_c: mean correlation of its units with those of other nets in it; NaN where it has units of one net only.
        within_c: mean correlation of its units with others of the same net, averaged over the nets with two units in it or
            more; NaN where there is none.

    Source: Li et al. 2016, supplement S.3.
    """

    units_ci: Tensor
    between_c: Tensor
    within_c: Tensor

    @classmethod
    def of(cls, corr_uu: Tensor, net_u: Tensor, label_u: Tensor) -> Quality:
        """The quality of a clustering.

        Args:
            corr_uu: correlations of all units, shape (u, u).
            net_u: number of the net of each unit, shape (u,).
            label_u: cluster of each unit, -1 for none, shape (u,).
        """
        nets, clusters = int(net_u.max()) + 1, int(label_u.max()) + 1
        member_iuc = torch.zeros(nets, len(label_u), clusters, dtype=corr_uu.dtype)
        u = (label_u >= 0).nonzero()[:, 0]
        member_iuc[net_u[u], u, label_u[u]] = 1
        units_ic = member_iuc.sum(1)
        reached_iuc = corr_uu @ member_iuc  # of each unit, its correlations with a net's units in each cluster, summed
        same_ic = (member_iuc * reached_iuc).sum(1)
        all_c = (member_iuc.sum(0) * reached_iuc.sum(0)).sum(0)
        pairs_ic = units_ic * (units_ic - 1)
        between_c = (all_c - same_ic.sum(0)) / (units_ic.sum(0).square() - units_ic.square().sum(0))  # 0 / 0 is NaN
        within_c = ((same_ic - units_ic) / pairs_ic).where(pairs_ic > 0, torch.nan).nanmean(0)
        return cls(units_ic.T.long(), between_c, within_c)


def net_of(pair: Pair) -> Tensor:
    """Which net each unit of a pair's moments is of, shape (u,): 0 for a, 1 for b."""
    net_u = torch.zeros(pair.p + pair.q, dtype=torch.long)
    net_u[pair.b] = 1
    return net_u


def share_above(similarity_c: Tensor, units_c: Tensor, units: int, above_x: Tensor) -> Tensor:
    """Share of all units that are in clusters of more than a given similarity, shape (x,).

    Its integral from 0 to 1 is the mean similarity of the cluster that a unit is in, negative ones counting as 0.

    Args:
        similarity_c: of each cluster; one that has none (NaN) exceeds nothing.
        units_c: how many units are in each.
        units: how many there are, those in no cluster included.
        above_x: similarities to be exceeded.

    Source: Li et al. 2016, figures S8 and S9.

    >>> share_above(torch.tensor([0.5, 0.1]), torch.tensor([3, 1]), 6, torch.tensor([0.0, 0.2, 0.9])).tolist()
    [0.6666666865348816, 0.5, 0.0]
    """
    return (similarity_c[:, None] > above_x).to(above_x.dtype).T @ units_c.to(above_x.dtype) / max(units, 1)


def mean_similarity(similarity_c: Tensor, units_c: Tensor, units: int) -> float:
    """The area under `share_above`: mean over all units of their cluster's similarity, 0 for none and for negative ones."""
    return float((similarity_c.nan_to_num(0.0).clamp(min=0) * units_c).sum() / max(units, 1))


def adjusted_rand(label_u: Tensor, other_u: Tensor) -> float:
    """How far two clusterings agree on the units that both put into a cluster: 1 if entirely, 0 as much as by chance.

    Args:
        label_u: cluster of each unit, -1 for none, shape (u,).
        other_u: the same by the other clustering.

    Returns:
        1 also where there is nothing to disagree about: all units in one cluster, or fewer than two units.

    Source: Hubert, Arabie 1985, "Comparing partitions".

    >>> adjusted_rand(torch.tensor([0, 0, 1, 1]), torch.tensor([5, 5, 2, 2]))
    1.0
    """
    both_u = (label_u >= 0) & (other_u >= 0)
    label_u, other_u = label_u[both_u], other_u[both_u]
    n = len(label_u)
    table = torch.zeros(int(label_u.max()) + 1, int(other_u.max()) + 1, dtype=torch.float64) if n else torch.zeros(1, 1)
    table.index_put_((label_u, other_u), torch.ones(n, dtype=table.dtype), accumulate=True)
    together, ours, theirs = (float((m * (m - 1)).sum()) / 2 for m in (table, table.sum(1), table.sum(0)))
    chance, most = ours * theirs / max(n * (n - 1) / 2, 1), (ours + theirs) / 2
    return 1.0 if most == chance else (together - chance) / (most - chance)


def mean_agreement(labels: Sequence[Tensor]) -> float:
    """Mean adjusted Rand index over every two of several clusterings of the same units; 1 for a single one."""
    every = [adjusted_rand(x, y) for i, x in enumerate(labels) for y in labels[:i]]
    return sum(every) / len(every) if every else 1.0
