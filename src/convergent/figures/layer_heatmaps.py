"""All layers of one net against all layers of another, a heat map for each measure of similarity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from convergent.figures.grid import panels, styled
from convergent.figures.measures import words_of
from convergent.figures.style import brief_layers, look_of

Rows = Sequence[Mapping[str, Any]]

_NUMBERED = 6  # layers whose values are written into the cells


@styled
def between_nets(layer_pairs: Rows, method: str) -> Figure | None:
    """Layers of net a (down) against layers of net b (across), means over the ordered pairs of nets.

    Lighter is more alike, also of distances. Last: how much of net b's variance the method explains on held-out images.
    """
    return _heatmaps([row for row in layer_pairs if row["a"] != row["b"]], method, "between nets")


@styled
def within_nets(layer_pairs: Rows, method: str) -> Figure | None:
    """The same of two layers of one net, means over the nets; a layer with itself is left out."""
    return _heatmaps([row for row in layer_pairs if row["a"] == row["b"]], method, "within nets")


def _heatmaps(rows: Rows, method: str, which: str) -> Figure | None:
    names = [name for name in words_of() if any(row.get(name) is not None for row in rows)]
    names += [name for name in ("r2_held_out",) if any(row.get(name) is not None for row in rows)]
    layers = list(dict.fromkeys(row[side] for row in rows for side in ("layer_a", "layer_b")))
    if not names or len(layers) < 2:
        return None
    ticks = brief_layers(layers)
    side = max(1.75, 0.24 * len(layers) + 0.6) + 0.07 * max(0, max(map(len, ticks)) - 6)  # inches, with the names
    figure, axes = panels(len(names), side, side)
    for axis, name in zip(axes, names):
        mean_ij = _mean(rows, name, layers)
        distance, title = words_of().get(name, (False, f"R² held out,\n{look_of(method).words}"))
        axis.imshow(mean_ij, cmap="viridis_r" if distance else "viridis")
        if len(layers) <= _NUMBERED:
            low, high = np.nanmin(mean_ij), np.nanmax(mean_ij)
            for (i, j), value in np.ndenumerate(mean_ij):
                bright = (value - low) / max(high - low, 1e-12) > 0.5
                colour = "black" if bright != distance else "white"
                if np.isfinite(value):
                    axis.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=6, color=colour)
        axis.set_xticks(range(len(layers)), ticks, rotation=90)
        axis.set_yticks(range(len(layers)), ticks)
        axis.set_title(title)
        axis.spines[:].set_visible(False)
        axis.tick_params(length=0)
    figure.suptitle(f"{which}: layers of net a (down) and of net b (across)", fontsize=8)
    return figure


def _mean(rows: Rows, name: str, layers: Sequence[str]) -> NDArray[np.float64]:
    """Means of a column for each two layers, shape (layers of a, layers of b); NaN where there is no row."""
    place = {layer: number for number, layer in enumerate(layers)}
    total_ij, count_ij = np.zeros((2, len(layers), len(layers)))
    for row in rows:
        if row.get(name) is not None:
            where = place[row["layer_a"]], place[row["layer_b"]]
            total_ij[where] += row[name]
            count_ij[where] += 1
    return np.divide(total_ij, count_ij, out=np.full_like(total_ij, np.nan), where=count_ij > 0)
