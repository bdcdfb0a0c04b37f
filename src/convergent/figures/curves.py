"""How well single units are predicted, sorted, layer by layer.

Source: Li et al. 2016, figures 3 and S3.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from convergent.analysis.results import Result
from convergent.figures.grid import band, legend_below, panels, styled
from convergent.figures.style import NULLS, brief, look_of, null_words


@styled
def curves(results: Sequence[Result], method: str) -> Figure:
    """Units of net b sorted by their best single partner (semi-matching), with the method's correlation beside it.

    The first pair of nets is drawn unit by unit; the other pairs' semi-matching curves are the band.
    """
    best, look = look_of("semimatching"), look_of(method)
    layers = list(dict.fromkeys(result.layer for result in results))
    figure, axes = panels(len(layers), 1.9, 2.1, "correlation", 5.0, sharey=True)
    for axis, layer in zip(axes, layers):
        of_layer = [result for result in results if result.layer == layer]
        shown = of_layer[0]
        order = np.argsort(-shown.best_r_b[shown.active_b], kind="stable")
        rank = np.arange(1, len(order) + 1)
        if look != best:
            matched = (shown.predictors_b > 0)[shown.active_b][order]
            r = shown.r_b[shown.active_b][order]
            axis.plot(rank[matched], r[matched], ".", ms=3, color=look.colour, label=look.words)
            if not matched.all():
                axis.plot(rank[~matched], 0.0 * rank[~matched], "x", ms=3, color="0.4", label="no partner")
        axis.plot(rank, shown.best_r_b[shown.active_b][order], color=best.colour, label=best.words)
        for name, style in NULLS.items():
            if name in shown.chance:
                r = shown.chance[name].by_rank(len(rank))
                axis.plot(rank, r, label=f"{best.words}, {null_words(name)}", **style)
        every = [np.sort(result.best_r_b[result.active_b])[::-1] for result in of_layer]
        width = min(map(len, every))
        stacked = np.stack([curve[:width] for curve in every])
        label = f"{best.words}, range of all {len(every)} pairs"
        band(axis, np.arange(1, width + 1), stacked.min(0), stacked.max(0), best.colour, label)
        axis.axhline(0, color="0.8", lw=0.6, zorder=0)
        axis.set(title=brief(layer, 24), xlabel="unit, sorted by its\nsemi-matching r", xlim=(0, len(order) + 1))
    figure.suptitle(f"units of {results[0].b}, predicted from {results[0].a}", fontsize=9)
    lowest = min(float(result.r_b[result.active_b].min(initial=0.0)) for result in results)
    axes[0].set_ylim(min(0.0, lowest) - 0.05, 1.02)
    legend_below(figure, columns=3)
    return figure
