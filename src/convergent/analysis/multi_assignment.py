"""Multidimensional assignment: groups of one row of each of k tables with the largest sum of weights inside groups.

Axes: `i`, `j` tables (k of them), `u`, `v` rows of two tables, `g` groups, `x`, `y` groups as rows and columns of a problem.
"""

from collections.abc import Sequence
from itertools import combinations, cycle, product

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Weights = dict[tuple[int, int], NDArray[np.float64]]  # {(i, j): (rows of i, rows of j)}, both orders of every two
Matches = dict[tuple[int, int], tuple[NDArray[np.intp], NDArray[np.intp]]]  # matched rows of i and of j
Groups = list[NDArray[np.intp]]  # per table its row in each group, shape (g,)

# Sums that differ by less are equal: rounding must neither keep the ascent going nor break ties.
_EQUAL = 1e-9


def solve(weight: Weights, k: int, kicks: int, starts: int | None = None) -> tuple[Groups, NDArray[np.float64], float]:
    """The best groups found, the sum of weights within each, largest first, and a bound of what any groups sum to.

    There are as many groups as the smallest table has rows. Two tables: the optimum. The search starts from
    `starts` tables, the best matched first, or from every one.

    Source: Karapetyan, Gutin 2011, "Local search heuristics for the multidimensional assignment problem" (each
    of its "dimensionwise variations" deals the rows of some tables anew, by a linear assignment).
    """
    match: Matches = {ij: linear_sum_assignment(weight[ij], maximize=True) for ij in combinations(range(k), 2)}
    groups = min(len(weight_uv) for weight_uv in weight.values())
    bound = sum(_bound(weight[ij], groups) for ij in match)
    # Tables are treated in an order that their weights decide, the best matched first, not in the caller's.
    total = [sum(weight[ij][pairs].sum() for ij, pairs in match.items() if i in ij) for i in range(k)]
    order = sorted(range(k), key=lambda i: -total[i])
    match |= {(j, i): (v, u) for (i, j), (u, v) in match.items()}
    singles: list[tuple[int, ...]] = [(i,) for i in order]
    # Two tables against the rest; of four tables every split in halves is met by the first one's partners.
    halves = {2: 0, 3: 0, 4: 3}.get(k, k * (k - 1) // 2)
    blocks = [*singles, *list(combinations(order, 2))[:halves]]
    firsts = order[:starts]
    climbed = [_climb(weight, _grow(weight, order, first), singles) for first in firsts]
    if k > 2:
        along = _along(weight, match, order)
        guided = [_climb(along, _grow(along, order, first), singles) for first in firsts]
        climbed += [_climb(weight, groups, singles) for groups in guided]
    best = _climb(weight, max(climbed, key=lambda groups: _sums(weight, groups).sum()), blocks)
    chance = np.random.default_rng(0)
    for _ in range(kicks):
        sum_g = _sums(weight, best)
        if sum_g.sum() >= bound - _EQUAL:
            break
        tried = _climb(weight, _kick(best, sum_g, order, chance), blocks)
        best = tried if _sums(weight, tried).sum() > sum_g.sum() + _EQUAL else best
    sum_g = _sums(weight, best)
    place_g = np.argsort(-sum_g, kind="stable")
    return [row_g[place_g] for row_g in best], sum_g[place_g], bound


def _sums(weight: Weights, groups: Groups) -> NDArray[np.float64]:
    """The sum of weights within each group, shape (g,)."""
    sum_g = np.zeros(len(groups[0]))
    for i, j in combinations(range(len(groups)), 2):
        sum_g += weight[i, j][groups[i], groups[j]]
    return sum_g


def _climb(weight: Weights, groups: Groups, blocks: Sequence[tuple[int, ...]]) -> Groups:
    """Deals the rows of each block of tables anew to the groups of the others, in turn, until no block gains."""
    groups, idle = list(groups), 0
    for block in cycle(blocks):
        if idle == len(blocks):
            break
        gain_xy = np.zeros(())
        for i, j in product((i for i in range(len(groups)) if i not in block), block):
            gain_xy = gain_xy + (weight[i, j][groups[i]] if len(block) == 1 else weight[i, j][groups[i]][:, groups[j]])
        # A table on its own may take in rows that were in no group; several tables keep theirs together.
        now_x = groups[block[0]] if len(block) == 1 else np.arange(len(gain_xy))
        x, to_x = linear_sum_assignment(gain_xy, maximize=True)
        idle += 1
        if gain_xy[x, to_x].sum() > gain_xy[x, now_x].sum() + _EQUAL:
            idle = 1  # it has gained all that it can
            for j in block:
                groups[j] = to_x if len(block) == 1 else groups[j][to_x]
    return groups


def _grow(weight: Weights, order: Sequence[int], first: int) -> Groups:
    """Groups that start as the rows of one table and take in the others one by one; a smaller table drops groups."""
    other = next(i for i in order if i != first)
    groups = {first: np.arange(len(weight[first, other]))}
    for j in (i for i in order if i != first):
        gain_xv = np.sum([weight[i, j][row_x] for i, row_x in groups.items()], 0)
        x, v = linear_sum_assignment(gain_xv, maximize=True)
        groups = {i: row_x[x] for i, row_x in groups.items()} | {j: v}
    return [groups[i] for i in range(len(order))]


def _along(weight: Weights, match: Matches, order: Sequence[int]) -> Weights:
    """The weights plus those by way of every third table: one step along a pairwise matching, the other by weight."""
    along = {}
    for i, j in combinations(order, 2):
        along[i, j] = weight[i, j].copy()
        for m in (m for m in order if m not in (i, j)):
            u, by_u = match[i, m]
            along[i, j][u] += weight[i, m][u, by_u][:, None] * weight[m, j][by_u]
            by_v, v = match[m, j]
            along[i, j][:, v] += weight[i, m][:, by_v] * weight[m, j][by_v, v]
        along[j, i] = along[i, j].T
    return along


def _kick(groups: Groups, sum_g: NDArray[np.float64], order: Sequence[int], chance: np.random.Generator) -> Groups:
    """The groups with a fifth of each table's rows shuffled, chosen by the groups' rank: no label has a say."""
    place_g = np.argsort(-sum_g, kind="stable")
    groups = [row_g[place_g] for row_g in groups]
    for i in order:
        some = chance.permutation(len(sum_g))[: max(2, len(sum_g) // 5)]
        groups[i][np.sort(some)] = groups[i][some]
    return groups


def _bound(weight_uv: NDArray[np.float64], groups: int) -> float:
    """The largest sum of `groups` pairs of a row and a column, none twice."""
    p, q = weight_uv.shape
    # Rows to spare are taken by columns of their own at no weight, columns by rows; one of each never meet.
    padded = np.zeros((p + q - groups, p + q - groups))
    padded[:p, :q] = weight_uv
    padded[p:, q:] = -np.inf
    u, v = linear_sum_assignment(padded, maximize=True)
    return float(padded[u, v].sum())
