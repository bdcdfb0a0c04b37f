"""How many units are in clusters of more than a given similarity.

Source: Li et al. 2016, figures S8 and S9.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from convergent.analysis.reports import Report, of_null
from convergent.figures.grid import band, legend_below, panels, styled
from convergent.figures.style import COLOURS, NULLS, brief

_PAPER = {"fc": "white", "ec": "none", "alpha": 0.8, "pad": 0.6}  # under a number, where a line passes


@styled
def similarity(reports: Sequence[Report]) -> Figure | None:
    """Share of units in clusters whose mean correlation, between nets and within, exceeds x; numbers are means (areas).

    Lines are means over all ordered pairs of nets and the runs of each; bands reach a standard deviation over the runs up
    and down. The broken line is the similarity between nets where one net's units are rotated and clustered anew.
    """
    reports = [report for report in reports if "similarity" in report.curves]
    if not reports:
        return None
    layers = list(dict.fromkeys(report.layer for report in reports))
    figure, axes = panels(len(layers), 1.9, 1.8, "share of units above", sharey=True)
    lines = {
        "between": ("between the nets", {"color": COLOURS[0]}),
        "within": ("within the nets", {"color": COLOURS[1]}),
        "rotated": ("between, random rotation, clustered anew", NULLS["rotated"]),
    }
    for axis, layer in zip(axes, layers):
        for place, (name, (label, style)) in enumerate(lines.items()):
            null, shown = ("rotated", "between") if name == "rotated" else ("", name)
            of_layer = of_null(reports, null, layer)
            if not of_layer:
                continue
            curves = [report.curves["similarity"] for report in of_layer]
            mean = {key: np.mean([curve[key] for curve in curves], 0) for key in curves[0]}
            area = np.mean([report.scalars[f"similarity_{shown}"] for report in of_layer])
            x = mean["similarity"]
            axis.plot(x, mean[shown], label=label, **style)
            axis.text(
                0.97, 0.9 - 0.12 * place, f"mean {area:.2f}", color=style["color"], ha="right", fontsize=7, bbox=_PAPER
            )
            if name != "rotated":
                low, high = mean[name] - mean[f"{name}_spread"], mean[name] + mean[f"{name}_spread"]
                band(axis, x, low, high, style["color"])
        axis.set(title=brief(layer, 24), xlabel="mean r in the unit's cluster", xlim=(0, 1), ylim=(0, 1.02))
    legend_below(figure, [Patch(color="0.8", label="± standard deviation over runs")], columns=2)
    return figure
