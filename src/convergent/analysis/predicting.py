"""Which measure of similarity, or method, predicts what is left of a net's function: rank correlations with intervals.

Axes: `r` rows of a frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.stats import rankdata

from convergent.analysis.intervals import Interval
from convergent.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray


def rank_correlations(
    frame: pd.DataFrame, columns: Sequence[str], target: str = "kept", level: float = 0.95
) -> pd.DataFrame:
    """Spearman's correlation of each column with a target, over layers and pairs of nets; the strongest first.

    Intervals leave out one net at a time, with all of its pairs, for pairs that share a net depend on each other; they are
    Student's on Fisher's z. Rows that lack the target or the column are left out, of that column only.

    Args:
        frame: a row per layer and ordered pair of nets, with the columns `a` and `b` (names of nets) and the target; `kept`
            is of stitching. Columns are measures of similarity or, from several results, the methods' R2.
        columns: which are to predict it.
        target: the column that is predicted.
        level: probability of covering.

    Returns:
        A row per column: `column`, `correlation` (of distances negative), `low`, `high` (NaN with fewer than three nets, or
        without some net nothing varies), `rows`, `nets`.

    Raises:
        InputError: if the frame lacks a, b, the target or a column, or a column has fewer than three rows.

    Source: Spearman 1904; leaving out nets: Arvesen 1969, see `intervals.over_nets`.
    """
    import pandas as pd

    if missing := [name for name in ("a", "b", target, *columns) if name not in frame]:
        raise InputError(f"Rank correlations need the columns a, b, {target} and those named; {missing[0]} is missing.")
    table = []
    for column in columns:
        rows = frame[["a", "b", column, target]].dropna()
        if len(rows) < 3:
            raise InputError(f"A rank correlation needs 3 rows at least with {column} and {target}, not {len(rows)}.")
        value_r, target_r = rows[column].to_numpy(float), rows[target].to_numpy(float)
        nets = sorted({*rows["a"], *rows["b"]})
        without = [~((rows["a"] == net) | (rows["b"] == net)).to_numpy() for net in nets]
        z = torch.tensor([_fisher(value_r, target_r), *(_fisher(value_r[of], target_r[of]) for of in without)])
        k, (low, high) = len(nets), (np.nan, np.nan)
        if k > 2 and bool(z.isfinite().all()):
            error = ((z[1:] - z[1:].mean()).square().sum() * (k - 1) / k).sqrt()
            interval = Interval.of_t(z[0], error, k - 1, level)
            low, high = (float(end.tanh()) for end in (interval.low, interval.high))
        table.append((column, float(z[0].tanh()), low, high, len(rows), k))
    made = pd.DataFrame(table, columns=["column", "correlation", "low", "high", "rows", "nets"])
    return made.sort_values("correlation", key=lambda of: -of.abs(), ignore_index=True)


def _fisher(value_r: NDArray[np.float64], target_r: NDArray[np.float64]) -> float:
    """Fisher's z of the rank correlation; NaN where one of both does not vary."""
    if len(value_r) < 3 or np.ptp(value_r) == 0 or np.ptp(target_r) == 0:
        return float("nan")
    rho = np.corrcoef(rankdata(value_r), rankdata(target_r))[0, 1]
    return float(np.arctanh(np.clip(rho, -1 + 1e-12, 1 - 1e-12)))
