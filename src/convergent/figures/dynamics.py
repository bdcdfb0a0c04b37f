"""When representations converge: correlation between nets along their training.

Source: goes beyond Li et al. 2016, whose nets are compared after their training.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from convergent.figures.grid import band, legend_below, panels, points_over_pairs, styled
from convergent.figures.style import COLOURS


@styled
def dynamics(epochs: Mapping[int, Sequence[dict[str, Any]]]) -> Figure | None:
    """Mean correlation with the partner, and variance explained on held-out images, against the epoch, a line per layer.

    Lines are means over all ordered pairs of nets, bands reach from the least to the greatest pair. Of variance explained it
    is the median unit: in untrained nets a few that fire in a handful of images are predicted so badly that they decide any
    mean.
    """
    rows = [row for of_epoch in epochs.values() for row in of_epoch]
    if not rows:
        return None
    titles = {"mean_r": "mean r with the partner", "r2_held_out_median": "R² held out, the median unit"}
    titles = {key: title for key, title in titles.items() if any(key in row for row in rows)}
    figure, axes = panels(len(titles), 2.9, 2.3)
    for axis, (key, title) in zip(axes, titles.items()):
        for colour, layer in zip(COLOURS, dict.fromkeys(row["layer"] for row in rows)):
            of_layer = {at: [row for row in of_epoch if row["layer"] == layer] for at, of_epoch in epochs.items()}
            if points := points_over_pairs(of_layer, key):
                at, mean, low, high = zip(*points)
                axis.plot(at, mean, marker="o", ms=2.5, color=colour, label=layer)
                band(axis, at, low, high, colour)
        axis.set_xscale("symlog", linthresh=1, linscale=0.5)
        axis.set_xticks(list(epochs), [str(epoch) for epoch in epochs])
        axis.minorticks_off()
        axis.set(xlabel="epochs of training", ylabel=title)
        axis.axhline(0, color="0.8", lw=0.6, zorder=0)
    legend_below(figure)
    return figure
