"""What a pair of nets gives whatever the method: measures of similarity, highest correlations beside chance.

Axes: `b` units of net b.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from convergent.analysis import nulls
from convergent.analysis.left_out import LeftOut
from convergent.core.pairs import Pair


@dataclass(frozen=True, eq=False)
class PairValues:
    """Those of one direction.

    Attributes:
        similarity: measures of the pair, by name, see `analysis.measures`.
        excess_b: highest correlations less their mean with net a on randomly rotated axes; None without a rotation.
        excess_after_b: the same with rotations after the nonlinearity, where these were asked for.
        left_out: highest correlations and their chance with some images left out; None where no interval was asked for.
    """

    similarity: Mapping[str, float] = field(default_factory=dict)
    excess_b: Tensor | None = None
    excess_after_b: Tensor | None = None
    left_out: LeftOut | None = None

    @classmethod
    def of(
        cls,
        pair: Pair,
        null_pairs: Mapping[str, Sequence[Pair]],
        rotated_a: Sequence[Pair] = (),
        similarity: Mapping[str, float] | None = None,
        *,
        intervals: bool = False,
    ) -> PairValues:
        """Those of a pair, with the draws of its nulls as `results.compare` takes them."""
        return cls(
            dict(similarity or {}),
            nulls.excess_over(pair, rotated_a) if rotated_a else None,
            nulls.excess(pair) if "rotated_after" in null_pairs else None,
            LeftOut.of(pair, null_pairs, rotated_a) if intervals else None,
        )

    def as_json(self) -> dict[str, Any]:
        """The same as what JSON has."""
        excess_b, after_b = (None if x_b is None else x_b.tolist() for x_b in (self.excess_b, self.excess_after_b))
        left_out = self.left_out and self.left_out.as_json()
        return {"similarity": dict(self.similarity), "excess": excess_b, "excess_after": after_b, "left_out": left_out}

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> PairValues:
        """From what `as_json` made."""
        excess_b, after_b = (
            None if values[name] is None else torch.tensor(values[name], dtype=torch.float64)
            for name in ("excess", "excess_after")
        )
        left_out = None if values["left_out"] is None else LeftOut.of_json(values["left_out"])
        return cls(values["similarity"], excess_b, after_b, left_out)
