"""What a pass says of each map: how much of a net's decisions is left, over what images, with intervals.

Axes: `v` maps, `k` blocks of images, `s` sums of a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from convergent.analysis.intervals import Interval, of_sum
from convergent.analysis.reports import Report
from convergent.function.judged import SUMS, Judged
from convergent.function.stitches import MAPS, RESTORED, Stitch


@dataclass(frozen=True, eq=False)
class Judgement:
    """The sums of one version of one map, shape (k, SUMS), those of the layer itself, and of the means of its units."""

    sums_ks: Tensor
    own_ks: Tensor
    ablated_ks: Tensor

    def mean(self, name: str) -> Interval:
        """The mean of one of `SUMS` over images."""
        return _ratio(self._of(name), self._of("images"), self._of("images"))

    @property
    def kept(self) -> Interval:
        """1 - KL / KL of the mean-ablated layer: 1 where nothing is lost, 0 where as much is as without the layer."""
        lost = _ratio(self._of("kl"), self.ablated_ks[:, SUMS.index("kl")], self._of("images"))
        return Interval(1 - lost.estimate, lost.se, 1 - lost.high, 1 - lost.low, lost.level)

    @property
    def loss_recovered(self) -> Interval:
        """The same of the loss: 1 where it is net b's own, 0 where it is that of the mean-ablated layer."""
        loss, of_ablated = SUMS.index("loss"), self.ablated_ks[:, SUMS.index("loss")]
        return _ratio(of_ablated - self._of("loss"), of_ablated - self.own_ks[:, loss], self._of("images"))

    def less(self, other: Judgement, name: str) -> Interval:
        """The difference of a mean from another map's on the same images."""
        return _ratio(self._of(name) - other._of(name), self._of("images"), self._of("images"))

    def _of(self, name: str) -> Tensor:
        return self.sums_ks[:, SUMS.index(name)]


def judgements(judged: Judged, a: str, b: str) -> Iterator[tuple[Stitch, Judgement]]:
    """Every map of net a's in place of all units of net b, and net b's own."""
    there = [(of, sums_ks) for of, sums_ks in zip(judged.stitches, judged.sums_vks) if of.b == b and of.name in MAPS]
    own_ks, ablated_ks = (next(of for stitch, of in there if stitch.name == name) for name in ("identity", "ablated"))
    yield from ((of, Judgement(sums_ks, own_ks, ablated_ks)) for of, sums_ks in there if of.a in (a, ""))


def reports_of(layer: str, judged: Judged) -> list[Report]:
    """A report for each ordered pair of nets: scalars of the row per pair, and a table row per map.

    Scalars are called QUANTITY, of a control QUANTITY_CONTROL, with _restored where units have their variance back.
    """
    reports = []
    for a, b in dict.fromkeys((stitch.a, stitch.b) for stitch in judged.stitches if stitch.a):
        rows: list[dict[str, Any]] = []
        scalars: dict[str, float] = {}
        by_name = {(stitch.name, *stitch.versions): (stitch, of) for stitch, of in judgements(judged, a, b)}
        for (name, version), (stitch, of) in by_name.items():
            row = _row(stitch, of)
            rows.append(row)
            end = ("" if name == "method" else f"_{name}") + ("_restored" if version == RESTORED else "")
            if name not in ("identity", "ablated"):
                scalars |= {f"{column}{end}": row[column] for column in ("kept", "same_decision")}
        rows.sort(key=lambda row: [*MAPS].index(row["map"]))
        if ("rotated", RESTORED) in by_name:
            less = by_name["method", RESTORED][1].less(by_name["rotated", RESTORED][1], "same_decision")
            scalars |= {
                "same_decision_above_rotated": less.estimate.item(),
                "same_decision_above_rotated_low": less.low.item(),
            }
        reports.append(Report(layer, a, b, scalars=scalars, tables={"function": rows}))
    return reports


def _row(stitch: Stitch, of: Judgement) -> dict[str, Any]:
    row: dict[str, Any] = {
        "map": stitch.name,
        "restored": int(stitch.versions[0] == RESTORED),
        "r2_held_out": stitch.r2_held_out,
    }
    row["images"] = round(of.sums_ks[:, 0].sum().item())
    for name, interval in (("same_decision", of.mean("same_decision")), ("kept", of.kept)):
        ends = {name: interval.estimate, f"{name}_low": interval.low, f"{name}_high": interval.high}
        row |= {column: round(value.item(), 6) for column, value in ends.items()}
    row["loss_recovered"] = round(of.loss_recovered.estimate.item(), 6)
    return row | {name: round(of.mean(name).estimate.item(), 6) for name in ("kl", "loss", "accuracy")}


def _ratio(value_k: Tensor, by_k: Tensor, images_k: Tensor) -> Interval:
    """A ratio of sums over the blocks, with the error of its linear part; blocks of which no image was read are none."""
    there = images_k > 0
    value_k, by_k, images_k = value_k[there], by_k[there], images_k[there]
    ratio = value_k.sum() / by_k.sum()
    if len(images_k) < 2:
        unknown = torch.full_like(ratio, torch.nan)
        return Interval(ratio, unknown, unknown, unknown, 0.95)
    error = of_sum((value_k - ratio * by_k) / by_k.sum(), images_k)
    return Interval(ratio, error.se, ratio + error.low, ratio + error.high, error.level)
