"""How many units are in clusters of more than a given similarity.

Source: Li et al. 2016, figures S8 and S9.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from convergent.figures.style import COLOURS, NULLS, panels, styled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from convergent.findings import Findings


@styled
def similarity(told: Sequence[Findings]) -> Figure:
    """Share of units in clusters whose mean correlation, between nets and within, exceeds x; the areas are in the legend.

    Lines are means over all ordered pairs of nets and the runs of each; bands reach a standard deviation over the runs up
    and down. The broken line is the similarity between nets where one net's units are rotated and clustered anew.

    Args:
        told: with a curve `similarity`, see `cluster_findings.tell_of`.
    """
    layers = list(dict.fromkeys(found.layer for found in told))
    columns = min(4, len(layers))
    rows = -(-len(layers) // columns)
    figure, axes = panels(rows, columns, 1.9, 2.0, sharey=True)
    for axis, layer in zip(axes, layers):
        of_layer = [found.curves["similarity"] for found in told if found.layer == layer]
        mean = {name: np.mean([curve[name] for curve in of_layer], 0) for name in of_layer[0]}
        x = mean["similarity"]
        for colour, name in zip(COLOURS, ("between", "within")):
            area = np.mean([found.figures[f"similarity_{name}"] for found in told if found.layer == layer])
            axis.plot(x, mean[name], color=colour, label=f"{name}: {area:.2f}")
            low, high = mean[name] - mean[f"{name}_spread"], mean[name] + mean[f"{name}_spread"]
            axis.fill_between(x, low, high, color=colour, alpha=0.2, lw=0)
        area = np.mean([found.figures["similarity_between_rotated"] for found in told if found.layer == layer])
        axis.plot(x, mean["rotated"], label=f"rotated: {area:.2f}", **NULLS["rotated"])
        axis.set_title(layer)
        axis.set_xlabel("similarity of the cluster")
        axis.set_xlim(0, 1)
        axis.set_ylim(0, 1.02)
        axis.legend(loc="upper right", title="area", title_fontsize=7, handlelength=1.4)
    for axis in axes[len(layers) :]:
        axis.set_visible(False)
    for row in range(rows):
        axes[row * columns].set_ylabel("share of units above")
    return figure
