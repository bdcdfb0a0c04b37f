"""What more than two nets have in common in a layer, in a few figures.

Axes: `m` how many of the other nets, `g` groups of one unit of each net.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convergent.controls.consensus import consensus, cycle_consistency
from convergent.controls.partners import mutual_best, reliability
from convergent.controls.several import SeveralNets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from convergent.results import Result
    from convergent.streaming.layer_moments import LayerMoments


def across(layer: LayerMoments, results: Sequence[Result]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Figures of a layer over all nets, and the groups of units that belong together.

    Args:
        layer: three nets or more, every pair measured.
        results: of the layer's ordered pairs; their nulls say what a partner's correlation must exceed: the highest of what
            19 of 20 units reach by chance.

    Returns:
        Figures: `found_in` is the share of units with a partner above chance in exactly 0, 1, ... of the other nets;
        `mutual_best` the share that is its best partner's best partner; `cliques` the share for which this holds between
        all nets at once; `cycles` the share on which the matchings of three nets agree, and what chance gives;
        `consensus_r` the mean correlation inside the groups of one unit per net, and `consensus_gap` by what share a
        better grouping might exceed it. Groups: a row each, best first.

    Source: Li et al. 2016, section 3 (features learned reliably); Dravid et al. 2023 (mutual best partners).
    """
    nets = SeveralNets.of(layer)
    number = {name: i for i, name in enumerate(layer.nets)}
    thresholds = {
        (number[result.b], number[result.a]): max((chance.threshold for chance in result.chance.values()), default=0.0)
        for result in results
    }
    mutual, cycles, groups = mutual_best(nets), cycle_consistency(nets), consensus(nets)
    off_diagonal = mutual.share_ij.sum() - nets.k
    figures = {
        "found_in": reliability(nets, thresholds).share_m.tolist(),
        "mutual_best": float(off_diagonal / (nets.k * (nets.k - 1))),
        "cliques": float(mutual.clique_share_i.mean()),
        "cycles": cycles.mean,
        "cycles_chance": cycles.chance,
        "consensus_r": float(groups.corr_g.mean()) if len(groups.corr_g) else 0.0,
        "consensus_gap": groups.gap / groups.bound if groups.bound > 0 else 0.0,
    }
    rows = [
        {"layer": layer.layer, "group": g, "mean_r": round(r, 6), **dict(zip(layer.nets, units))}
        for g, (r, units) in enumerate(zip(groups.corr_g.tolist(), groups.units_gk.tolist()))
    ]
    return figures, rows
