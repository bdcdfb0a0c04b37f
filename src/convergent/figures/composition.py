"""What clusters are made of: how many units of each net.

Source: Li et al. 2016, section 5 (clusters hold different numbers of units of each net).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from convergent.figures.style import COLOURS, panels, styled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from convergent.findings import Findings


@styled
def composition(told: Sequence[Findings]) -> Figure:
    """Clusters of all ordered pairs by their units of net a and of net b, a dot's area saying how many there are.

    Args:
        told: with a table `clusters`, see `cluster_findings.tell_of`.
    """
    layers = list(dict.fromkeys(found.layer for found in told))
    columns = min(4, len(layers))
    rows = -(-len(layers) // columns)
    figure, axes = panels(rows, columns, 1.9, 2.3)
    for axis, layer in zip(axes, layers):
        every = [row for found in told if found.layer == layer for row in found.tables["clusters"]]
        counted = Counter((row["units_a"], row["units_b"]) for row in every)
        most = max((max(units) for units in counted), default=1)
        axis.plot([0, most], [0, most], color="0.8", lw=0.8, zorder=0)
        if counted:
            at_a, at_b = np.array(list(counted)).T
            number = np.array(list(counted.values()))
            axis.scatter(at_a, at_b, 10 * number * min(1, 8 / number.max()), COLOURS[0], alpha=0.7, lw=0)
        axis.set_title(f"{layer}: {len(every):,} clusters")
        axis.set_xlabel("units of net a")
        axis.set_aspect("equal", "box")
        axis.set_xlim(-0.06 * most - 0.5, 1.06 * most + 0.5)
        axis.set_ylim(-0.06 * most - 0.5, 1.06 * most + 0.5)
        axis.locator_params(integer=True, nbins=5)
    for axis in axes[len(layers) :]:
        axis.set_visible(False)
    for row in range(rows):
        axes[row * columns].set_ylabel("units of net b")
    return figure
