"""All methods on one yardstick: held-out variance explained, layer by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from convergent.figures.style import COLOURS, NULLS, panels, styled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKS = "osD^vP*X"
_BY_CHANCE = {null: f"{null}, in sample" for null in NULLS}


@styled
def comparison(summaries: Mapping[str, Sequence[dict[str, Any]]]) -> Figure:
    """Share of net b's variance that each method explains on held-out images, against the layer.

    Args:
        summaries: rows of `results.Result.summary` by the name of the result. Marks are means over all ordered pairs of
            nets, bars reach from the least to the greatest pair; lines are what the method finds by chance, in sample, so
            rather too high.
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
        _chance(axis, layers, rows, shift, 0.22 / len(summaries))
    axis.axhline(0, color="0.8", lw=0.6, zorder=0)
    axis.set_xticks(range(len(layers)), layers)
    axis.set_ylabel("variance explained, held out")
    axis.set_ylim(top=1.0)
    handles, labels = axis.get_legend_handles_labels()
    once = dict(zip(labels, handles))  # the nulls last
    ordered = {label: once[label] for label in sorted(once, key=lambda label: label in _BY_CHANCE.values())}
    figure.legend(ordered.values(), ordered.keys(), loc="outside lower center", ncols=2)
    return figure


def _chance(axis: Axes, layers: Sequence[str], rows: Sequence[dict[str, Any]], shift: float, half: float) -> None:
    """A line across each mark for each null that its result has."""
    for null, style in NULLS.items():
        key = f"explained_{null}"
        for x, layer in enumerate(layers):
            values = [row[key] for row in rows if row["layer"] == layer and key in row]
            if values:
                level = float(np.mean(values))
                axis.plot([x + shift - half, x + shift + half], [level, level], label=_BY_CHANCE[null], **style)
