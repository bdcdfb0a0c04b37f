"""One method's result for one pair of nets in one layer: the record that CSV, page, W&B and data frames take.

Axes: `a` units of net a, `b` units of net b.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from convergent.analysis import nulls
from convergent.analysis.chance import Chance
from convergent.analysis.columns import pair_columns, unit_columns
from convergent.analysis.left_out import LeftOut
from convergent.analysis.over_images import over_images
from convergent.analysis.pair_values import PairValues
from convergent.analysis.reports import by_chance
from convergent.core.alignment import align
from convergent.methods.semimatching import best_units

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from convergent.core.alignment import Alignment, Method
    from convergent.core.pairs import Pair


@dataclass(frozen=True, eq=False)
class Result:
    """The units of net b, each predicted from net a's; arrays have shape (q,). `columns` says what is what.

    Attributes:
        unshared_a: how many active units of a are nobody's partner.
        active_b: which units of b vary and were to be predicted; the others count nowhere.
        best_b: the unit of a with the highest correlation: the semi-matching's partner, as reference; -1 for none.
        held_out_b: shares of variance explained on held-out images; None where none are held out.
        excess_b: best_r_b less its mean with net a on randomly rotated axes; None where no rotation was asked for.
        excess_after_b: the same with rotations after the nonlinearity, where these were asked for.
        kl_ablated_b: KL from net b's own output with the unit alone replaced by its mean, NaN for units that were not; None
            where function was not judged unit by unit, see `function.substitution`.
        kl_substituted_b: the same with the unit replaced by its prediction.
        interval: where the mean correlation with the partner lies, with 95% over images; None if not asked for.
        left_out: highest correlations and their chance with some images left out, likewise.
        chance: what the method gives in each null, by name.
        solver: what the solver says of itself.
        similarity: measures of the pair, by name.
        method: what it is called.
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
    held_out_b: NDArray[np.float64] | None = None
    excess_b: NDArray[np.float64] | None = None
    excess_after_b: NDArray[np.float64] | None = None
    kl_ablated_b: NDArray[np.float64] | None = None
    kl_substituted_b: NDArray[np.float64] | None = None
    interval: tuple[float, float] | None = None
    left_out: LeftOut | None = None
    chance: Mapping[str, Chance] = field(default_factory=dict)
    solver: Mapping[str, float] = field(default_factory=dict)
    similarity: Mapping[str, float] = field(default_factory=dict)
    method: str = ""

    @classmethod
    def of(cls, alignment: Alignment, images: int, **more: Any) -> Result:
        """The result of one alignment; `more` are the attributes that do not follow from it."""
        pair, held_out_b = alignment.pair, alignment.held_out_b
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
            active_b=alignment.counted_b.numpy(),
            partner_b=alignment.partner_b.numpy(),
            predictors_b=alignment.predictors_b.numpy(),
            r_b=alignment.r_b.numpy(),
            best_b=best_units(pair).numpy(),
            best_r_b=nulls.best(pair).numpy(),
            score_b=alignment.score_b.numpy(),
            held_out_b=None if held_out_b is None else held_out_b.numpy(),
            solver=dict(alignment.solver),
            **more,
        )

    def __repr__(self) -> str:
        r = self.mean(self.r_b, self.matched_b)
        by, layer = (f" by {self.method}" if self.method else "", f"{self.layer}: " if self.layer else "")
        return f"Result({layer}{self.a} to {self.b}{by}, mean r {'-' if r is None else format(r, '.3f')})"

    def _repr_html_(self) -> str:
        return str(self.frame().round(3).to_html(index=False, max_rows=10))

    @property
    def matched_b(self) -> NDArray[np.bool_]:
        """Which of the units that count have a predictor."""
        return self.active_b & (self.predictors_b > 0)

    @property
    def optimism_b(self) -> NDArray[np.float64] | None:
        """By how much more variance is explained on the images of the fit than on held-out ones."""
        return None if self.held_out_b is None else self.score_b - self.held_out_b

    def mean(
        self, value_b: NDArray[Any] | None, over_b: NDArray[np.bool_] | None = None, middle: Any = np.mean
    ) -> float | None:
        """The mean, or another middle, over the units that count; None where there is none, or no value."""
        if value_b is None:
            return None
        counted = value_b[self.active_b if over_b is None else over_b]
        return float(middle(counted)) if len(counted) and np.isfinite(counted).all() else None

    def summary(self) -> dict[str, Any]:
        """The pair in one row, `columns.PAIR`: means over the active units of b, units without a partner counting as 0."""
        return {"layer": self.layer, "a": self.a, "b": self.b, **pair_columns(self)}

    def rows(self) -> list[dict[str, Any]]:
        """A row per unit of b, `columns.UNIT`, constant ones included."""
        head, columns = {"layer": self.layer, "a": self.a, "b": self.b}, unit_columns(self)
        return [
            head | {name: column[unit].item() for name, column in columns.items()} for unit in range(len(self.active_b))
        ]

    def frame(self) -> pd.DataFrame:
        """The same rows as a data frame of pandas."""
        import pandas as pd

        method = {"method": self.method} if self.method else {}
        return pd.DataFrame({"layer": self.layer, "a": self.a, "b": self.b, **method, **unit_columns(self)})


def compare(
    method: Method,
    pair: Pair,
    images: int,
    null_pairs: Mapping[str, Sequence[Pair]] | None = None,
    rotated_a: Sequence[Pair] = (),
    similarity: Mapping[str, float] | None = None,
    *,
    interval: bool = False,
) -> tuple[Alignment, Result]:
    """Align one pair in one direction, with held-out scores where its blocks of images allow them.

    Args:
        method: of alignment.
        pair: to be aligned.
        images: that were read.
        null_pairs: where there is chance alone, by the null's name, several draws of each.
        rotated_a: the pair with net a on randomly rotated axes: what a unit of b has among units that mean nothing.
        similarity: measures of the pair, by name, see `analysis.measures`.
        interval: also estimate the interval of the mean correlation over images; the method is fitted once per block, but
            one that needs joint histograms, which are not counted block by block, and one of a sparse record, which is
            wide, keep their partners, and one that chooses clusters or a penalty keeps these.
    """
    alignment = align(method, pair)
    ends = over_images([alignment])[0] if interval else None
    chance = by_chance(alignment, null_pairs or {})[0]
    values = PairValues.of(pair, null_pairs or {}, rotated_a, similarity, intervals=interval)
    return alignment, evaluated(alignment, images, values, chance, ends)


def evaluated(
    alignment: Alignment,
    images: int,
    values: PairValues,
    chance: Mapping[str, Chance],
    interval: tuple[float, float] | None = None,
) -> Result:
    """The result of an alignment, see `compare`; with what `by_chance` and the interval of `over_images` give."""
    excess_b, after_b = (x_b if x_b is None else x_b.numpy() for x_b in (values.excess_b, values.excess_after_b))
    return Result.of(
        alignment,
        images,
        interval=interval,
        left_out=values.left_out,
        chance=chance,
        excess_b=excess_b,
        excess_after_b=after_b,
        similarity=values.similarity,
    )
