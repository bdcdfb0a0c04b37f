"""How similar the clusters are that units are in, and whether two clusterings agree.

Axes: `u` units of all nets side by side, `c` clusters, `x` similarities that may be exceeded.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def share_above(similarity_c: Tensor, units_c: Tensor, units: int, above_x: Tensor) -> Tensor:
    """Share of all units that are in clusters of more than a given similarity, shape (x,).

    Its integral from 0 to 1 is the mean similarity of the cluster that a unit is in, negative ones counting as 0. `units` is
    how many there are, those in no cluster included; a cluster without similarity (NaN) exceeds nothing.
    Source: Li et al. 2016, figures S8 and S9.

    >>> share_above(torch.tensor([0.5, 0.1]), torch.tensor([3, 1]), 6, torch.tensor([0.0, 0.2, 0.9])).tolist()
    [0.6666666865348816, 0.5, 0.0]
    """
    return (similarity_c[:, None] > above_x).to(above_x.dtype).T @ units_c.to(above_x.dtype) / max(units, 1)


def mean_similarity(similarity_c: Tensor, units_c: Tensor, units: int) -> float:
    """The area under `share_above`: mean over all units of their cluster's similarity, 0 for none and for negative ones."""
    return float((similarity_c.nan_to_num(0.0).clamp(min=0) * units_c).sum() / max(units, 1))


def adjusted_rand(label_u: Tensor, other_u: Tensor) -> float:
    """How far two clusterings agree on the units that both put into a cluster (not -1): 1 entirely, 0 as much as by chance.

    Source: Hubert, Arabie 1985, "Comparing partitions".

    >>> adjusted_rand(torch.tensor([0, 0, 1, 1]), torch.tensor([5, 5, 2, 2]))
    1.0
    """
    both_u = (label_u >= 0) & (other_u >= 0)
    x_u, y_u = label_u[both_u], other_u[both_u]
    units, cell_u = len(x_u), x_u * (int(y_u.max()) + 1 if len(y_u) else 1) + y_u
    # ordered pairs of units that both, the one and the other put together
    both, one, other = (int(torch.bincount(of).square().sum()) - units for of in (cell_u, x_u, y_u))
    pairs = units * (units - 1)
    return (
        1.0 if both == one == other else 2.0 * (both * pairs - one * other) / ((one + other) * pairs - 2 * one * other)
    )


def mean_agreement(labels: Sequence[Tensor]) -> float:
    """Mean adjusted Rand index over every two of several clusterings of the same units; 1 for a single one."""
    every = [adjusted_rand(x, y) for i, x in enumerate(labels) for y in labels[:i]]
    return sum(every) / len(every) if every else 1.0
