"""Mean correlation per layer.

Source: Li et al. 2016, figure 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from convergent.figures.style import COLOURS, panels, styled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure


@styled
def means(summaries: Sequence[dict[str, Any]], method: str) -> Figure:
    """Bars of the mean correlation with the partner: semi-matching, and the method; one dot per ordered pair of nets."""
    figure, (axis,) = panels(1, 1, 3.6, 2.3)
    layers = list(dict.fromkeys(summary["layer"] for summary in summaries))
    bars = {"semi-matching": "mean_best_r"} | ({} if method == "semimatching" else {method: "mean_r"})
    width = 0.8 / len(bars)
    for place, (label, figure_name) in enumerate(bars.items()):
        at = np.arange(len(layers)) + (place - (len(bars) - 1) / 2) * width
        of_layers = [[s[figure_name] or 0.0 for s in summaries if s["layer"] == layer] for layer in layers]
        axis.bar(at, [float(np.mean(values)) for values in of_layers], width * 0.92, color=COLOURS[place], label=label)
        for x, values in zip(at, of_layers):
            spread = np.linspace(-0.3, 0.3, len(values)) * width if len(values) > 1 else np.zeros(1)
            axis.plot(x + spread, values, "o", ms=2, mfc="white", mec="0.2", mew=0.5)
    axis.set_xticks(range(len(layers)), layers)
    axis.set_ylabel("mean correlation")
    axis.set_ylim(0, 1)
    pairs = len(summaries) // len(layers)
    axis.set_title(f"mean over units; dots: {pairs} ordered pairs of nets")
    axis.legend(ncols=len(bars), loc="upper right")
    return figure
