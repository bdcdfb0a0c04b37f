"""What one method says of one pair of nets in one layer, as figures: per unit, and summed up.

Axes: `a` units of net a, `b` units of net b.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from convergent.analysis import nulls
from convergent.analysis.chance import Chance, mean_r
from convergent.analysis.intervals import jackknife, over_nets
from convergent.core import scores
from convergent.core.alignment import Choosing, Refitting, Settling
from convergent.core.histogram_source import needs_histograms
from convergent.methods.semimatching import best_units

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from convergent.core.alignment import Alignment, Method
    from convergent.core.pairs import Pair


# Figures whose interval over nets is found: of the correlations, and of how units are coded (methods.sparse).
_OVER_NETS = ("mean_r", "local", "slightly_distributed", "distributed", "undecided", "unpredicted")


@dataclass(frozen=True, eq=False)
class Result:
    """The units of net b, each accounted for from net a's; all arrays have shape (q,).

    Attributes:
        layer: name of the layer.
        a: name of the net that accounts.
        b: name of the net that is accounted for.
        images: number of images read.
        samples: number of samples: images times positions.
        blocks: number of blocks of images.
        constant_a: how many units of a are constant.
        unshared_a: how many active units of a are nobody's partner.
        constant_b: how many units of b are constant.
        active_b: which units of b vary and were to be accounted for; the others count nowhere.
        partner_b: the main unit of a, -1 for none.
        predictors_b: how many units of a account for each unit of b.
        r_b: correlation with what accounts for it, see `alignment.Alignment.r_b`.
        best_b: the unit of a with the highest correlation: the semi-matching's partner, as reference; -1 for none.
        best_r_b: that correlation.
        score_b: share of variance explained on the fitted images.
        held_out_b: the same on held-out images; None where none are held out.
        excess_b: best_r_b less its mean with net a on randomly rotated axes; None where no rotation was asked for.
        interval: where the mean correlation with the partner lies, with 95 % over images; None if not asked for.
        chance: what the method finds in each null, by name.
        solver: what the solver says of itself.
    """

    layer: str
    a: str
    b: str
    images: int
    samples: int
    blocks: int
    constant_a: int
    unshared_a: int
    constant_b: int
    active_b: NDArray[np.bool_]
    partner_b: NDArray[np.int64]
    predictors_b: NDArray[np.int64]
    best_b: NDArray[np.int64]
    r_b: NDArray[np.float64]
    best_r_b: NDArray[np.float64]
    score_b: NDArray[np.float64]
    held_out_b: NDArray[np.float64] | None
    excess_b: NDArray[np.float64] | None
    interval: tuple[float, float] | None
    chance: Mapping[str, Chance]
    solver: dict[str, float]

    @classmethod
    def of(
        cls,
        pair: Pair,
        alignment: Alignment,
        held_out_b: torch.Tensor | None,
        images: int,
        interval: tuple[float, float] | None = None,
        chance: Mapping[str, Chance] | None = None,
        excess_b: torch.Tensor | None = None,
    ) -> Result:
        """The figures of one alignment."""
        best_b = best_units(pair)
        return cls(
            layer=pair.layer,
            a=pair.name_a,
            b=pair.name_b,
            images=images,
            samples=pair.count,
            blocks=pair.blocks,
            constant_a=int((~pair.active_a).sum()),
            unshared_a=int((pair.active_a & (alignment.sharing_a == 0)).sum()),
            constant_b=int((~pair.active_b).sum()),
            active_b=(pair.active_b if alignment.asked_b is None else pair.active_b & alignment.asked_b).numpy(),
            partner_b=alignment.partner_b.numpy(),
            predictors_b=alignment.predictors_b.numpy(),
            r_b=alignment.r_b.numpy(),
            best_b=best_b.numpy(),
            best_r_b=nulls.best(pair).numpy(),
            score_b=alignment.score_b.numpy(),
            held_out_b=None if held_out_b is None else held_out_b.numpy(),
            excess_b=None if excess_b is None else excess_b.numpy(),
            interval=interval,
            chance=chance or {},
            solver=dict(alignment.solver),
        )

    def summary(self) -> dict[str, Any]:
        """The pair in one row: means over the active units of b, units without a partner counting as 0.

        A held-out score has no lower bound, so one unit may decide a mean where images are few: the median stands beside it.
        """
        active_b = self.active_b
        matched_b = active_b & (self.predictors_b > 0)

        def mean(value_b: NDArray[Any], over_b: NDArray[np.bool_] = active_b, middle: Any = np.mean) -> float | None:
            kept = value_b[over_b]
            return float(middle(kept)) if len(kept) and np.isfinite(kept).all() else None

        figures: dict[str, float | None] = {}
        if self.interval:
            figures = {"mean_r_low": self.interval[0], "mean_r_high": self.interval[1]}
        for name, chance in self.chance.items():
            figures |= {f"mean_r_{name}": chance.mean_r} if chance.mean_r is not None else {}
            figures |= {f"mean_best_r_{name}": float(chance.best_r.mean()) if len(chance.best_r) else None}
            figures |= {f"above_{name}": mean(self.best_r_b > chance.threshold)}
            figures |= {f"predictors_{name}": chance.predictors}
            figures |= {} if chance.explained is None else {f"r2_held_out_{name}": chance.explained}
        held_out = (
            {}
            if self.held_out_b is None
            else {
                "r2_held_out": mean(self.held_out_b),
                "r2_held_out_median": mean(self.held_out_b, middle=np.median),
                "optimism": mean(self.score_b - self.held_out_b),
            }
        )
        return {
            "layer": self.layer,
            "a": self.a,
            "b": self.b,
            "images": self.images,
            "samples": self.samples,
            "blocks": self.blocks,
            "units": len(active_b),
            "constant_a": self.constant_a,
            "constant_b": self.constant_b,
            "unmatched_b": int((active_b & ~matched_b).sum()),
            "unshared_a": self.unshared_a,
            "predictors": mean(self.predictors_b),
            "mean_r": mean(self.r_b, matched_b),
            "mean_best_r": mean(self.best_r_b),
            **({} if self.excess_b is None else {"excess": mean(self.excess_b)}),
            **figures,
            "agreement": mean(self.partner_b == self.best_b),
            "best_r_below_half": mean(self.best_r_b < 0.5),
            "r2_in_sample": mean(self.score_b),
            **held_out,
            **{f"solver_{name}": value for name, value in self.solver.items()},
        }

    def rows(self) -> list[dict[str, Any]]:
        """A row per unit of b, constant ones included."""
        columns = {
            "active": self.active_b.astype(int),
            "partner": self.partner_b,
            "predictors": self.predictors_b,
            "r": self.r_b.round(6),
            "best": self.best_b,
            "best_r": self.best_r_b.round(6),
            **({} if self.excess_b is None else {"excess": self.excess_b.round(6)}),
            "r2_in_sample": self.score_b.round(6),
        }
        if self.held_out_b is not None:
            columns["r2_held_out"] = self.held_out_b.round(6)
        head = {"layer": self.layer, "a": self.a, "b": self.b}
        return [
            {**head, "unit": unit, **{name: column[unit].item() for name, column in columns.items()}}
            for unit in range(len(self.active_b))
        ]


def mean_r_of(alignment: Alignment, pair: Pair) -> torch.Tensor:
    """The same for partners that are given, on any samples of the pair."""
    b = (pair.active_b & (alignment.partner_b >= 0)).nonzero()[:, 0]
    r_b = pair.corr_ab[alignment.partner_b[b], b]
    return r_b.mean() if len(r_b) else r_b.sum()


def compare(
    method: Method,
    pair: Pair,
    images: int,
    null_pairs: Mapping[str, Sequence[Pair]] | None = None,
    rotated_a: Sequence[Pair] = (),
    *,
    interval: bool = False,
) -> tuple[Alignment, Result]:
    """Align one pair in one direction, with held-out scores where its blocks of images allow them.

    Args:
        method: of alignment.
        pair: to be aligned; it says how many folds its held-out scores are made of.
        images: that were read.
        null_pairs: where chance alone is to be found, by the null's name, several draws of each.
        rotated_a: the pair with net a on randomly rotated axes: what a unit of b finds among units that mean nothing.
        interval: also find the interval of the mean correlation over images; the method is fitted once per block, but one
            that needs joint histograms, which are not kept block by block, keeps its partners, and one that chooses clusters
            or a penalty keeps these.
    """
    alignment = method(pair)
    again = method.near(alignment) if isinstance(method, Refitting) else method
    held_out_b = scores.held_out(again, pair) if pair.holds_out else None
    settled = method.settled(alignment) if isinstance(method, Settling) else method
    chance = {name: Chance.of(settled, draws) for name, draws in (null_pairs or {}).items()}
    excess_b = nulls.excess_over(pair, rotated_a) if rotated_a else None
    given = method.given(alignment) if isinstance(method, Choosing) else again
    statistic = partial(mean_r_of, alignment) if needs_histograms(method) else partial(mean_r, given)
    found = jackknife(statistic, pair) if interval and pair.blocks > 1 else None
    ends = None if found is None else (float(found.low), float(found.high))
    return alignment, Result.of(pair, alignment, held_out_b, images, ends, chance, excess_b)


def by_layer(summaries: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """For each layer the mean over all ordered pairs of nets, and the standard deviation between them, of every figure.

    A figure that some pairs have not, as that of a cluster's subspace where no cluster has one, is the mean of those which
    have it, if these are half or more; `NAME_pairs` says how many there are.
    """
    layers: dict[str, dict[str, Any]] = {}
    for layer in dict.fromkeys(summary["layer"] for summary in summaries):
        of_layer = [summary for summary in summaries if summary["layer"] == layer]
        figures: dict[str, Any] = {"pairs": len(of_layer), "images": of_layer[0]["images"]}
        names = dict.fromkeys(key for summary in of_layer for key in summary)
        for name in [key for key in names if key not in ("layer", "a", "b", "images")]:
            values = [summary[name] for summary in of_layer if summary.get(name) is not None]
            if 2 * len(values) >= len(of_layer):
                figures |= {name: float(np.mean(values)), f"{name}_sd": float(np.std(values))}
            if 0 < len(values) < len(of_layer):
                figures[f"{name}_pairs"] = len(values)
        for name in _OVER_NETS:
            figures |= _interval_over_nets(of_layer, name)
        layers[layer] = figures
    return layers


def _interval_over_nets(summaries: Sequence[dict[str, Any]], name: str) -> dict[str, float]:
    """Where the mean of a figure lies with 95 % for nets of other seeds; nothing for fewer than three nets."""
    nets = {net: number for number, net in enumerate(dict.fromkeys(summary["a"] for summary in summaries))}
    table = torch.full((len(nets), len(nets)), torch.nan)
    for summary in summaries:
        if summary.get(name) is not None:
            table[nets[summary["a"]], nets[summary["b"]]] = summary[name]
    off_diagonal = ~torch.eye(len(nets), dtype=torch.bool)
    if len(nets) < 3 or not torch.isfinite(table[off_diagonal]).all():
        return {}
    interval = over_nets(table, bounds=(-1, 1) if name == "mean_r" else (0, 1))
    if not torch.isfinite(interval.low):  # all pairs at a bound
        return {}
    return {f"{name}_nets_low": float(interval.low), f"{name}_nets_high": float(interval.high)}
