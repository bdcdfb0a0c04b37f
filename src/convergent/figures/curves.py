"""How well single units are accounted for, sorted, layer by layer.

Source: Li et al. 2016, figures 3 and S3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from convergent.figures.style import COLOURS, NULLS, panels, styled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from convergent.results import Result


@styled
def curves(results: Sequence[Result], method: str) -> Figure:
    """Units of net b sorted by their best single partner (semi-matching), with the method's correlation beside it.

    The first pair of nets is drawn unit by unit; the other pairs' semi-matching curves are the band.
    """
    layers = list(dict.fromkeys(result.layer for result in results))
    columns = min(4, len(layers))
    rows = -(-len(layers) // columns)
    figure, axes = panels(rows, columns, 1.9, 1.95, sharey=True)
    for axis, layer in zip(axes, layers):
        of_layer = [result for result in results if result.layer == layer]
        shown = of_layer[0]
        order = np.argsort(-shown.best_r_b[shown.alive_b], kind="stable")
        rank = np.arange(1, len(order) + 1)
        if method != "semimatching":
            matched = (shown.units_used_b > 0)[shown.alive_b][order]
            r = shown.r_b[shown.alive_b][order]
            axis.plot(rank[matched], r[matched], ".", ms=2.5, color=COLOURS[1], label=method)
            unmatched = rank[~matched]
            if len(unmatched):
                axis.plot(unmatched, np.zeros(len(unmatched)), "x", ms=3, color="0.4", label="no partner")
        axis.plot(rank, shown.best_r_b[shown.alive_b][order], color=COLOURS[0], label="semi-matching")
        for name, style in NULLS.items():
            if name in shown.chance:
                null = np.sort(shown.chance[name].best_r)[::-1]
                axis.plot(np.arange(1, len(null) + 1), null, label=f"{name}, semi-matching", **style)
        every = [np.sort(result.best_r_b[result.alive_b])[::-1] for result in of_layer]
        width = min(map(len, every))
        stacked = np.stack([curve[:width] for curve in every])
        axis.fill_between(
            np.arange(1, width + 1), stacked.min(0), stacked.max(0), color=COLOURS[0], alpha=0.18, lw=0,
            label=f"semi-matching, all {len(every)} pairs",
        )  # fmt: skip
        axis.axhline(0, color="0.8", lw=0.6, zorder=0)
        axis.set_title(f"{layer}: {shown.a} → {shown.b}")
        axis.set_xlabel("unit, sorted by its\nsemi-matching correlation")
        axis.set_xlim(0, len(order) + 1)
    for axis in axes[len(layers) :]:
        axis.set_visible(False)
    for row in range(rows):
        axes[row * columns].set_ylabel("correlation")
    lowest = min(float(result.r_b[result.alive_b].min(initial=0.0)) for result in results)
    axes[0].set_ylim(min(0.0, lowest) - 0.05, 1.02)
    labelled = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels())}
    figure.legend(labelled.values(), labelled.keys(), loc="outside lower center", ncols=3 if columns > 2 else columns)
    return figure
