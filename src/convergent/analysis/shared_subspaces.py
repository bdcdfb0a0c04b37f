"""Whether clusters of two nets' units share subspaces rather than single units: the same span on other axes.

Axes: `a` and `b` units of two nets, `u` those of both, `i` and `j` those of a cluster, `c` canonical directions, `d` draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from convergent.analysis.nulls import rotation
from convergent.core.pairs import Pair
from convergent.core.regression import independent_axes
from convergent.core.subspaces import canonical_correlations, random_groups


@dataclass(frozen=True)
class Likeness:
    """How alike two groups of units are.

    Attributes:
        correlation: mean canonical correlation, or mean |r| of units matched one to one; over as many directions or pairs as
            the smaller group has units, every direction counting alike, however little units vary along it.
        explained: share of the variance of b's units that the span of a's explains, or that their partners explain (0 where
            there is none); here directions count by what varies along them. On the fitted samples.
    """

    correlation: float
    explained: float


@dataclass(frozen=True)
class SharedSubspace:
    """How alike the units of one cluster are as subspaces and one by one.

    Attributes:
        cluster: its number.
        units: of the smaller of the two groups.
        span: the subspaces that a's units and b's span.
        matched: single units, matched one to one inside the cluster.
        rotated_within: the same after a random rotation of the z-scores of b's units in the cluster.
        random: the subspaces of as many units of each net drawn at random.
    """

    cluster: int
    units: int
    span: Likeness
    matched: Likeness
    rotated_within: Likeness
    random: Likeness


KINDS = ("span", "matched", "rotated_within", "random")


def shared_subspaces(pair: Pair, label_u: Tensor, draws: int = 10, seed: int = 0) -> list[SharedSubspace]:
    """The comparison of subspace and single units for every cluster with two units of each net or more.

    Clusters of more units than the samples can tell apart are left out, see `subspaces.canonical_correlations`; so are
    clusters that hold all active units of a net, which a random group cannot but equal.

    `label_u` is in the order of the pair's moments, -1 for none. Each is compared with `draws` random groups and rotations,
    fewer of large ones, whose own many directions average.
    """
    generator = torch.Generator().manual_seed(seed)
    labels_a, labels_b = label_u[pair.a], label_u[pair.b]
    spaces = []
    for label in range(int(label_u.max()) + 1):
        i, j = (labels_a == label).nonzero()[:, 0], (labels_b == label).nonzero()[:, 0]
        whole = len(i) == pair.active_a.sum() or len(j) == pair.active_b.sum()
        units = min(len(i), len(j))
        if units < 2 or len(i) + len(j) > pair.count - 1 or whole:
            continue
        times = max(min(draws, 200 // units), 1)
        corr_ij, corr_jj = pair.corr_ab[i[:, None], j], pair.corr_bb[j[:, None], j]
        groups_di = random_groups(pair.active_a, len(i), times, generator)
        groups_dj = random_groups(pair.active_b, len(j), times, generator)
        rotated = [_matched(_rotated(corr_ij, corr_jj, generator)) for _ in range(times)]
        drawn = [_span(pair, *group) for group in zip(groups_di, groups_dj)]
        spaces.append(SharedSubspace(label, units, _span(pair, i, j), _matched(corr_ij), _mean(rotated), _mean(drawn)))
    return spaces


def summed_up(spaces: Sequence[SharedSubspace]) -> dict[str, float]:
    """Means over the clusters, each counted by its units: `KIND_correlation`, `KIND_explained`; empty if there is none."""
    scalars: dict[str, float] = {}
    for kind in KINDS if spaces else ():
        likeness = _mean([getattr(space, kind) for space in spaces], [space.units for space in spaces])
        scalars |= {f"{kind}_correlation": likeness.correlation, f"{kind}_explained": likeness.explained}
    return scalars


def _span(pair: Pair, i: Tensor, j: Tensor) -> Likeness:
    root_e, axes_ie = independent_axes(pair.corr_aa[i[:, None], i])
    reached_ej = (axes_ie / root_e).T @ pair.corr_ab[i[:, None], j]
    explained_j = reached_ej.square().sum(0)
    return Likeness(float(canonical_correlations(pair, i, j).mean()), float(explained_j.mean()))


def _matched(corr_ij: Tensor) -> Likeness:
    weight_ij = corr_ij.abs().numpy()
    r = weight_ij[linear_sum_assignment(weight_ij, maximize=True)]
    return Likeness(float(r.mean()), float((r**2).sum() / weight_ij.shape[1]))


def _rotated(corr_ij: Tensor, corr_jj: Tensor, generator: torch.Generator) -> Tensor:
    """Correlations with a random rotation of the z-scores of b's units."""
    turn_jj = rotation(len(corr_jj), generator)
    variance_j = (turn_jj * (corr_jj @ turn_jj)).sum(0)
    return corr_ij @ turn_jj / variance_j.clamp(min=1e-12).sqrt()


def _mean(every: Sequence[Likeness], weights: Sequence[float] | None = None) -> Likeness:
    weights = weights or [1.0] * len(every)
    total = sum(weights)
    correlation = sum(likeness.correlation * weight for likeness, weight in zip(every, weights)) / total
    return Likeness(correlation, sum(likeness.explained * weight for likeness, weight in zip(every, weights)) / total)
