"""How few units buy how much: loss against predictors per unit, the codes of units, and the whole path of penalties.

Source: Li et al. 2016, section 4, table 1.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from convergent.analysis.gains import CODES
from convergent.analysis.reports import Report, mean_curves, mean_scalars, of_null
from convergent.figures.grid import legend_below, log_ticks, name_layers, panels, styled
from convergent.figures.style import COLOURS

# Validation loss of the paper's table 1 for its lambdas 0, 1e-5, ... 1e-1; units it used are known of two runs.
# Source: Li et al. 2016; conv1 and conv2 from the authors' logs, the others as printed.
PAPER_LOSS = {
    "conv1": (0.1696, 0.1687, 0.1618, 0.1719, 0.4850, 0.5192),
    "conv2": (0.3726, 0.3680, 0.3366, 0.3915, 0.5177, 0.5134),
    "conv3": (0.434, 0.427, 0.383, 0.462, 0.497, 0.496),
    "conv4": (0.478, 0.470, 0.423, 0.477, 0.489, 0.488),
    "conv5": (0.484, 0.478, 0.439, 0.436, 0.478, 0.477),
}
PAPER_LAMBDA = (0.0, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
PAPER_WIDTH = {"conv1": 96, "conv2": 256, "conv3": 384, "conv4": 384, "conv5": 256}
_HATCH = "////"  # of what chance gives
_MEAN = Line2D([], [], color="0.6", lw=0.6, label="predicting the mean")


@styled
def few_to_one(reports: Sequence[Report]) -> Figure | None:
    """Loss against predictors per unit, between one unit and all, and shares of units by how many they need.

    Lines are means over all ordered pairs of nets, broken lines least squares on all units.
    """
    reports = [report for report in reports if "units" in report.curves]
    if not any("local" in report.scalars for report in reports):  # no unit counts, or nothing is held out
        return None
    figure, (left, right) = panels(2, 3.4, 2.3)
    layers = list(dict.fromkeys(report.layer for report in reports))
    curves = mean_curves(reports).get("units", {})
    for colour, layer in zip(COLOURS, layers):
        if layer not in curves:
            continue
        means = mean_scalars(reports, layer)
        left.plot(curves[layer]["units"], curves[layer]["loss_best_units"], "o-", ms=2.5, color=colour, label=layer)
        left.axhline(means["loss_least_squares"], color=colour, lw=0.8, ls=(0, (4, 2)))
    _loss(left, "predictors per unit, the best ones")
    left.set_title("(a) loss by number of predictors")
    all_units = Line2D([], [], color="0.35", lw=0.8, ls=(0, (4, 2)), label="all units (least squares)")
    rotated = bool(of_null(reports, "rotated"))
    for null, at in (("", -0.2), ("rotated", 0.2)) if rotated else (("", 0.0),):
        _draw_codes(right, [mean_scalars(reports, layer, null) for layer in layers], at, 0.38 if rotated else 0.7, null)
    name_layers(right, layers)
    right.set(ylabel="share of units", title="(b) needed for 95% of what all units explain")
    hatched = Patch(fc="white", ec="0.35", hatch=_HATCH, lw=0.5, label="the same with random rotation")
    legend_below(figure, [all_units, _MEAN, *([hatched] if rotated else [])])
    return figure


def _loss(axis: Axes, xlabel: str) -> None:
    axis.axhline(0.5, color="0.6", lw=0.6, zorder=0)
    axis.set(xlabel=xlabel, ylabel="loss, held out", ylim=(0, 0.53))


def _draw_codes(axis: Axes, scalars: Sequence[Mapping[str, float]], at: float, width: float, null: str) -> None:
    """Stacked shares of the codes, a bar a layer; hatched where they are those of a null."""
    bottom, x_l = np.zeros(len(scalars)), np.arange(len(scalars)) + at
    for colour, code in zip(("#0072B2", "#7FB8D8", "#E8AE7F", "0.65", "0.85"), CODES):
        share = np.array([of_layer.get(code, 0.0) for of_layer in scalars])
        style = {"hatch": _HATCH, "ec": "white", "lw": 0} if null else {"label": code.replace("_", " ")}
        axis.bar(x_l, share, width, bottom, color=colour, **style)
        for place in np.flatnonzero(share > 0.06) if not null else ():
            middle = bottom[place] + share[place] / 2
            axis.text(x_l[place], middle, f"{share[place]:.0%}", ha="center", va="center", fontsize=6)
        bottom += share


@styled
def path_figure(reports: Sequence[Report]) -> Figure | None:
    """Held-out loss of the lasso's path against the predictors per unit and against the penalty, a curve per layer.

    Triangles: one unit scaled by its best r; squares: least squares on all units; dotted: the paper's table 1, where the
    nets are its own (by the layers' names and widths).
    """
    baselines = [report for report in of_null(reports) if "loss_one_unit" in report.scalars]
    curves = mean_curves([report for report in reports if "width" in report.scalars]).get("log10_alpha", {})
    if not baselines or not any("loss" in curve for curve in curves.values()):
        return None
    figure, (left, right) = panels(2, 3.4, 2.3)
    paper = False
    for colour, (layer, curve) in zip(COLOURS, curves.items()):
        means = mean_scalars(reports, layer)
        used, loss = np.array(curve["predictors"]), np.array(curve["loss"])
        some = used > 0.05
        left.plot(used[some], loss[some], "o-", ms=2.5, color=colour, label=layer)
        left.plot(1, means["loss_one_unit"], "^", ms=5, color=colour, mec="black", mew=0.5)
        width = means["width"]
        left.plot(width, means["loss_least_squares"], "s", ms=4, color=colour, mec="black", mew=0.5)
        right.plot(curve["log10_alpha"], loss, "o-", ms=2.5, color=colour)
        right.plot(curve["log10_alpha"], curve["loss_fitted"], color=colour, lw=0.7, ls=(0, (4, 2)))
        if PAPER_WIDTH.get(layer) == width:
            paper = True
            right.plot(np.log10(np.array(PAPER_LAMBDA[1:]) * width), PAPER_LOSS[layer][1:], ":", lw=1, color=colour)
    left.set_xscale("log")
    log_ticks(left.xaxis)
    _loss(left, "predictors per unit")
    _loss(right, "log₁₀ of the penalty alpha")
    edge = {"ls": "", "mfc": "0.6", "mec": "black", "mew": 0.5}
    marks: dict[str, dict[str, Any]] = {
        "the best unit, scaled": {"marker": "^", "ms": 5, **edge},
        "all units (least squares)": {"marker": "s", "ms": 4, **edge},
        "on the fitted images": {"lw": 0.7, "ls": (0, (4, 2))},
        **({"Li et al. 2016, table 1": {"lw": 1, "ls": ":"}} if paper else {}),
    }
    handles = [Line2D([], [], label=words, **{"color": "0.35"} | style) for words, style in marks.items()]
    legend_below(figure, [*handles, _MEAN])
    return figure
