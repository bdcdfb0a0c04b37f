"""How active units are: mean activations of all nets, sorted and overlaid.

Source: Li et al. 2016, figure S10.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from convergent.figures.style import COLOURS, panels, styled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from convergent.streaming.layer_moments import LayerMoments


@styled
def activity(layers: Sequence[LayerMoments]) -> Figure:
    """Mean activation of every unit, sorted, a line per net; on a logarithmic scale where all means are positive.

    Dead units are counted in the panel's corner and, where there are few, named.
    """
    columns = min(4, len(layers))
    rows = -(-len(layers) // columns)
    figure, axes = panels(rows, columns, 1.9, 1.8)
    for axis, layer in zip(axes, layers):
        count_k = layer.count_k / layer.count_k.sum()
        mean_u = (count_k[:, None] * layer.mean_ku).sum(0).numpy()
        dead = []
        for number, (net, units) in enumerate(zip(layer.nets, layer.units)):
            alive_c = layer.alive(number).numpy()
            mean_c = np.sort(mean_u[units][alive_c])[::-1]
            dead += [f"{net}: {unit}" for unit in np.flatnonzero(~alive_c)]
            colour = COLOURS[number % len(COLOURS)]
            axis.plot(np.arange(1, len(mean_c) + 1), mean_c, color=colour, lw=1, alpha=0.9, label=net)
        if all((mean_u[units][layer.alive(number).numpy()] > 0).all() for number, units in enumerate(layer.units)):
            axis.set_yscale("log")
        if dead:
            told = "\n".join(dead) if len(dead) <= 4 else f"{len(dead)} of {len(mean_u)}"
            axis.text(0.04, 0.05, f"dead units\n{told}", transform=axis.transAxes, ha="left", va="bottom", fontsize=6)
        axis.set_title(layer.layer)
        axis.set_xlabel("unit, sorted")
    for axis in axes[len(layers) :]:
        axis.set_visible(False)
    for row in range(rows):
        axes[row * columns].set_ylabel("mean activation")
    if len(layers[0].nets) <= len(COLOURS):
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)))
    return figure
