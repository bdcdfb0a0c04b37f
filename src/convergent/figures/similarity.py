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
    """Share of units in clusters whose mean correlation, between nets and within, exceeds x; numbers are areas.

    Lines are means over all ordered pairs of nets and the runs of each; bands reach a standard deviation over the runs up
    and down. The broken line is the similarity between nets where one net's units are rotated and clustered anew.

    Args:
        told: with a curve `similarity`, see `cluster_findings.tell_of`.
    """
    layers = list(dict.fromkeys(found.layer for found in told))
    columns = min(4, len(layers))
    rows = -(-len(layers) // columns)
    figure, axes = panels(rows, columns, max(1.9, 3.0 / columns), 2.0, sharey=True)
    lines = {
        "between": ("between the nets", {"color": COLOURS[0]}),
        "within": ("within the nets", {"color": COLOURS[1]}),
        "rotated": ("between, one net rotated and clustered anew", NULLS["rotated"]),
    }
    for axis, layer in zip(axes, layers):
        of_layer = [found.curves["similarity"] for found in told if found.layer == layer]
        mean = {name: np.mean([curve[name] for curve in of_layer], 0) for name in of_layer[0]}
        x = mean["similarity"]
        for place, (name, (label, style)) in enumerate(lines.items()):
            key = "similarity_between_rotated" if name == "rotated" else f"similarity_{name}"
            area = np.mean([found.figures[key] for found in told if found.layer == layer])
            axis.plot(x, mean[name], label=label, **style)
            axis.text(0.97, 0.9 - 0.12 * place, f"{area:.2f}", color=style["color"], ha="right", fontsize=7)
            if name != "rotated":
                low, high = mean[name] - mean[f"{name}_spread"], mean[name] + mean[f"{name}_spread"]
                axis.fill_between(x, low, high, color=style["color"], alpha=0.2, lw=0)
        axis.set_title(layer)
        axis.set_xlabel("similarity of the cluster")
        axis.set_xlim(0, 1)
        axis.set_ylim(0, 1.02)
    for axis in axes[len(layers) :]:
        axis.set_visible(False)
    for row in range(rows):
        axes[row * columns].set_ylabel("share of units above")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=min(3, columns))
    return figure
