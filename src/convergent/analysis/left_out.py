"""What highest correlations and their chance are with some images left out at a time, for intervals over images.

Axes: `b` units of net b, `k` parts of the images, `d` draws of a null.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from convergent.analysis import nulls
from convergent.analysis.intervals import Interval, freedom, left_out_interval
from convergent.core.pairs import Pair

_TILE = 128  # units of net a whose correlations are looked at together
_WIDEST = 2048  # units of a net: what is left out is multiplied anew each time


@dataclass(frozen=True, eq=False)
class LeftOut:
    """One pair of nets with each part of the images left out.

    Attributes:
        share_k: of the samples that the part has.
        excess: mean of the highest correlations of b's units less those with net a rotated, over images and rotations; None
            without a rotation of a.
        above_kb: whether each unit's highest correlation is above what 19 of 20 rotated units of b have.
    """

    share_k: Tensor
    excess: Interval | None
    above_kb: Tensor

    @classmethod
    def of(cls, pair: Pair, null_pairs: Mapping[str, Sequence[Pair]], rotated_a: Sequence[Pair]) -> LeftOut | None:
        """Of the draws that have blocks of images, which are the parts; None where there are none, or in wide layers.

        The excess is over all draws, whose mean is as uncertain as they differ.
        """
        draws = next((every for null, every in null_pairs.items() if null.startswith("rotated")), ())
        drawn_b, drawn_a = ([draw for draw in of if draw.blocks > 1] for of in (draws, rotated_a))
        if not drawn_b or max(pair.p, pair.q) > _WIDEST or (parts := drawn_b[0].blocks) > pair.blocks:
            return None
        best_kb = _without(pair, parts)
        chance_dkb = [_without(draw, parts) for draw in drawn_b]
        chance_k = [
            torch.cat([of_kb[k][draw.active_b] for draw, of_kb in zip(drawn_b, chance_dkb)]) for k in range(parts)
        ]
        threshold_k = [nulls.threshold(chance) if len(chance) > 18 else torch.inf for chance in chance_k]
        share_k = drawn_b[0].moments.count / drawn_b[0].moments.count.sum()
        excess, active_b, best_b = None, pair.active_b, nulls.best(pair)
        if drawn_a:
            rotated_b = torch.stack([nulls.best(draw) for draw in drawn_a]).mean(0)
            without_kb = best_kb - torch.stack([_without(draw, parts) for draw in drawn_a]).mean(0)
            over_images = left_out_interval(
                (best_b - rotated_b)[active_b].mean(), without_kb[:, active_b].mean(1), share_k
            )
            excess_d = torch.stack([(best_b - nulls.best(draw))[active_b].mean() for draw in rotated_a])
            excess = over_images.over_draws(excess_d, freedom(share_k))
        return cls(share_k, excess, active_b & (best_kb > torch.tensor(threshold_k)[:, None]))

    def as_json(self) -> dict[str, Any]:
        """The same as what JSON has."""
        above, of = ["".join("01"[is_above] for is_above in above_b) for above_b in self.above_kb.tolist()], self.excess
        excess = None if of is None else [float(x) for x in (of.estimate, of.se, of.low, of.high, of.level)]
        return {"share": self.share_k.tolist(), "excess": excess, "above": above}

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> LeftOut:
        """From what `as_json` made."""
        share_k, excess = torch.tensor(values["share"], dtype=torch.float64), None
        if values["excess"] is not None:
            estimate, se, low, high, level = torch.tensor(values["excess"], dtype=torch.float64)
            excess = Interval(estimate, se, low, high, level.item())
        return cls(share_k, excess, torch.tensor([[is_above == "1" for is_above in of] for of in values["above"]]))


def _without(pair: Pair, parts: int) -> Tensor:
    """Highest correlations of b's units without each part, shape (parts, b): `nulls.best` of the pairs so weighted."""
    weight_pk, best_pb = _weights(pair.blocks, parts), torch.full((parts, pair.q), -torch.inf, dtype=torch.float64)
    for first in range(pair.a.start, pair.a.stop, _TILE):
        rows = slice(first, min(first + _TILE, pair.a.stop))
        corr_pab, active_pa, active_pb = pair.moments.weighted_corr(weight_pk, rows, pair.b)
        best_pb = torch.maximum(best_pb, corr_pab.masked_fill_(~active_pa[..., None], -torch.inf).amax(1))
    return best_pb.where(active_pb & best_pb.isfinite(), 0.0)


def _weights(blocks: int, parts: int) -> Tensor:
    """How much of each block is left without each part, shape (parts, blocks): both cut one order of all images.

    >>> _weights(4, 2).tolist(), _weights(3, 2)[0].tolist()
    ([[0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 0.0, 0.0]], [0.0, 0.5, 1.0])
    """
    begin_b, begin_p = (torch.arange(n, dtype=torch.float64)[:, None] / n for n in (blocks, parts))
    end = torch.minimum(begin_b.T + 1 / blocks, begin_p + 1 / parts)
    share = (end - torch.maximum(begin_b.T, begin_p)).clamp(min=0) * blocks
    return (1 - share).clamp(0, 1).where(share > 1e-9, 1.0).where(share < 1 - 1e-9, 0.0)
