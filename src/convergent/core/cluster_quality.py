"""How good clusters of several nets' units are, and what they are made of.

Axes: `u` and `v` units of all nets side by side, `c` clusters, `i` nets.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

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
        """The quality of a clustering; `net_u` numbers the net of each unit, `label_u` its cluster, -1 for none."""
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
