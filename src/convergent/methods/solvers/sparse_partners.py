"""Matching and semi-matching on a sparse record: what both make of it is what they make of the dense one.

Axes: `a` units of net a, `b` units of net b.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from convergent.core.pairs import Pair
from convergent.core.partner_alignment import PartnerAlignment, correlations
from convergent.core.ties import first_best
from convergent.methods.solvers.sparse_assignment import best_sparse_assignment


def sparse_matching(pair: Pair, *, absolute: bool) -> PartnerAlignment:
    """The one-to-one assignment with the largest total correlation, with its certificate."""
    a, b = (active.nonzero()[:, 0].numpy() for active in (pair.active_a, pair.active_b))
    row, column, gap = best_sparse_assignment(correlations(pair).select(a, b), absolute=absolute)
    partner_b = torch.full((pair.q,), -1)
    partner_b[torch.from_numpy(b[column])] = torch.from_numpy(a[row])
    return PartnerAlignment.of(pair, partner_b, {"gap": gap})


def sparse_best_units(pair: Pair, *, absolute: bool = False) -> tuple[Tensor, Tensor]:
    """For each unit of b the active unit of a with the highest correlation, and that correlation.

    They are -1 and 0 for constant units. Of units that are equal up to `ties.TIED` the first, as in the dense record.
    """
    best_b, r_b = torch.full((pair.q,), -1), torch.zeros(pair.q, dtype=torch.float64)
    a, b = (active.nonzero()[:, 0].numpy() for active in (pair.active_a, pair.active_b))
    corr_ba = correlations(pair).select(a, b).flip()
    for row, unit in enumerate(b.tolist() if len(a) else ()):
        weight_a = np.abs(corr_ba.row(row)) if absolute else corr_ba.row(row)
        best = first_best(weight_a[:, None])[0]
        best_b[unit], r_b[unit] = int(a[best]), float(weight_a[best])
    return best_b, r_b
