"""All methods on one yardstick: variance explained on held-out images against the number of predictors per unit."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from convergent.figures.grid import error_marks, legend_below, log_ticks, over_pairs, panels, styled
from convergent.figures.style import NULLS, brief, in_order, look_of, null_handles, null_mark

Rows = Sequence[Mapping[str, Any]]

_ALL_UNITS = "least_squares"


@styled
def methods(results: Mapping[str, Sequence[Rows]]) -> Figure:
    """Share of net b's variance that each method explains, against the units of net a that it uses for each unit of b.

    Marks are means over all ordered pairs of nets, bars reach from the least to the greatest pair; results of one method
    that differ in its settings, such as a penalty, are joined by a line. Below each mark is what the same method explains by
    chance: hollow where net a is randomly rotated, a dash where it reads other images.
    """
    layers = list(dict.fromkeys(row["layer"] for settings in results.values() for rows in settings for row in rows))
    figure, axes = panels(len(layers), 1.95, 2.2, "variance explained, held out", 6.0, sharey=True)
    drawn: set[str] = set()  # nulls that there are
    for axis, layer in zip(axes, layers):
        predictors: list[float] = []
        for name in in_order(results):
            look = look_of(name)
            for null in NULLS:
                if points := _points(results[name], layer, f"_{null}"):
                    drawn.add(null)
                    at, mean, *_ = zip(*points)
                    axis.plot(at, mean, ls=NULLS[null]["ls"], lw=0.7, zorder=2, **null_mark(null, look))
                    predictors += at
            if points := _points(results[name], layer):
                style = {"marker": look.mark, "ms": 4.5, "lw": 1, "color": look.colour, "label": look.words}
                error_marks(axis, points, zorder=3, **style)
                predictors += [at for at, *_ in points]
                if name == _ALL_UNITS:
                    axis.axhline(max(mean for _, mean, *_ in points), color=look.colour, lw=0.6, alpha=0.5, zorder=0)
        axis.axhline(0, color="0.8", lw=0.6, zorder=0)
        # what needs less than a unit is there by chance, and would take half of the scale
        ends = (max(0.7, min(predictors, default=1) / 1.5), max([*predictors, 1]) * 1.5)
        axis.set(title=brief(layer, 24), xlabel="predictors per unit", xscale="log", xlim=ends)
        log_ticks(axis.xaxis)
    axes[0].set_ylim(top=1.02)
    legend_below(figure, null_handles(null for null in NULLS if null in drawn))
    return figure


def _points(settings: Sequence[Rows], layer: str, null: str = "") -> list[tuple[float, float, float, float]]:
    """Predictors per unit and variance explained with its least and greatest, of each setting, that of the fewest first.

    Settings of which a pair has no number, or whose units have no predictors, have no place.
    """
    points = []
    for rows in settings:
        of_layer = [row for row in rows if row["layer"] == layer]
        predictors, explained = (over_pairs(of_layer, f"{key}{null}") for key in ("predictors", "r2_held_out"))
        known = all(row.get(f"{key}{null}") is not None for row in of_layer for key in ("predictors", "r2_held_out"))
        if predictors and explained and known and predictors[0] > 0:
            points.append((predictors[0], *explained))
    return sorted(points)
