"""All methods on one yardstick: held-out variance explained, layer by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from convergent.figures.style import COLOURS, panels, styled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

_MARKS = "osD^vP*X"


@styled
def comparison(summaries: Mapping[str, Sequence[dict[str, Any]]]) -> Figure:
    """Share of net b's variance that each method explains on held-out images, against the layer.

    Args:
        summaries: rows of `results.Result.summary` by the name of the result. Marks are means over all ordered pairs of
            nets, bars reach from the least to the greatest pair.
    """
    figure, (axis,) = panels(1, 1, 4.2, 2.6)
    layers = list(dict.fromkeys(summary["layer"] for rows in summaries.values() for summary in rows))
    for place, (name, rows) in enumerate(summaries.items()):
        shift = (place - (len(summaries) - 1) / 2) * 0.5 / len(summaries)
        points = []
        for x, layer in enumerate(layers):
            values = [row["explained_held_out"] for row in rows if row["layer"] == layer]
            values = [value for value in values if value is not None]
            if values:
                points.append((x + shift, float(np.mean(values)), min(values), max(values)))
        if not points:
            continue
        at, mean, low, high = (np.array(column) for column in zip(*points))
        colour = COLOURS[place % len(COLOURS)]
        axis.errorbar(
            at, mean, (mean - low, high - mean), marker=_MARKS[place % len(_MARKS)], ms=4, lw=1, capsize=2,
            color=colour, label=name,
        )  # fmt: skip
    axis.axhline(0, color="0.8", lw=0.6, zorder=0)
    axis.set_xticks(range(len(layers)), layers)
    axis.set_ylabel("variance explained, held out")
    axis.set_ylim(top=1.0)
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)
    return figure
