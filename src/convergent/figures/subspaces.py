"""Shared subspaces on other axes: clusters as spans, and unit by unit.

Source: Li et al. 2016, section 4 (subspaces that agree though their basis vectors do not); here as numbers.
"""

from collections.abc import Sequence

from matplotlib.figure import Figure

from convergent.analysis.reports import Report, of_null
from convergent.figures.grid import error_marks, legend_below, name_layers, panels, points_over_pairs, styled
from convergent.figures.style import COLOURS

# Kind of comparison: what it is called, mark, colour, whether the mark is filled.
_SHOWN = {
    "span": ("clusters as subspaces", "o", COLOURS[0], True),
    "rotated": ("the same, random rotation, clustered anew", "o", COLOURS[0], False),
    "random": ("random groups of the same sizes", "o", "0.5", False),
    "matched": ("single units, matched inside the cluster", "s", COLOURS[1], True),
    "rotated_within": ("the same, randomly rotated within the cluster", "s", COLOURS[1], False),
}
_MEASURES = {"correlation": "mean (canonical) correlation", "explained": "variance explained"}


@styled
def subspaces(reports: Sequence[Report]) -> Figure | None:
    """How alike the two nets' units in a cluster are as subspaces, beside single units, random groups and rotated axes.

    Marks are means over all ordered pairs of nets, bars reach from the least to the greatest pair.
    """
    reports = [report for report in reports if "similarity" in report.curves]
    if not reports:
        return None
    figure, axes = panels(2, 3.0, 2.3, sharey=True)
    layers = list(dict.fromkeys(report.layer for report in reports))
    for axis, (measure, title) in zip(axes, _MEASURES.items()):
        for place, (kind, (label, mark, colour, filled)) in enumerate(_SHOWN.items()):
            null, shown = ("rotated", "span") if kind == "rotated" else ("", kind)
            of_layer = [[report.scalars for report in of_null(reports, null, layer)] for layer in layers]
            at = {x + (place - 2) * 0.14: scalars for x, scalars in enumerate(of_layer)}
            points = points_over_pairs(at, f"subspace_{shown}_{measure}")
            face = colour if filled else "white"
            error_marks(axis, points, ls="", marker=mark, ms=4, lw=1, color=colour, mfc=face, label=label)
        name_layers(axis, layers)
        axis.set_title(title)
    axes[0].set_ylim(0, 1.02)
    legend_below(figure, columns=2)
    return figure
