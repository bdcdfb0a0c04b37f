"""All methods on one yardstick: held-out variance explained, layer by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from convergent.figures.style import (
    NULLS,
    brief,
    in_order,
    legend_below,
    look_of,
    null_handles,
    null_mark,
    once,
    panels,
    styled,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure


@styled
def comparison(summaries: Mapping[str, Sequence[dict[str, Any]]]) -> Figure:
    """Share of net b's variance that each method explains on held-out images, against the layer.

    Args:
        summaries: rows of `results.Result.summary` by the name of the result. Marks are means over all ordered pairs of
            nets, bars reach from the least to the greatest pair; hollow marks and dashes are what chance gives the method.
    """
    figure, (axis,) = panels(1, 1, 6.0, 2.6)
    layers = list(dict.fromkeys(summary["layer"] for rows in summaries.values() for summary in rows))
    shown: dict[str, None] = {}  # nulls that there are
    for place, name in enumerate(in_order(summaries)):
        rows = summaries[name]
        look = look_of(name)
        shift = (place - (len(summaries) - 1) / 2) * 0.8 / len(summaries)
        for null in NULLS:
            if points := _points(layers, rows, f"r2_held_out_{null}"):
                shown[null] = None
                at, mean, *_ = (np.array(column) for column in zip(*points))
                axis.plot(at + shift, mean, ls="", zorder=2, **null_mark(null, look))
        if points := _points(layers, rows, "r2_held_out"):
            at, mean, low, high = (np.array(column) for column in zip(*points))
            axis.errorbar(
                at + shift, mean, (mean - low, high - mean), marker=look.mark, ms=4.5, lw=0.8, capsize=2, ls="",
                color=look.colour, label=look.words, zorder=3,
            )  # fmt: skip
    for between in range(1, len(layers)):
        axis.axvline(between - 0.5, color="0.9", lw=0.6, zorder=0)
    axis.axhline(0, color="0.8", lw=0.6, zorder=0)
    axis.set_xticks(range(len(layers)), [brief(layer, 24) for layer in layers])
    axis.set_xlim(-0.5, len(layers) - 0.5)
    axis.set_ylabel("variance explained, held out")
    axis.set_ylim(top=1.0)
    images = sorted({row["images"] for rows in summaries.values() for row in rows if "images" in row})
    axis.set_title(f"{' or '.join(f'{number:,}' for number in images)} images" if images else "")
    legend_below(figure, [*once([axis]), *null_handles(list(shown))], 4)
    return figure


def _points(layers: Sequence[str], rows: Sequence[dict[str, Any]], key: str) -> list[tuple[float, float, float, float]]:
    """The layer's place, and a figure's mean, least and greatest over pairs of nets, where it is known."""
    points = []
    for x, layer in enumerate(layers):
        values = [row[key] for row in rows if row["layer"] == layer and row.get(key) is not None]
        if values:
            points.append((float(x), float(np.mean(values)), min(values), max(values)))
    return points
