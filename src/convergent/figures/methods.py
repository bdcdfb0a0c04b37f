"""All methods on one yardstick: variance explained on held-out images against the number of predictors per unit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from convergent.figures.style import (
    NULLS,
    brief,
    in_order,
    legend_below,
    log_ticks,
    look_of,
    null_handles,
    null_mark,
    once,
    panel_each,
    styled,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from convergent.figures.style import Look

    Rows = Sequence[Mapping[str, Any]]

_ALL_UNITS = "least_squares"


@styled
def methods(results: Mapping[str, Sequence[Rows]]) -> Figure:
    """Share of net b's variance that each method explains, against the units of net a that it uses for each unit of b.

    Marks are means over all ordered pairs of nets, bars reach from the least to the greatest pair; results of one method
    that differ in its settings, such as a penalty, are joined by a line. Below each mark is what the same method explains by
    chance: hollow where net a is randomly rotated, a dash where it reads other images.

    Args:
        results: by the method's name the rows of `results.Result.summary` of each of its results.
    """
    every = [row for settings in results.values() for rows in settings for row in rows]
    layers = list(dict.fromkeys(row["layer"] for row in every))
    figure, axes = panel_each(len(layers), 1.95, 2.2, "variance explained, held out", 6.0, sharey=True)
    shown: dict[str, None] = {}  # nulls that there are
    for axis, layer in zip(axes, layers):
        used = []
        for name in in_order(results):
            settings = results[name]
            look = look_of(name)
            for null in NULLS:
                if floor := _points(settings, layer, f"_{null}"):
                    shown[null] = None
                    _draw_null(axis, floor, null, look)
                    used += [point[0] for point in floor]
            if not (points := _points(settings, layer)):
                continue
            at, mean, low, high = (np.array(column) for column in zip(*points))
            used += [at.min(), at.max()]
            axis.errorbar(
                at, mean, (mean - low, high - mean), marker=look.mark, ms=4.5, lw=1, color=look.colour, label=look.words,
                zorder=3,
            )  # fmt: skip
            if name == _ALL_UNITS:
                axis.axhline(mean.max(), color=look.colour, lw=0.6, alpha=0.5, zorder=0)
        axis.axhline(0, color="0.8", lw=0.6, zorder=0)
        axis.set_title(brief(layer, 24))
        axis.set_xscale("log")
        # what needs less than a unit is there by chance, and would take half of the scale
        axis.set_xlim(max(0.7, min(used, default=1) / 1.5), max([*used, 1]) * 1.5)
        log_ticks(axis.xaxis)
        axis.set_xlabel("predictors per unit for a unit")
    axes[0].set_ylim(top=1.02)
    legend_below(figure, [*once(axes), *null_handles(list(shown))], 4)
    return figure


def _points(settings: Sequence[Rows], layer: str, null: str = "") -> list[tuple[float, float, float, float]]:
    """Where each setting of a method is drawn in a layer, that of the fewest units first."""
    return sorted(filter(None, (_point(of_setting, layer, null) for of_setting in settings)))


def _draw_null(axis: Axes, points: Sequence[tuple[float, ...]], null: str, look: Look) -> None:
    """What chance gives one method, its settings joined as those of the method are."""
    at, mean, *_ = (np.array(column) for column in zip(*points))
    axis.plot(at, mean, ls=NULLS[null]["ls"], lw=0.7, zorder=2, **null_mark(null, look))


def _point(rows: Rows, layer: str, null: str = "") -> tuple[float, float, float, float] | None:
    """Predictors per unit and variance explained, with least and greatest over pairs; None where a number is missing."""
    of_layer = [row for row in rows if row["layer"] == layer]
    given = [(row.get(f"predictors{null}"), row.get(f"r2_held_out{null}")) for row in of_layer]
    known = [(float(used), float(explained)) for used, explained in given if used is not None and explained is not None]
    if not known or len(known) < len(given):
        return None
    used, explained = np.array(known).T
    if not used.mean() > 0:  # no place on a logarithmic scale
        return None
    return float(used.mean()), float(explained.mean()), float(explained.min()), float(explained.max())
