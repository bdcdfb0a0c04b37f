"""Mean correlation per layer.

Source: Li et al. 2016, figure 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from convergent.analysis.results import by_layer
from convergent.figures.style import NULLS, brief, legend_below, look_of, null_words, once, pale, panels, styled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@styled
def means(summaries: Sequence[dict[str, Any]], method: str) -> Figure:
    """Bars of the mean correlation with the partner: semi-matching, and the method.

    Dots are pairs of nets, both directions of a pair only where they differ; the bar of error at the method is its 95 %
    interval, over nets where there are three or more, else over images; lines across a bar say what it would be by chance.

    Args:
        summaries: rows of `results.Result.summary`.
        method: its name, with settings.
    """
    figure, (axis,) = panels(1, 1, 4.4, 2.4)
    layers = by_layer(summaries)
    bars = {"semimatching": "mean_best_r"} | ({} if look_of(method) == look_of("semimatching") else {method: "mean_r"})
    width = 0.8 / len(bars)
    for place, (name, key) in enumerate(bars.items()):
        look = look_of(name)
        for number, (layer, figures) in enumerate(layers.items()):
            x = number + (place - (len(bars) - 1) / 2) * width
            of_layer = [summary for summary in summaries if summary["layer"] == layer]
            height = np.mean([summary.get(key, 0.0) for summary in of_layer])
            axis.bar(
                x, height, width * 0.88, color=pale(look.colour), ec=look.colour, lw=0.8,
                label=look.words if number == 0 else None,
            )  # fmt: skip
            values = _dots(of_layer, key)
            spread = np.linspace(-0.3, 0.3, len(values)) * width if len(values) > 1 else np.zeros(1)
            dots = "a pair of nets" if place == number == 0 else None
            axis.plot(x + spread, values, "o", ms=2.2, mfc="white", mec=look.colour, mew=0.7, label=dots)
            for null, style in NULLS.items():
                if f"{key}_{null}" in figures:
                    chance, label = figures[f"{key}_{null}"], null_words(null) if place == number == 0 else None
                    axis.plot([x - width * 0.44, x + width * 0.44], [chance, chance], label=label, **style)
        if key == "mean_r" or len(bars) == 1:
            _errors(axis, layers, (place - (len(bars) - 1) / 2) * width, look.words)
    axis.set_xticks(range(len(layers)), [brief(layer) for layer in layers])
    axis.set_ylabel("mean correlation with the partner")
    axis.set_ylim(0, 1)
    legend_below(figure, once([axis]))
    return figure


def _dots(summaries: Sequence[dict[str, Any]], key: str) -> list[float]:
    """A figure of every pair of nets; of both directions but one where they never differ, as in a matching."""
    value = {(summary["a"], summary["b"]): summary.get(key, 0.0) for summary in summaries}
    back = {pair: value.get(pair[::-1], np.nan) for pair in value}
    if all(np.isclose(value[pair], back[pair], rtol=0, atol=1e-9) for pair in value):
        value = {pair: of_pair for pair, of_pair in value.items() if pair[0] < pair[1]}
    return list(value.values())


def _errors(axis: Axes, layers: Mapping[str, Mapping[str, Any]], shift: float, words: str) -> None:
    """The interval of the method's mean, where there is one: over nets, else over images."""
    over = {"_nets": "nets", "": "images"}
    labelled = set()
    for number, figures in enumerate(layers.values()):
        kind = next((kind for kind in over if f"mean_r{kind}_low" in figures), None)
        if kind is not None and "mean_r" in figures:  # it is known of all pairs
            mean, low, high = (figures[f"mean_r{part}"] for part in ("", f"{kind}_low", f"{kind}_high"))
            label = None if kind in labelled else f"95 % over {over[kind]}, {words}"
            error = [[max(0.0, mean - low)], [max(0.0, high - mean)]]
            axis.errorbar(number + shift, mean, error, color="black", lw=1, capsize=2.5, ls="", label=label)
            labelled.add(kind)
