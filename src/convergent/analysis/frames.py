"""Results as tidy data frames of pandas, with the columns of `analysis.columns`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from convergent.analysis.results import Result

# What a row is of, then what is asked for most; a notebook shows no more.
_FIRST = ("experiment", "layer", "a", "b", "method", "mean_r", "mean_r_low", "mean_r_high", "r2_held_out",
          "mean_r_rotated", "r2_held_out_rotated", "predictors")  # fmt: skip


def frame_of(of: Sequence[Result], *, units: bool) -> pd.DataFrame:
    """A row per result, or per unit of each."""
    if units:
        return pd.concat([result.frame() for result in of], ignore_index=True)
    return tidy(pd.DataFrame([{**result.summary(), "method": result.method} for result in of]))


def tidy(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame with the columns first that say what a row is of, then those that are asked for most."""
    first = [name for name in _FIRST if name in frame]
    return frame[[*first, *(name for name in frame if name not in first)]]


def shown(frame: pd.DataFrame) -> str:
    """A frame's most important columns as a small HTML table."""
    html: str = frame[[name for name in _FIRST if name in frame]].round(3).to_html(index=False, max_rows=20, na_rep="-")
    return html
