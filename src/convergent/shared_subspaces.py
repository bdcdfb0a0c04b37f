"""Whether clusters of two nets' units share subspaces rather than single units: the same span on other axes.

Axes: `a` and `b` units of two nets, `u` those of both, `i` and `j` those of a cluster, `c` canonical directions, `d` draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from convergent.nulls import rotation
from convergent.subspaces import canonical_correlations, random_groups

if TYPE_CHECKING:
    from collections.abc import Sequence

    from convergent.pairs import Pair


@dataclass(frozen=True)
class SharedSubspace:
    """How alike the units of one cluster are as a subspace and one by one.

    All four are means over as many directions or pairs of units as the smaller of the two groups has.

    Attributes:
        cluster: its number.
        directions: how many.
        canonical: mean canonical correlation between the spans of a's units and b's.
        matched: mean |r| of single units, matched one to one inside the cluster.
        turned: the same after b's units in the cluster are replaced by a random rotation of their z-scores: the same
            span on axes that mean nothing.
        random: mean canonical correlation of as many units of each net, drawn at random.
    """

    cluster: int
    directions: int
    canonical: float
    matched: float
    turned: float
    random: float


def shared_subspaces(pair: Pair, label_u: Tensor, draws: int = 10, seed: int = 0) -> list[SharedSubspace]:
    """The comparison of subspace and single units for every cluster with two units of each net or more.

    Clusters of more units than the samples can tell apart are left out, see `subspaces.canonical_correlations`; so are
    clusters that hold all living units of a net, which a random group cannot but equal.

    Args:
        pair: the two nets.
        label_u: cluster of each unit in the order of the pair's moments, -1 for none, shape (p + q,).
        draws: how many random groups and rotations a cluster is compared with; fewer of large ones, whose own many
            directions average.
        seed: of the draws.
    """
    generator = torch.Generator().manual_seed(seed)
    found = []
    labels_a, labels_b = label_u[pair.a], label_u[pair.b]
    for label in range(int(label_u.max()) + 1):
        i, j = (labels_a == label).nonzero()[:, 0], (labels_b == label).nonzero()[:, 0]
        whole = len(i) == pair.alive_a.sum() or len(j) == pair.alive_b.sum()
        if min(len(i), len(j)) < 2 or len(i) + len(j) > pair.count - 1 or whole:
            continue
        c = min(len(i), len(j))
        times = max(min(draws, 200 // c), 1)
        corr_ij, corr_jj = pair.corr_ab[i[:, None], j], pair.corr_bb[j[:, None], j]
        turned_d = [_matched(_turned(corr_ij, corr_jj, generator)) for _ in range(times)]
        groups_di = random_groups(pair.alive_a, len(i), times, generator)
        groups_dj = random_groups(pair.alive_b, len(j), times, generator)
        random_d = [float(canonical_correlations(pair, *group).mean()) for group in zip(groups_di, groups_dj)]
        canonical = float(canonical_correlations(pair, i, j).mean())
        found.append(SharedSubspace(label, c, canonical, _matched(corr_ij), _mean(turned_d), _mean(random_d)))
    return found


def summed_up(found: Sequence[SharedSubspace]) -> dict[str, float]:
    """Means over the clusters, each counted by its directions; empty where there is none."""
    directions = sum(one.directions for one in found)
    names = ("canonical", "matched", "turned", "random") if found else ()
    return {name: sum(getattr(one, name) * one.directions for one in found) / directions for name in names}


def _matched(corr_ij: Tensor) -> float:
    weight_ij = corr_ij.abs().numpy()
    return float(weight_ij[linear_sum_assignment(weight_ij, maximize=True)].mean())


def _turned(corr_ij: Tensor, corr_jj: Tensor, generator: torch.Generator) -> Tensor:
    """Correlations with a random rotation of the z-scores of b's units."""
    turn_jj = rotation(len(corr_jj), generator)
    variance_j = (turn_jj * (corr_jj @ turn_jj)).sum(0)
    return corr_ij @ turn_jj / variance_j.clamp(min=1e-12).sqrt()


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
