"""One matching for all nets: whether the pairwise matchings agree, and groups of units that belong together in k nets.

Axes: `i`, `j` nets (k of them), `u`, `v` units of two nets, `t` triples of nets, `g` groups of one unit of each net.
"""

from dataclasses import dataclass
from itertools import combinations, permutations

import torch
from torch import Tensor

from convergent.analysis.multi_assignment import Weights, solve
from convergent.analysis.several import SeveralNets
from convergent.core.ties import best_assignment
from convergent.errors import InputError


def matchings(nets: SeveralNets) -> dict[tuple[int, int], Tensor]:
    """The one-to-one matching of every two nets: {(i, j): partner in net j of each unit of net i}, -1 for none.

    Both orders of the nets are there; one is the other's inverse.

    Source: Li et al. 2016, section 3, "bipartite matching".
    """
    partner = {}
    weight, active = _active(nets)
    for i, j in combinations(range(nets.k), 2):
        row, column = best_assignment(weight[i, j])
        of_i, of_j = active[i][row], active[j][column]
        for (x, of_x), (y, of_y) in (((i, of_i), (j, of_j)), ((j, of_j), (i, of_i))):
            partner[x, y] = torch.full((len(nets.active[x]),), -1)
            partner[x, y][of_x] = of_y
    return partner


@dataclass(frozen=True, eq=False)
class CycleConsistency:
    """How far the pairwise matchings of three nets agree.

    Attributes:
        triples: the nets of each triple.
        share_t: share of units for which going i -> j -> k ends where i -> k does, of as many as could (the active units
            of the narrowest of the three nets), shape (t,).
        chance_t: what matchings of unrelated nets give: 1 / active units of the widest of the three, shape (t,). Where nets
            share a space, chance is far higher, unit by unit or not: compare with rotated nets, `across.beside_rotated`.
    """

    triples: tuple[tuple[int, int, int], ...]
    share_t: Tensor
    chance_t: Tensor

    @property
    def mean(self) -> float:
        """The share averaged over the triples."""
        return self.share_t.mean().item()

    @property
    def chance(self) -> float:
        """The chance level averaged over the triples."""
        return self.chance_t.mean().item()


def cycle_consistency(nets: SeveralNets) -> CycleConsistency:
    """The share of units on which the matchings of each three nets agree.

    A matching and its inverse belong together, so a unit with i -> j -> k equal to i -> k is one that i -> j -> k -> i
    brings back to itself, and the share is the same whichever of the three nets one starts from. Correlations that are
    all noise lie above chance when samples are few, for noise in two pairs is noise in the third.

    Raises:
        InputError: if there are fewer than three nets.
    """
    if nets.k < 3:
        raise InputError(f"Cycle consistency needs at least 3 nets, not {nets.k}; compare more nets.")
    partner, active_i = matchings(nets), nets.active_i.clamp(min=1).double()
    triples = tuple(combinations(range(nets.k), 3))
    share, chance = [], []
    for i, j, k in triples:
        start = (partner[i, j] >= 0) & (partner[i, k] >= 0)
        agree = partner[j, k][partner[i, j][start]] == partner[i, k][start]
        share.append(agree.sum() / active_i[[i, j, k]].min())
        chance.append(1 / active_i[[i, j, k]].max())
    return CycleConsistency(triples, torch.stack(share), torch.stack(chance))


@dataclass(frozen=True, eq=False)
class Consensus:
    """Groups of k units, one of each net, no unit twice; the best-correlated group first.

    Attributes:
        units_gk: the unit of each net in each group, shape (g, k), g the active units of the narrowest net.
        group: per net the group of each unit, shape (units,); -1 for none (constant units, wider nets).
        corr_g: mean correlation between the units of each group, shape (g,).
        value: sum of all correlations within groups: what is maximised.
        bound: no grouping has a larger value: the sum of the optima of every pair of nets on its own, each for g partners.
    """

    units_gk: Tensor
    group: tuple[Tensor, ...]
    corr_g: Tensor
    value: float
    bound: float

    @property
    def gap(self) -> float:
        """How far the value may be from the optimum, at most; 0 up to rounding proves it, as it always does for two nets."""
        return self.bound - self.value


def consensus(nets: SeveralNets, kicks: int = 10, starts: int | None = None) -> Consensus:
    """The groups of one unit per net with the largest sum of correlations that the search finds.

    Two nets give their matching. From three on the problem (multidimensional assignment) is NP-hard: the units of one net,
    or of two together, are dealt anew to the groups, optimally, until nothing improves; from every net as the reference,
    with the correlations as they are and with those along the pairwise matchings added; then the best is disturbed `kicks`
    times. Deterministic, and independent of the order of nets and units up to ties.

    `kicks` are spared where the bound is reached; `starts` is how many nets to start from, every one by default.

    Source: Karapetyan, Gutin 2011, "Local search heuristics for the multidimensional assignment problem".
    """
    weight, active = _active(nets)
    groups, sum_g, bound = solve(weight, nets.k, kicks, starts)
    units_gk = torch.stack([active[i][torch.from_numpy(groups[i])] for i in range(nets.k)], 1)
    group = tuple(torch.full((len(active_u),), -1) for active_u in nets.active)
    for i in range(nets.k):
        group[i][units_gk[:, i]] = torch.arange(len(units_gk))
    corr_g = torch.from_numpy(sum_g) / (nets.k * (nets.k - 1) / 2)
    return Consensus(units_gk, group, corr_g, float(sum_g.sum()), bound)


def _active(nets: SeveralNets) -> tuple[Weights, list[Tensor]]:
    """The correlations of active units, for both orders of every two nets, and which unit each row is."""
    active = [active_u.nonzero()[:, 0] for active_u in nets.active]
    weight = {
        (i, j): nets.corr_between(i, j)[active[i][:, None], active[j]].double().numpy()
        for i, j in permutations(range(nets.k), 2)
    }
    return weight, active
