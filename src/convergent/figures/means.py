"""Mean correlation per layer.

Source: Li et al. 2016, figure 4.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from convergent.analysis.by_layer import by_layer
from convergent.figures.grid import error_marks, legend_below, name_layers, panels, styled
from convergent.figures.style import NULLS, look_of, null_words, pale


@styled
def means(summaries: Sequence[dict[str, Any]], method: str) -> Figure:
    """Bars of the mean correlation with the partner: semi-matching, and the method.

    Dots are pairs of nets, both directions of a pair only where they differ; the bar of error at the method is its 95%
    interval, over nets where there are three or more, else over images; lines across a bar say what it would be by chance.
    """
    figure, (axis,) = panels(1, 4.4, 2.4)
    layers = by_layer(summaries)
    bars = {"semimatching": "mean_best_r"} | ({} if look_of(method) == look_of("semimatching") else {method: "mean_r"})
    width = 0.8 / len(bars)
    for place, (name, key) in enumerate(bars.items()):
        look, shift = look_of(name), (place - (len(bars) - 1) / 2) * width
        for x, (layer, scalars) in enumerate(layers.items()):
            first = place == x == 0  # what the legend says once
            values = _values([summary for summary in summaries if summary["layer"] == layer], key)
            label = look.words if x == 0 else None
            fill: dict[str, Any] = {"color": pale(look.colour), "ec": look.colour, "lw": 0.8, "label": label}
            axis.bar(x + shift, np.mean(values), width * 0.88, **fill)
            spread = np.linspace(-0.3, 0.3, len(values)) * width if len(values) > 1 else np.zeros(1)
            label = "a pair of nets" if first else None
            axis.plot(x + shift + spread, values, "o", ms=2.2, mfc="white", mec=look.colour, mew=0.7, label=label)
            ends = [x + shift - width * 0.44, x + shift + width * 0.44]
            for null, style in NULLS.items():
                if (chance := scalars.get(f"{key}_{null}")) is not None:
                    axis.plot(ends, [chance, chance], label=null_words(null) if first else None, **style)
        if key == "mean_r" or len(bars) == 1:
            _errors(axis, layers, shift, look.words)
    name_layers(axis, list(layers))
    axis.set(ylabel="mean correlation with the partner", ylim=(0, 1))
    legend_below(figure, columns=3)
    return figure


def _values(summaries: Sequence[dict[str, Any]], key: str) -> list[float]:
    """A scalar of every pair of nets; of both directions but one where they never differ, as in a matching."""
    value = {(summary["a"], summary["b"]): summary.get(key, 0.0) for summary in summaries}
    back = {pair: value.get(pair[::-1], np.nan) for pair in value}
    if all(np.isclose(value[pair], back[pair], rtol=0, atol=1e-9) for pair in value):
        value = {pair: of_pair for pair, of_pair in value.items() if pair[0] < pair[1]}
    return list(value.values())


def _errors(axis: Axes, layers: Mapping[str, Mapping[str, Any]], shift: float, words: str) -> None:
    """The interval of the method's mean, where there is one: over nets, else over images."""
    for kind, over in {"_nets": "nets", "": "images"}.items():
        points = [
            (x + shift, *(scalars[f"mean_r{part}"] for part in ("", f"{kind}_low", f"{kind}_high")))
            for x, scalars in enumerate(layers.values())
            if {"mean_r", f"mean_r{kind}_low"} <= scalars.keys() and (kind or "mean_r_nets_low" not in scalars)
        ]
        label = f"95% over {over}, {words}"
        error_marks(axis, points, color="black", lw=1, capsize=2.5, ls="", label=label)
