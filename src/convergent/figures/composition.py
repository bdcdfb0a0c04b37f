"""What clusters are made of: how many units of each net.

Source: Li et al. 2016, section 5 (clusters hold different numbers of units of each net).
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from convergent.analysis.reports import Report, of_null
from convergent.figures.grid import legend_below, panels, styled
from convergent.figures.style import COLOURS, brief


@styled
def composition(reports: Sequence[Report]) -> Figure | None:
    """Clusters of all ordered pairs by their units of net a and of net b, a dot's area saying how many are alike."""
    reports = [report for report in of_null(reports) if "units_of_one_net" in report.curves]
    if not reports:
        return None
    layers = list(dict.fromkeys(report.layer for report in reports))
    figure, axes = panels(len(layers), 1.9, 2.1, "units of net b")
    counts = {
        layer: Counter(
            (row["units_a"], row["units_b"])
            for report in of_null(reports, layer=layer)
            for row in report.tables["clusters"]
        )
        for layer in layers
    }
    greatest = max((max(counted.values(), default=1) for counted in counts.values()), default=1)
    scale = 10 * min(1, 8 / greatest)  # one for all panels, so that the legend speaks of all
    for axis, layer in zip(axes, layers):
        counted = counts[layer]
        most = max((max(units) for units in counted), default=1)
        axis.plot([0, most], [0, most], color="0.8", lw=0.8, zorder=0)
        if counted:
            at_a, at_b = np.array(list(counted)).T
            number = np.array(list(counted.values()))
            axis.scatter(at_a, at_b, scale * number, COLOURS[0], alpha=0.7, lw=0)
        ends = (-0.06 * most - 0.5, 1.06 * most + 0.5)
        axis.set(
            title=f"{brief(layer, 16)}: {counted.total():,} clusters", xlabel="units of net a", xlim=ends, ylim=ends
        )
        axis.locator_params(integer=True, nbins=5)
    sizes = sorted({1, max(1, round(greatest / 2)), greatest})
    dots = [
        Line2D([], [], ls="", marker="o", ms=(scale * n) ** 0.5, mew=0, color=COLOURS[0], alpha=0.7,
               label=f"{n:,} cluster{'s' if n > 1 else ''}")
        for n in sizes
    ]  # fmt: skip
    equal = Line2D([], [], color="0.8", lw=0.8, label="as many of both nets")
    legend_below(figure, [*dots, equal], 4)
    return figure
