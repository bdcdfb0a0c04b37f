"""Semi-matching: every unit of net b takes its best unit of net a, and units of a may be shared.

Axes: `a` units of net a, `b` units of net b.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from convergent.core.alignment import Alignment
from convergent.core.pairs import Pair
from convergent.core.partner_alignment import PartnerAlignment
from convergent.core.ties import first_best
from convergent.methods.solvers.sparse_partners import sparse_best_units
from convergent.options import check_fields


@dataclass(frozen=True)
class SemiMatching:
    """Each unit of b takes the unit of a with the highest correlation; of equals, up to `ties.TIED`, the first.

    Attributes:
        absolute: rank by |r| instead of the signed correlation of the paper.

    Source: Li et al. 2016, section 3, "bipartite semi-matching".

    >>> from convergent.core.pairs import Pair
    >>> SemiMatching()(Pair.of(torch.eye(3), torch.eye(3)[:, [1, 1, 0]])).partner_b
    tensor([1, 1, 0])
    """

    absolute: bool = False

    def __post_init__(self) -> None:
        check_fields(self)

    def __call__(self, pair: Pair) -> Alignment:
        """The alignment of `pair`; constant units have no partner."""
        best_b = best_units(pair, absolute=self.absolute)
        if pair.sparse:
            return PartnerAlignment.of(pair, best_b)
        b = (best_b >= 0).nonzero()[:, 0]
        map_ab = torch.zeros_like(pair.corr_ab)
        map_ab[best_b[b], b] = pair.corr_ab[best_b[b], b]
        return Alignment(pair, map_ab)


def best_units(pair: Pair, *, absolute: bool = False) -> Tensor:
    """The unit of a with the highest correlation for each unit of b, shape (q,); -1 for constant units.

    Of units that are equal up to `ties.TIED` the first; `absolute` ranks by |r|.
    """
    if pair.sparse:
        return sparse_best_units(pair, absolute=absolute)[0]
    weight_ab = pair.corr_ab.abs() if absolute else pair.corr_ab
    weight_ab = weight_ab.masked_fill(~pair.active_a[:, None], -torch.inf)
    best_b = torch.from_numpy(first_best(weight_ab.numpy()))
    return torch.where(pair.active_b & pair.active_a.any(), best_b, -1)
