"""All methods on one yardstick: held-out variance explained, layer by layer."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from convergent.figures.grid import error_marks, legend_below, name_layers, panels, points_over_pairs, styled
from convergent.figures.style import NULLS, in_order, look_of, null_handles, null_mark


@styled
def comparison(summaries: Mapping[str, Sequence[dict[str, Any]]]) -> Figure:
    """Share of net b's variance that each method explains on held-out images, against the layer; by the result's name.

    Marks are means over all ordered pairs of nets, bars reach from the least to the greatest pair; hollow marks and dashes
    are what chance gives the method.
    """
    figure, (axis,) = panels(1, 6.0, 2.6)
    layers = list(dict.fromkeys(summary["layer"] for rows in summaries.values() for summary in rows))
    nulls = [null for null in NULLS if any(f"r2_held_out_{null}" in row for rows in summaries.values() for row in rows)]
    for place, name in enumerate(in_order(summaries)):
        shift, look = (place - (len(summaries) - 1) / 2) * 0.8 / len(summaries), look_of(name)
        marked = {f"r2_held_out_{null}": {"zorder": 2, **null_mark(null, look)} for null in nulls}
        marked["r2_held_out"] = {"marker": look.mark, "ms": 4.5, "color": look.colour, "label": look.words, "zorder": 3}
        for key, style in marked.items():
            rows = {x + shift: [row for row in summaries[name] if row["layer"] == of] for x, of in enumerate(layers)}
            points = points_over_pairs(rows, key)
            if key != "r2_held_out":
                axis.plot([x for x, *_ in points], [mean for _, mean, *_ in points], ls="", **style)
            else:
                error_marks(axis, points, lw=0.8, capsize=2, ls="", **style)
    for between in range(1, len(layers)):
        axis.axvline(between - 0.5, color="0.9", lw=0.6, zorder=0)
    axis.axhline(0, color="0.8", lw=0.6, zorder=0)
    name_layers(axis, layers, 24)
    images = sorted({row["images"] for rows in summaries.values() for row in rows if "images" in row})
    title = f"{' or '.join(f'{number:,}' for number in images)} images" if images else ""
    axis.set(title=title, ylabel="variance explained, held out", ylim=(None, 1.0))
    legend_below(figure, null_handles(nulls))
    return figure
