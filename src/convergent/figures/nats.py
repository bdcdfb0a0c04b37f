"""Mutual information with the partner, unit by unit, and whether the correlation gives the same partner.

Source: Li et al. 2016, figure S4.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from convergent.analysis.reports import Report, of_null
from convergent.figures.grid import band, legend_below, panels, styled
from convergent.figures.style import COLOURS, NULLS, brief, null_words


@styled
def nats(reports: Sequence[Report]) -> Figure | None:
    """Nats of each unit with its partner, sorted, a panel per layer.

    The first pair of nets is drawn unit by unit, filled where the best correlation gives the same partner; the band is that
    of all pairs; broken and dotted lines are what random rotations and shuffled images give.
    """
    reports = [report for report in reports if "partners" in report.tables]
    if not of_null(reports):
        return None
    layers = list(dict.fromkeys(report.layer for report in reports))
    figure, axes = panels(len(layers), 1.9, 2.0, "mutual information (nats)", 4.4, sharey=True)
    for axis, layer in zip(axes, layers):
        _draw(axis, [report for report in reports if report.layer == layer])
    axes[0].set_ylim(bottom=0)
    shown = reports[0]
    figure.suptitle(f"units of {shown.b} with their partners in {shown.a}", fontsize=9)
    legend_below(figure, columns=2)
    return figure


def _draw(axis: Axes, reports: Sequence[Report]) -> None:
    of_nets = of_null(reports)
    shown, every = of_nets[0], _sorted(of_nets)
    nats_b = np.array([row["nats"] for row in shown.tables["partners"]])
    same_b = np.array([row["same"] for row in shown.tables["partners"]], dtype=bool)
    rank = np.arange(1, len(nats_b) + 1)
    label = f"all {len(of_nets)} pairs of nets"
    band(axis, np.arange(1, every.shape[1] + 1), every.min(0), every.max(0), COLOURS[0], label)
    dots: dict[str, Any] = {"marker": "o", "ls": "", "ms": 3 if len(nats_b) < 100 else 2, "mew": 0.5}
    axis.plot(rank[same_b], nats_b[same_b], color=COLOURS[0], label="same partner by correlation", **dots)
    axis.plot(rank[~same_b], nats_b[~same_b], color=COLOURS[1], label="another partner by correlation", **dots)
    for null, style in NULLS.items():
        chance = _sorted(of_null(reports, null))
        if chance.size:
            axis.plot(np.arange(1, chance.shape[1] + 1), chance.mean(0), label=null_words(null), **style)
    same = f"same partner: {same_b.mean():.0%}"
    axis.text(0.97, 0.97, same, transform=axis.transAxes, ha="right", va="top", fontsize=7)
    axis.set(title=brief(shown.layer, 24), xlabel="unit, sorted")


def _sorted(reports: Sequence[Report]) -> NDArray[np.float64]:
    """Sorted nats of some pairs of nets, shape (pairs, units of the smallest net)."""
    curves = [[row["nats"] for row in report.tables["partners"]] for report in reports]
    width = min(map(len, curves), default=0)
    return np.array([curve[:width] for curve in curves])
