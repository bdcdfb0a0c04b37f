"""A sweep over the lasso's penalty as one chart: loss, variance explained and predictors per unit against it, by layer.

What the runs of the sweep say in W&B, drawn here from their summaries.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from convergent.figures.grid import legend_below, log_ticks, panels, styled
from convergent.figures.style import COLOURS

# What is drawn: scalar of a layer, what its axis says.
_DRAWN = {
    "loss_held_out": "loss (1 - R²) / 2, held out", "r2_held_out": "R², held out", "predictors": "predictors per unit",
}  # fmt: skip

# Lines beside the curves: scalar, style, what the legend says.
_BESIDE = (
    ("loss_least_squares", (0, (4, 2)), "all units (least squares)"),
    ("loss_one_unit", (0, (1, 2)), "the best unit, scaled"),
)

Layers = Mapping[str, Mapping[str, Any]]


def swept(results: Sequence[Layers]) -> bool:
    """Whether results differ in a layer's penalty, so that there is a curve to draw.

    >>> swept([{"fc1": {"solver_alpha": 0.1}}, {"fc1": {"solver_alpha": 0.3}}]), swept([{"fc1": {"mean_r": 0.5}}] * 2)
    (True, False)
    """
    names = {name for layers in results for name in layers}
    return any(len(_alphas([{name: layers.get(name, {})} for layers in results])) > 1 for name in names)


@styled
def penalties(results: Sequence[Layers]) -> Figure:
    """Loss, variance explained and predictors per unit against the penalty that results differ in, a curve per layer.

    Bars: one standard deviation over the ordered pairs of nets. In the first panel broken lines are the loss of all units
    together (least squares), dotted ones that of the best single unit, scaled.
    """
    figure, axes = panels(len(_DRAWN), 2.5, 2.3)
    names = list(dict.fromkeys(layer for layers in results for layer in layers))
    for colour, layer in zip(COLOURS, names):
        every = {of["solver_alpha"]: of for layers in results if "solver_alpha" in (of := layers.get(layer, {}))}
        alphas = sorted(alpha for alpha in every if alpha > 0)  # no penalty has no place on a logarithmic axis
        for axis, name in zip(axes, _DRAWN):
            values, spread = ([every[alpha].get(key, np.nan) for alpha in alphas] for key in (name, f"{name}_sd"))
            marks: dict[str, Any] = {"fmt": "o-", "ms": 3, "elinewidth": 0.8, "capsize": 1.5}
            axis.errorbar(alphas, values, spread, color=colour, label=layer, **marks)
        for key, style, _ in _BESIDE if alphas else ():
            axes[0].axhline(every[alphas[0]].get(key, np.nan), color=colour, lw=0.7, ls=style, zorder=0)
    ticks = _alphas(results)
    ticks = ticks[:: -(-len(ticks) // 6)]  # of a long sweep every second, every third ...
    for axis, label in zip(axes, _DRAWN.values()):
        axis.set(xscale="log", xlabel="penalty alpha", ylabel=label)
        axis.set_xticks(ticks, [f"{alpha:g}" for alpha in ticks])
        axis.minorticks_off()
    axes[0].set_ylim(0, 0.53)
    axes[1].set_ylim(0, 1)
    axes[2].set_yscale("log")
    axes[2].axhline(1, color="0.6", lw=0.6, zorder=0)
    log_ticks(axes[2].yaxis)
    legend_below(figure, [Line2D([], [], color="0.35", lw=0.7, ls=style, label=words) for _, style, words in _BESIDE])
    figure.suptitle("bars: one standard deviation over the ordered pairs of nets", fontsize=7)
    return figure


def _alphas(results: Sequence[Layers]) -> list[float]:
    """The penalties of any layer, the least first; rounded, for they are means over pairs of nets."""
    return sorted(
        {round(of["solver_alpha"], 6) for layers in results for of in layers.values() if of.get("solver_alpha")}
    )
