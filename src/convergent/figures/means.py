"""Mean correlation per layer.

Source: Li et al. 2016, figure 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from convergent.figures.style import COLOURS, NULLS, panels, styled
from convergent.results import by_layer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure


@styled
def means(summaries: Sequence[dict[str, Any]], method: str) -> Figure:
    """Bars of the mean correlation with the partner: semi-matching, and the method.

    Dots are ordered pairs of nets; the bar of error at the method is its 95 % interval, over nets where there are three or
    more, else over images; lines across a bar say what it would be by chance.
    """
    figure, (axis,) = panels(1, 1, 3.9, 2.5)
    layers = by_layer(summaries)
    bars = {"semi-matching": "mean_best_r"} | ({} if method == "semimatching" else {method: "mean_r"})
    width = 0.8 / len(bars)
    for place, (label, key) in enumerate(bars.items()):
        for number, (layer, figures) in enumerate(layers.items()):
            x = number + (place - (len(bars) - 1) / 2) * width
            values = [summary[key] or 0.0 for summary in summaries if summary["layer"] == layer]
            axis.bar(x, np.mean(values), width * 0.92, color=COLOURS[place], label=label if number == 0 else None)
            spread = np.linspace(-0.3, 0.3, len(values)) * width if len(values) > 1 else np.zeros(1)
            axis.plot(x + spread, values, "o", ms=2, mfc="white", mec="0.2", mew=0.5)
            for null, style in NULLS.items():
                if f"{key}_{null}" in figures:
                    chance, told = figures[f"{key}_{null}"], f"{null}" if place == number == 0 else None
                    axis.plot([x - width * 0.46, x + width * 0.46], [chance, chance], label=told, **style)
            ends = [figures.get(f"mean_r{over}_{end}") for end in ("low", "high") for over in _over(figures)]
            if key == "mean_r" and None not in ends:
                error = [[figures["mean_r"] - ends[0]], [ends[1] - figures["mean_r"]]]
                axis.errorbar(x, figures["mean_r"], error, color="black", lw=1, capsize=2)
    axis.set_xticks(range(len(layers)), layers)
    axis.set_ylabel("mean correlation")
    axis.set_ylim(0, 1)
    pairs = len(summaries) // len(layers)
    axis.set_title(f"mean over units; dots: {pairs} ordered pairs of nets")
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4 if sum(map(len, labels)) < 45 else 2)
    return figure


def _over(figures: Mapping[str, Any]) -> list[str]:
    """Which interval there is: over nets, or over images."""
    return ["_nets"] if "mean_r_nets_low" in figures else [""]
