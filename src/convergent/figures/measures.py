"""Measures of similarity, most of which ignore the units' axes, beside methods that respect them, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from convergent.figures.grid import error_marks, legend_below, name_layers, panels, points_over_pairs, styled
from convergent.figures.style import COLOURS, NULLS, in_order, look_of, null_handles, null_mark
from convergent.similarity.every import DISTANCES, IGNORES

Rows = Sequence[Mapping[str, Any]]
_Column = tuple[Rows, str, dict[str, Any]]  # what is drawn: of which rows, which scalar, how

# Those that a figure of all of them has, by what they are called in it; the others differ from one of these by a detail.
_WORDS = {
    "cka_debiased": "CKA (debiased)",
    "rv": "RV",
    "rsa_pearson": "RSA",
    "cca": "CCA",
    "svcca": "SVCCA",
    "pwcca": "PWCCA",
    "procrustes": "Procrustes",
    "overlap_95": "overlap, 95%",
    "ridge_ab": "ridge, a to b",
    "shape": "shape distance",
    "gulp": "GULP distance",
    "soft_matching": "soft matching",
}


def words_of() -> dict[str, tuple[bool, str]]:
    """The measures that figures have: whether each is a distance, and what it is called."""
    return {name: (name in DISTANCES, words) for name, words in _WORDS.items()}


@styled
def measures(summaries: Rows, method: str) -> Figure | None:
    """Left the measures that rotations of units leave as they are; right what respects the units' axes: RV, the method.

    Marks are means over the ordered pairs of nets, bars reach from the least to the greatest pair; hollow marks and dashes
    are what chance gives.
    """
    return beside_methods({method: summaries})


@styled
def beside_methods(results: Mapping[str, Rows]) -> Figure | None:
    """The same with several methods, by the name of the result; measures are those of the first that has any."""
    rows = next((rows for rows in results.values() if any(of_measures(rows))), [])
    free, bound = (
        [name for name in of_measures(rows) if ("rotation" in IGNORES[name]) == ignores] for ignores in (True, False)
    )
    if not free:
        return None
    layers = list(dict.fromkeys(row["layer"] for row in rows))
    figure, axes = panels(2, max(3.2, 0.9 * len(layers)), 2.8, sharey=True)
    looks = zip((*COLOURS, "0.35", "0.6"), "osD^vXPphd")
    left = [_column(rows, name, *look, _WORDS[name]) for name, look in zip(free, looks)]
    right = [_column(rows, name, *look, _WORDS[name]) for name, look in zip(bound, (("0.35", "*"), ("0.6", "d")))]
    for result in in_order(results):
        of, (words, colour, mark) = results[result], look_of(result)
        right += [_column(of, "mean_r", colour, mark, f"{words}, mean r", 0.5)] if len(results) == 1 else []
        right.append(_column(of, "r2_held_out", colour, mark, f"{words}, R² held out"))
    for axis, columns in zip(axes, (left, right)):
        for place, (of, key, style) in enumerate(columns):
            _marks(axis, [row for row in of if row["layer"] in layers], layers, (key, place, len(columns)), style)
        name_layers(axis, layers)
        axis.axhline(0, color="0.8", lw=0.6, zorder=0)
        for between in range(1, len(layers)):
            axis.axvline(between - 0.5, color="0.9", lw=0.6, zorder=0)
    axes[0].set_title("measures that ignore the axes")
    axes[1].set_title("what respects the axes")
    axes[0].set_ylim(top=1.02)
    axes[0].set_ylabel("similarity")
    drawn = [null for null in NULLS if any(f"{key}_{null}" in row for of, key, _ in (*left, *right) for row in of)]
    legend_below(figure, null_handles(drawn), columns=6)
    return figure


def of_measures(rows: Rows) -> list[str]:
    """The similarities that rows have, of those that figures have, distances not among them; weighted ones are neither."""
    there = {name for row in rows for name in row}
    return [name for name in _WORDS if name in there and name not in (*DISTANCES, "pwcca", "ridge_ab")]


def _column(rows: Rows, key: str, colour: str, mark: str, words: str, alpha: float = 1.0) -> _Column:
    return rows, key, {"color": colour, "marker": mark, "label": words, "alpha": alpha}


def _marks(axis: Axes, rows: Rows, layers: Sequence[str], at: tuple[str, int, int], style: dict[str, Any]) -> None:
    """A column's means over the pairs of nets in each layer, beside the others, with what it is in each null."""
    key, place, places = at
    shift, look = (
        (place - (places - 1) / 2) * 0.8 / places,
        look_of("")._replace(colour=style["color"], mark=style["marker"]),
    )
    by_x = {x + shift: [row for row in rows if row["layer"] == layer] for x, layer in enumerate(layers)}
    for null in NULLS:
        if points := points_over_pairs(by_x, f"{key}_{null}"):
            at_x, mean, *_ = zip(*points)
            axis.plot(at_x, mean, ls="", zorder=2, **null_mark(null, look))
    error_marks(axis, points_over_pairs(by_x, key), lw=0.8, ms=4, capsize=1.5, ls="", zorder=3, **style)
