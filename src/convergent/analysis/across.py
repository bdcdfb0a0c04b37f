"""What more than two nets have in common in a layer, in a few numbers, beside what it is worth on random axes.

Axes: `m` how many of the other nets, `g` groups of one unit of each net, `d` draws.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor

from convergent.analysis.consensus import consensus, cycle_consistency
from convergent.analysis.intervals import Interval, left_out_interval
from convergent.analysis.partners import PartnerCounts, mutual_best, reliability
from convergent.analysis.results import Result
from convergent.analysis.several import SeveralNets
from convergent.core.layer_moments import LayerMoments
from convergent.errors import InputError
from convergent.similarity.gcca import gcca

_UNIVERSAL = 0.5  # Gurnee et al. 2024
_NO_DRAW = "The spread of a null needs at least one draw, but there is none; take 19 for a level of 5%."


def scalars_of(nets: SeveralNets) -> dict[str, float]:
    """What is asked of all nets at once, each a number whose null is the same of rotated nets, see `beside_rotated`.

    Returns:
        `mutual_best`: share of units that are their best partner's best partner; `cliques`: share for which this holds
        between all nets at once; `cycles`: from three nets on, share on which the matchings of three nets agree;
        `consensus_r`: mean correlation inside groups of one unit per net, by a quick search that recorded and rotated nets
        share (within .003 of the thorough one of `consensus`).
    """
    mutual, groups = mutual_best(nets), consensus(nets, kicks=0, starts=1)
    pairs = nets.k * (nets.k - 1)
    scalars = {
        "mutual_best": float((mutual.share_ij.sum() - mutual.share_ij.trace()) / pairs),
        "cliques": float(mutual.clique_share_i.mean()),
        "consensus_r": float(groups.corr_g.mean()) if len(groups.corr_g) else 0.0,
    }
    return scalars | ({"cycles": cycle_consistency(nets).mean} if nets.k > 2 else {})


def beside(scalars: Mapping[str, float], draws: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Every scalar with what it is on random axes: NAME_rotated, the mean of the draws, NAME_rotated_low, NAME_rotated_high.

    Where nothing but a space is shared, a scalar is above the highest of d draws with probability 1 / (d + 1): above all of
    19 draws or more is evidence at 5%, one-sided.

    Raises:
        InputError: if there is no draw.

    >>> beside({"cycles": 0.5}, [{"cycles": 0.1}, {"cycles": 0.3}])
    {'cycles': 0.5, 'cycles_rotated': 0.2, 'cycles_rotated_low': 0.1, 'cycles_rotated_high': 0.3}
    """
    if not draws:
        raise InputError(_NO_DRAW)
    with_null = dict(scalars)
    for name in scalars:
        values = [draw[name] for draw in draws]
        with_null |= {f"{name}_rotated": fmean(values), f"{name}_rotated_low": min(values)}
        with_null[f"{name}_rotated_high"] = max(values)
    return with_null


def beside_rotated(nets: SeveralNets, rotated: Sequence[SeveralNets]) -> dict[str, float]:
    """`scalars_of` the nets beside the same scalars of all nets rotated, each by a rotation of its own, a draw each."""
    return beside(scalars_of(nets), [scalars_of(draw) for draw in rotated])


def found_in_rotated(
    nets: SeveralNets, has_partner: Sequence[Mapping[tuple[int, int], Tensor]]
) -> dict[str, list[float]]:
    """What `found_in` is on random axes: the shares of rotated units that have a partner in m of the other, recorded nets.

    `has_partner` says for each draw, {(i, j): whether each unit of net i, rotated, exceeds in net j, as recorded, the
    threshold that the recorded unit must exceed}; one rotation of net i for all j.

    Returns:
        The mean, lowest and highest share over the draws for m = 0, 1, ...: found_in_rotated, _low and _high.

    Raises:
        InputError: if there is no draw.
    """
    if not has_partner:
        raise InputError(_NO_DRAW)
    share_dm = torch.stack([PartnerCounts.of(nets, has).share_m for has in has_partner])
    of_draws = {"": share_dm.mean(0), "_low": share_dm.amin(0), "_high": share_dm.amax(0)}
    return {f"found_in_rotated{end}": share_m.tolist() for end, share_m in of_draws.items()}


def across(
    layer: LayerMoments,
    results: Sequence[Result],
    rotated: Sequence[SeveralNets] = (),
    best_r: Sequence[Mapping[tuple[int, int], Tensor]] = (),
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Scalars of a layer over all nets, and the groups of units that belong together.

    Args:
        layer: three nets or more, every pair measured.
        results: of the layer's ordered pairs; their nulls say what a partner's correlation must exceed: the highest of what
            19 of 20 units reach by chance.
        rotated: the layer with every net rotated by itself, a draw each, see `beside_rotated`.
        best_r: {(i, j): highest correlation of each unit of net i, rotated, with those of net j as it is}, a draw each.

    Returns:
        Scalars: `found_in` is the share of units with a partner above chance in exactly 0, 1, ... of the other nets; those
        `found_in_low` and `found_in_high` its 95% interval over images, where these were left out, `found_in_nets_low` and
        `found_in_nets_high` over nets, from the spread of their shares; those of `scalars_of`; `gcca`, see
        `similarity.gcca`; `consensus_gap` by what share a better grouping might exceed the groups' value; and, where there
        are draws, NAME_rotated, NAME_rotated_low, NAME_rotated_high. Groups: a row each, best first.

    Source: Li et al. 2016, section 3 (features learned reliably); Dravid et al. 2023 (mutual best partners).
    """
    nets = SeveralNets.of(layer)
    number = {name: i for i, name in enumerate(layer.nets)}
    thresholds = {
        (number[result.b], number[result.a]): max((chance.threshold for chance in result.chance.values()), default=0.0)
        for result in results
    }
    groups = consensus(nets)
    counts = reliability(nets, thresholds)
    scalars: dict[str, Any] = {"found_in": counts.share_m.tolist(), **_intervals(nets, counts, results)}
    scalars |= beside_rotated(nets, rotated) if rotated else scalars_of(nets)
    has_partner = [{ij: best_u > thresholds[ij] for ij, best_u in draw.items()} for draw in best_r]
    scalars |= found_in_rotated(nets, has_partner) if has_partner else {}
    scalars |= {} if (shared := gcca(layer)) is None else {"gcca": shared}
    scalars["consensus_gap"] = groups.gap / groups.bound if groups.bound > 0 else 0.0
    if not rotated:
        scalars["cycles_chance"] = cycle_consistency(nets).chance  # of nets with nothing in common: the least there is
    rows = [
        {"layer": layer.layer, "group": g, "mean_r": round(r, 6), **dict(zip(layer.nets, units))}
        for g, (r, units) in enumerate(zip(groups.corr_g.tolist(), groups.units_gk.tolist()))
    ]
    return scalars, rows


def rows_of_found_in(layer: str, scalars: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each number of other nets in which a layer's units have a partner above chance: `found_in` of `across`."""
    of_null = ("found_in_rotated", "found_in_rotated_low", "found_in_rotated_high")
    ends = ("found_in_low", "found_in_high", "found_in_nets_low", "found_in_nets_high")
    names = [name for name in ("found_in", *ends, *of_null) if name in scalars]
    columns = {name.replace("found_in", "share").removeprefix("share_") or "share": scalars[name] for name in names}
    return [
        {"layer": layer, "others": m, **{name: round(of[m], 6) for name, of in columns.items()}}
        for m in range(len(scalars["found_in"]))
    ]


def _intervals(nets: SeveralNets, counts: PartnerCounts, results: Sequence[Result]) -> dict[str, list[float]]:
    """Where the shares of `found_in` are with 95%, over images and over nets."""
    number, ends = {name: i for i, name in enumerate(nets.names)}, {}
    share_im = counts.share_im
    se_m = share_im.std(0) / nets.k**0.5
    ends["nets"] = Interval.of_t(counts.share_m, se_m, nets.k - 1, 0.95)
    parts = [(number[of.b], number[of.a], of.left_out) for of in results if of.left_out is not None]
    if len(parts) == nets.k * (nets.k - 1):
        share_k = parts[0][2].share_k
        without_km = torch.stack([
            PartnerCounts.of(nets, {(i, j): part.above_kb[k] for i, j, part in parts}).share_m for k in range(len(share_k))
        ])  # fmt: skip
        ends[""] = left_out_interval(counts.share_m, without_km, share_k)
    return {
        "_".join(filter(None, ("found_in", over, end))): getattr(of, end).clamp(0, 1).tolist()
        for over, of in ends.items()
        for end in ("low", "high")
    }


def universal(results: Sequence[Result]) -> dict[str, float]:
    """The share of units whose highest correlation exceeds that on rotated axes by more than 0.5: universal neurons.

    Both correlations are means over the other nets; nothing where no rotation was asked for.

    Source: Gurnee et al. 2024, "Universal neurons in GPT2 language models".
    """
    shares = []
    for net in dict.fromkeys(of.b for of in results):
        every = [
            (of.excess_after_b if of.excess_after_b is not None else of.excess_b, of.active_b)
            for of in results
            if of.b == net
        ]
        if any(excess_b is None for excess_b, _ in every):
            return {}
        mean_b = np.mean([excess_b for excess_b, _ in every if excess_b is not None], 0)
        shares.append(float((mean_b > _UNIVERSAL)[every[0][1]].mean()))
    return {"universal": fmean(shares)} if shares else {}
