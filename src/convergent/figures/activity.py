"""How active units are: mean activations of all nets, sorted and overlaid.

Source: Li et al. 2016, figure S10.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from convergent.core.layer_moments import LayerMoments
from convergent.figures.grid import legend_below, log_ticks, panels, styled
from convergent.figures.style import COLOURS, brief


@styled
def activity(layers: Sequence[LayerMoments]) -> Figure:
    """Mean activation of every unit, sorted, a line per net; on a logarithmic scale where all means are positive.

    Constant units are counted in the panel's corner and, where there are few, named.
    """
    figure, axes = panels(len(layers), 1.9, 1.8, "mean activation")
    for axis, layer in zip(axes, layers):
        mean_u, constant = layer.mean_u.numpy(), []
        for number, (net, units) in enumerate(zip(layer.nets, layer.units)):
            active_c = layer.active(number).numpy()
            mean_c = np.sort(mean_u[units][active_c])[::-1]
            constant += [f"{brief(net)}: {unit}" for unit in np.flatnonzero(~active_c)]
            colour = COLOURS[number % len(COLOURS)]
            axis.plot(np.arange(1, len(mean_c) + 1), mean_c, color=colour, lw=1, alpha=0.9, label=net)
        if all((mean_u[units][layer.active(number).numpy()] > 0).all() for number, units in enumerate(layer.units)):
            axis.set_yscale("log")
            log_ticks(axis.yaxis)
        if constant:
            names = "\n".join(constant) if len(constant) <= 4 else f"{len(constant)} of {len(mean_u)}"
            text = f"constant units:\n{names}"
            axis.text(0.03, 0.03, text, transform=axis.transAxes, va="bottom", fontsize=6)  # below the falling lines
        axis.set(title=brief(layer.layer, 24), xlabel="unit, sorted")
    if len(layers[0].nets) <= len(COLOURS):
        legend_below(figure)
    return figure
