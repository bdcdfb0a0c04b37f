"""All methods on one yardstick: variance explained on held-out images against the number of units used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import FuncFormatter, NullFormatter

from convergent.figures.style import COLOURS, NULLS, panels, styled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

    Rows = Sequence[Mapping[str, Any]]

_MARKS = "osD^vP*Xph<>"
_CEILING = "least_squares"


@styled
def methods(results: Mapping[str, Sequence[Rows]]) -> Figure:
    """Share of net b's variance that each method explains, against the units of net a that it uses for each unit of b.

    Marks are means over all ordered pairs of nets, bars reach from the least to the greatest pair; results of one method
    that differ in its settings, such as a penalty, are joined by a line. The ceiling is least squares from all units; the
    floors are what the same methods explain where one net is rotated, or reads other images.

    Args:
        results: by the method's name the rows of `results.Result.summary` of each of its results.
    """
    every = [row for settings in results.values() for rows in settings for row in rows]
    layers = list(dict.fromkeys(row["layer"] for row in every))
    columns = min(4, len(layers))
    rows = -(-len(layers) // columns)
    figure, axes = panels(rows, columns, max(1.95, 3.6 / columns), 2.4, sharey=True)
    for axis, layer in zip(axes, layers):
        used = []
        for place, (name, settings) in enumerate(results.items()):
            points = sorted(filter(None, (_point(of_setting, layer) for of_setting in settings)))
            if not points:
                continue
            at, mean, low, high = (np.array(column) for column in zip(*points))
            used += [at.min(), at.max()]
            label = name.replace("_", " ") + (" (ceiling)" if name == _CEILING else "")
            axis.errorbar(
                at, mean, (mean - low, high - mean), marker=_MARKS[place % len(_MARKS)], ms=4, lw=1,
                color=COLOURS[place % len(COLOURS)], label=label, zorder=3,
            )  # fmt: skip
            if name == _CEILING:
                axis.axhline(mean.max(), color=COLOURS[place % len(COLOURS)], lw=0.8, alpha=0.6, zorder=0)
        for null, style in NULLS.items():
            floor = [_point(of_setting, layer, f"_{null}") for settings in results.values() for of_setting in settings]
            if points := sorted(filter(None, floor)):
                axis.plot(*np.array(points)[:, :2].T, label=f"all methods, {null} (floor)", zorder=1, **style)
        axis.axhline(0, color="0.8", lw=0.6, zorder=0)
        axis.set_title(layer)
        axis.set_xscale("log")
        axis.set_xlim(min(used, default=1) / 1.5, max(used, default=1) * 1.5)
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_xlabel("units used")
    for axis in axes[len(layers) :]:
        axis.set_visible(False)
    figure.supylabel("variance explained, held out", fontsize=8)
    axes[0].set_ylim(top=1.02)
    labelled = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels())}
    labelled = dict(sorted(labelled.items(), key=lambda entry: entry[0].endswith("(floor)")))  # the methods first
    figure.legend(labelled.values(), labelled.keys(), loc="outside lower center", ncols=max(2, min(4, columns)))
    return figure


def _point(rows: Rows, layer: str, null: str = "") -> tuple[float, float, float, float] | None:
    """Units used and variance explained, its mean, least and greatest over pairs of nets; None where a number is missing."""
    of_layer = [row for row in rows if row["layer"] == layer]
    given = [(row.get(f"units_used{null}"), row.get(f"explained_held_out{null}")) for row in of_layer]
    known = [(float(used), float(explained)) for used, explained in given if used is not None and explained is not None]
    if not known or len(known) < len(given):
        return None
    used, explained = np.array(known).T
    if not used.mean() > 0:  # no place on a logarithmic scale
        return None
    return float(used.mean()), float(explained.mean()), float(explained.min()), float(explained.max())
