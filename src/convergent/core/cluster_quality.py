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
        u = (label_u >= 0).nonzero()[:, 0]
        group_u = net_u[u] * clusters + label_u[u]  # a net's units in a cluster
        units_ic = torch.bincount(group_u, minlength=nets * clusters).view(nets, clusters).to(corr_uu)
        # correlations summed over the units of either group
        sum_gu = corr_uu.new_zeros(nets * clusters, len(label_u)).index_add_(0, group_u, corr_uu[u])
        sum_gg = corr_uu.new_zeros(2 * [nets * clusters]).index_add_(1, group_u, sum_gu[:, u])
        sum_ijc = sum_gg.view(nets, clusters, nets, clusters).diagonal(dim1=1, dim2=3)
        all_c, same_ic = sum_ijc.sum((0, 1)), sum_ijc.diagonal().T
        pairs_ic = units_ic * (units_ic - 1)
        between_c = (all_c - same_ic.sum(0)) / (units_ic.sum(0).square() - units_ic.square().sum(0))  # 0 / 0 is NaN
        within_c = ((same_ic - units_ic) / pairs_ic).where(pairs_ic > 0, torch.nan).nanmean(0)
        return cls(units_ic.T.long(), between_c, within_c)


def net_of(pair: Pair) -> Tensor:
    """Which net each unit of a pair's moments is of, shape (u,): 0 for a, 1 for b."""
    net_u = torch.zeros(pair.p + pair.q, dtype=torch.long)
    net_u[pair.b] = 1
    return net_u
