"""What one method says of one pair of nets in one layer, as figures: per unit, and summed up.

Axes: `a` units of net a, `b` units of net b.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from convergent import scores
from convergent.methods.semimatching import best_units

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from convergent.alignment import Alignment
    from convergent.pairs import Pair


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
        dead_a: how many units of a are constant.
        unshared_a: how many living units of a are nobody's partner.
        alive_b: which units of b vary at all; the others count nowhere.
        partner_b: the main unit of a, -1 for none.
        units_used_b: how many units of a account for each unit of b.
        r_b: correlation with what accounts for it, see `alignment.Alignment.r_b`.
        best_b: the unit of a with the highest correlation: the semi-matching's partner, as reference; -1 for none.
        best_r_b: that correlation.
        score_b: share of variance explained on the fitted images.
        held_out_b: the same on held-out images; NaN where there are too few blocks.
        solver: what the solver says of itself.
    """

    layer: str
    a: str
    b: str
    images: int
    samples: int
    blocks: int
    dead_a: int
    unshared_a: int
    alive_b: NDArray[np.bool_]
    partner_b: NDArray[np.int64]
    units_used_b: NDArray[np.int64]
    best_b: NDArray[np.int64]
    r_b: NDArray[np.float64]
    best_r_b: NDArray[np.float64]
    score_b: NDArray[np.float64]
    held_out_b: NDArray[np.float64]
    solver: dict[str, float]

    @classmethod
    def of(cls, pair: Pair, alignment: Alignment, held_out_b: torch.Tensor | None, images: int) -> Result:
        """The figures of one alignment."""
        best_b = best_units(pair)
        best_r_b = pair.corr_ab.gather(0, best_b.clamp(min=0)[None])[0].where(best_b >= 0, 0.0)
        nan_b = torch.full((pair.q,), torch.nan)
        return cls(
            layer=pair.layer,
            a=pair.name_a,
            b=pair.name_b,
            images=images,
            samples=pair.count,
            blocks=pair.blocks,
            dead_a=int((~pair.alive_a).sum()),
            unshared_a=int((pair.alive_a & (alignment.sharing_a == 0)).sum()),
            alive_b=pair.alive_b.numpy(),
            partner_b=alignment.partner_b.numpy(),
            units_used_b=alignment.units_used_b.numpy(),
            r_b=alignment.r_b.numpy(),
            best_b=best_b.numpy(),
            best_r_b=best_r_b.numpy(),
            score_b=alignment.score_b.numpy(),
            held_out_b=(nan_b if held_out_b is None else held_out_b).numpy(),
            solver=dict(alignment.solver),
        )

    def summary(self) -> dict[str, Any]:
        """The pair in one row: means over the living units of b, units without a partner counting as 0.

        For the mean, a unit's held-out score counts as -1 at the least: a few units that fire in a handful of images,
        predicted a hundred times worse than by their mean, would drown all others.
        """
        alive_b = self.alive_b
        matched_b = alive_b & (self.units_used_b > 0)

        def mean(value_b: NDArray[Any], over_b: NDArray[np.bool_] = alive_b) -> float | None:
            kept = value_b[over_b]
            return float(kept.mean()) if len(kept) and np.isfinite(kept).all() else None

        return {
            "layer": self.layer,
            "a": self.a,
            "b": self.b,
            "images": self.images,
            "samples": self.samples,
            "blocks": self.blocks,
            "units": len(alive_b),
            "dead_a": self.dead_a,
            "dead_b": int((~alive_b).sum()),
            "unmatched_b": int((alive_b & ~matched_b).sum()),
            "unshared_a": self.unshared_a,
            "units_used": mean(self.units_used_b),
            "mean_r": mean(self.r_b, matched_b),
            "mean_best_r": mean(self.best_r_b),
            "agreement": mean(self.partner_b == self.best_b),
            "best_r_below_half": mean(self.best_r_b < 0.5),
            "explained_in_sample": mean(self.score_b),
            "explained_held_out": mean(self.held_out_b.clip(min=-1)),
            "optimism": mean(self.score_b - self.held_out_b.clip(min=-1)),
            **{f"solver_{name}": value for name, value in self.solver.items()},
        }

    def rows(self) -> list[dict[str, Any]]:
        """A row per unit of b, dead ones included."""
        columns = {
            "alive": self.alive_b.astype(int),
            "partner": self.partner_b,
            "units_used": self.units_used_b,
            "r": self.r_b.round(6),
            "best": self.best_b,
            "best_r": self.best_r_b.round(6),
            "explained_in_sample": self.score_b.round(6),
            "explained_held_out": self.held_out_b.round(6),
        }
        head = {"layer": self.layer, "a": self.a, "b": self.b}
        return [
            {**head, "unit": unit, **{name: column[unit].item() for name, column in columns.items()}}
            for unit in range(len(self.alive_b))
        ]


def compare(method: Any, pair: Pair, images: int, folds: int) -> tuple[Alignment, Result]:
    """Align one pair in one direction, with held-out scores where its blocks of images allow them."""
    alignment = method(pair)
    held_out_b = scores.held_out(method, pair, folds) if min(folds, pair.blocks) > 1 else None
    return alignment, Result.of(pair, alignment, held_out_b, images)


def by_layer(summaries: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """For each layer the mean over all ordered pairs of nets, and the standard deviation between them, of every figure."""
    layers: dict[str, dict[str, Any]] = {}
    for layer in dict.fromkeys(summary["layer"] for summary in summaries):
        of_layer = [summary for summary in summaries if summary["layer"] == layer]
        figures: dict[str, Any] = {"pairs": len(of_layer), "images": of_layer[0]["images"]}
        for name, first in of_layer[0].items():
            values = [summary[name] for summary in of_layer]
            if name not in ("layer", "a", "b", "images") and first is not None and None not in values:
                figures[name] = float(np.mean(values))
                figures[f"{name}_sd"] = float(np.std(values))
        layers[layer] = figures
    return layers
