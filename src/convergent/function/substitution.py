"""Single units: some of net b's units replaced by what net a's say of them, and what these units are needed for.

Axes: `f` folds, `b` units of net b, `k` blocks of images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from convergent.analysis.reports import Report
from convergent.analysis.results import Result
from convergent.core.alignment import Alignment
from convergent.core.prediction import Prediction
from convergent.function.judged import SUMS, Judged
from convergent.function.stitches import PLAIN, RESTORED, Stitch, own_stitches

SUBSTITUTED, ABLATED = "substituted", "ablated units"
KINDS = {
    SUBSTITUTED: "some units of net b are replaced by the method's predictions, their variance restored",
    ABLATED: "the same units are replaced by their means",
}
ORDERS = ("best", "worst", "random")  # matched units come first
SHARES = (0.125, 0.25, 0.5, 0.75, 1.0)  # of the matched units are replaced

_SAMPLE = {SUBSTITUTED: 16, ABLATED: 64}  # units of a layer that are replaced one by one


def subset_stitches(alignment: Alignment, dealt: int, *, own: bool) -> list[Stitch]:
    """The maps that replace the best-, worst- or randomly chosen matched units, and single ones; and ablate these.

    How well a unit is matched is what the fit of each fold says, so that no image decides about itself.

    Args:
        alignment: of net a's units with net b's.
        dealt: the blocks that the images were dealt into.
        own: also ablate single units, which is the same for every net a.
    """
    pair, folds = alignment.pair, alignment.predictions
    ablated = own_stitches(pair, dealt)[1].predictions
    head = {SUBSTITUTED: (pair.name_a, folds, RESTORED), ABLATED: (pair.name_b, ablated, PLAIN)}

    def of(kind: str, units_fb: Tensor, subset: tuple[str, float], a: str = pair.name_a) -> Stitch:
        source, predictions, version = head[kind]
        named = Stitch(kind, a, pair.name_b, source, predictions, dealt, pair.blocks, versions=[version])
        return replace(named, units_fb=units_fb, subset=subset)

    place_fb = {order: torch.stack([_places(fold, order) for fold in folds]) for order in ORDERS}
    matched_f = (place_fb["best"] < pair.q).sum(1, keepdim=True)
    stitches = []
    for share in SHARES:
        for order in ORDERS if share < 1 else ORDERS[:1]:
            units_fb = place_fb[order] < (share * matched_f).ceil()
            stitches += [of(kind, units_fb, (order, share)) for kind in KINDS]
    for kind, a in ((SUBSTITUTED, pair.name_a), *([(ABLATED, "")] if own else [])):
        for unit in sampled_units(alignment)[: _SAMPLE[kind]]:
            units_fb = (torch.arange(pair.q) == unit).expand(len(folds), -1)
            stitches.append(of(kind, units_fb, ("unit", unit), a))
    return stitches


def sampled_units(alignment: Alignment) -> list[int]:
    """Numbers of the units of net b that vary in a seeded order, the same for all a: the first are replaced one by one."""
    active = alignment.pair.active_b.nonzero()[:, 0]
    units: list[int] = active[torch.randperm(len(active), generator=torch.Generator().manual_seed(0))].tolist()
    return units


def _places(fold: Prediction, order: str) -> Tensor:
    """The place of each unit in an order of the matched ones, shape (q,); those that are not matched come after all."""
    matched_b = fold.weight_ab.any(0)
    value_b = -fold.gain_b.reciprocal() if order == "best" else fold.gain_b.reciprocal()
    if order == "random":
        value_b = torch.rand(len(value_b), generator=torch.Generator().manual_seed(0), dtype=value_b.dtype)
    place_b = value_b.where(matched_b, torch.inf).argsort(stable=True).argsort()
    return place_b.where(matched_b, len(place_b))


def unit_costs(judged: Judged, a: str, b: str, q: int) -> tuple[Tensor, Tensor]:
    """KL from net b's own output with a unit alone ablated, and substituted, each of shape (q,).

    NaN for units that were not replaced one by one.
    """
    costs = {kind: torch.full((q,), torch.nan, dtype=torch.float64) for kind in KINDS}
    for stitch, kl in _costs(judged, a, b):
        if stitch.subset[0] == "unit":
            costs[stitch.name][int(stitch.subset[1])] = kl
    return costs[ABLATED], costs[SUBSTITUTED]


def substitution(judged: Judged, result: Result, variance_b: Tensor) -> tuple[Result, Report]:
    """A result with what its single units cost, and the curves of its pair.

    These are KL of substitution over KL of ablating the same units, by how many, the best, worst or any matched ones first;
    the scalar `needed` is that of the sampled units, whose variances are `variance_b`, shape (q,).
    """
    cost = {(of.name, *of.subset): kl for of, kl in _costs(judged, result.a, result.b) if of.subset[0] != "unit"}
    rows: list[dict[str, Any]] = []
    curves: dict[str, list[float]] = {"share": [*SHARES], **{f"kl_ratio_{order}": [] for order in ORDERS}}
    for share in SHARES:
        for order in ORDERS:
            place = (order if share < 1 else ORDERS[0], share)
            kl_substituted, kl_ablated = (cost[kind, *place] for kind in KINDS)
            ratio = kl_substituted / kl_ablated if kl_ablated > 0 else 0.0
            curves[f"kl_ratio_{order}"].append(ratio)
            costs = {"kl_substituted": kl_substituted, "kl_ablated": kl_ablated, "kl_ratio": ratio}
            rows.append({"order": order, "share": share, **costs})
    scalars = {f"kl_ratio_{order}_half": curves[f"kl_ratio_{order}"][SHARES.index(0.5)] for order in ORDERS}
    kl_ablated_b, kl_substituted_b = unit_costs(judged, result.a, result.b, len(result.r_b))
    matched_b = torch.from_numpy(result.matched_b) & kl_ablated_b.isfinite()
    r_b = torch.from_numpy(result.r_b)[matched_b]
    if (log_ratio := needed(kl_ablated_b[matched_b], r_b, variance_b[matched_b])) is not None:
        scalars["needed"] = log_ratio
    report = Report(
        result.layer, result.a, result.b, scalars=scalars, tables={"substitution": rows}, curves={"share": curves}
    )
    return replace(result, kl_ablated_b=kl_ablated_b.numpy(), kl_substituted_b=kl_substituted_b.numpy()), report


def needed(kl_b: Tensor, r_b: Tensor, variance_b: Tensor) -> float | None:
    """Mean log ratio of what ablation costs, of the better matched to the worse matched of two units of the same variance.

    Units are paired with their neighbours in the order of variances, each unit once; above 0 what converges is what is
    needed, exp of it is by what factor. Where correlation says nothing of cost among such units its mean is 0.

    Args:
        kl_b: the cost of ablating each unit alone, shape (units,); units that cost nothing are left out.
        r_b: correlation with the partner.
        variance_b: of the unit.

    Returns:
        None for fewer than four units.
    """
    costs = kl_b > 0
    order = variance_b[costs].argsort(stable=True)
    if len(order) < 4:
        return None
    log_kl, r = kl_b[costs][order].log(), r_b[costs][order]
    pairs = len(order) // 2 * 2
    (first, second), (r_first, r_second) = (x[:pairs].view(-1, 2).T for x in (log_kl, r))
    return float(((first - second) * (r_first - r_second).sign()).mean())


def _costs(judged: Judged, a: str, b: str) -> Sequence[tuple[Stitch, float]]:
    """Mean KL over all images of the maps of some units."""
    total_vs = judged.sums_vks.sum(1)
    kl_v = total_vs[:, SUMS.index("kl")] / total_vs[:, SUMS.index("images")]
    return [
        (of, kl) for of, kl in zip(judged.stitches, kl_v.tolist()) if of.b == b and of.a in (a, "") and of.name in KINDS
    ]
