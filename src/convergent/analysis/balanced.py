"""Do the units of a balanced cluster span one subspace in both nets? Asked of images that did not choose the cluster.

Clusters are chosen because their units go together. On the images that chose them they therefore go together better than
groups that nobody chose, also in nets that have nothing in common; on other images they do not.

Axes: `a` units of net a, `b` units of net b, `d` draws.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from convergent.analysis.codes import few_to_one
from convergent.analysis.nulls import p_values
from convergent.analysis.reports import Report
from convergent.analysis.tree import Tree
from convergent.core.alignment import Alignment, Method
from convergent.core.pairs import Pair
from convergent.core.prediction import explained
from convergent.core.subspaces import mean_canonical_correlation, random_groups

_DRAWS = 200  # random groups that a cluster's subspaces are held against


def tree(alignment: Alignment) -> Report | None:
    """The tree's balanced clusters, those that half of the images choose and the others confirm; of few-to-one maps only."""
    if not few_to_one(alignment):
        return None
    whole, pair = Tree.of(alignment), alignment.pair
    rows = cluster_rows(alignment.refit(choices=False), pair)
    tested = [row["p_value"] for row in rows if row["p_value"] is not None]
    scalars = {
        "balanced_clusters": float(len(whole.balanced())),
        "clusters_tested": float(len(tested)),
        "clusters_confirmed": float(sum(p <= 0.05 for p in tested)),
    }
    return Report.of(pair, scalars=scalars, tables={"clusters": rows}, tree=whole.labels(pair))


def cluster_rows(method: Method, pair: Pair, seed: int = 0) -> list[dict[str, Any]]:
    """A row for each balanced cluster that half of the images choose, with what the other half say of it.

    `canonical` is the mean canonical correlation between the cluster's units of a and of b, `random` its mean over random
    groups of the same sizes, `p_value` the share of those that reach it (add-one rule), `one_to_one` the mean |r| of the
    best pairing inside the cluster, as one-to-one matching sees it, `r2_held_out` the variance of its units of b that
    the map explains: all on the images that chose nothing. Where no images are held out, all are of the same images, and
    there is no p-value and no `r2_held_out`. `seed` is of the random groups.
    """
    apart = pair.holds_out
    fit, on = next(replace(pair, joint=None).folds(2)) if apart else (pair, pair)
    alignment, rows, nulls = method(fit), [], {}
    tree = Tree.of(alignment)
    explained_b = explained(alignment.map_ab, fit, on)
    for similarity, members in tree.balanced():
        units_a, units_b = (
            torch.from_numpy(np.sort(tree.units[members[tree.of_b[members] == side]])) for side in (False, True)
        )
        size = len(units_a)
        if 2 * size > on.count - 1:
            continue
        if size not in nulls:
            nulls[size] = _chance(on, tree, size, seed)
        canonical = mean_canonical_correlation(on, units_a[None], units_b[None])
        weight = on.corr_ab[units_a[:, None], units_b].abs().numpy()
        rows.append(
            {
                "size": size,
                "units_a": " ".join(map(str, units_a.tolist())),
                "units_b": " ".join(map(str, units_b.tolist())),
                "similarity": round(float(similarity), 6),
                "canonical": round(float(canonical), 6),
                "random": round(float(nulls[size].mean()), 6),
                "p_value": round(float(p_values(canonical, nulls[size])), 6) if apart else None,
                "one_to_one": round(float(weight[linear_sum_assignment(weight, maximize=True)].mean()), 6),
                **({"r2_held_out": round(float(explained_b[units_b].mean()), 6)} if apart else {}),
            }
        )
    return rows


def _chance(pair: Pair, tree: Tree, size: int, seed: int) -> Tensor:
    """Mean canonical correlations of random groups of both nets' units in the tree, shape (d,)."""
    generator = torch.Generator().manual_seed(seed)
    groups = []
    for width, side in ((pair.p, ~tree.of_b), (pair.q, tree.of_b)):
        there_u = torch.zeros(width, dtype=torch.bool).index_fill(0, torch.from_numpy(tree.units[side]), True)
        groups.append(random_groups(there_u, size, _DRAWS, generator))
    return mean_canonical_correlation(pair, *groups)
