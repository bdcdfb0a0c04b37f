"""The sparse mapping between two nets: in the original order, aligned, and as a tree of both nets' units.

Source: Li et al. 2016, figures 5 and 6.
"""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray
from scipy.cluster.hierarchy import dendrogram

from convergent.analysis.reports import Report
from convergent.analysis.tree import Tree
from convergent.core.alignment import Alignment
from convergent.figures.correlations import aligned_order
from convergent.figures.grid import heatmap, legend_below, panels, styled
from convergent.figures.style import COLOURS, brief

_ZOOMS = 3  # clusters shown on their own
_NEGATIVE = "#555555"


@styled
def mapping_figure(alignment: Alignment, reports: Sequence[Report]) -> Figure | None:
    """The mapping W, a's units down, b's across, in the original order and with b's units beside their main predictor."""
    if not any(report.tree for report in reports):
        return None
    pair = alignment.pair
    figure, axes = panels(2, 2.9, 2.6)
    order_a, order_b = aligned_order(alignment)
    weight = alignment.map_ab
    end = max(float(weight.abs().max()), 1e-6)
    words = {
        "xlabel": f"unit of {brief(pair.name_b)}, predicted",
        "ylabel": f"unit of {brief(pair.name_a)}, predicting",
    }
    weights = {"original order": weight, "aligned, best first": weight[order_a][:, order_b]}
    for axis, letter, (title, shown) in zip(axes, "ab", weights.items()):
        image = heatmap(axis, shown.numpy(), end, "auto", title=f"({letter}) {title}", **words)
    figure.colorbar(image, ax=axes, shrink=0.8, pad=0.02, label="weight")
    used = float(alignment.predictors_b.double().mean())
    figure.suptitle(f"{pair.layer}: sparse mapping, {used:.1f} predictors per unit", fontsize=9)
    return figure


@styled
def tree_figure(alignment: Alignment, reports: Sequence[Report]) -> Figure | None:
    """The tree beside B in leaf order, each pixel coloured by its nets, and the most similar balanced clusters enlarged."""
    if not any(report.tree for report in reports):
        return None
    tree, pair = Tree.of(alignment), alignment.pair
    zooms = tree.balanced()[:_ZOOMS]
    figure = Figure(figsize=(7.6, 4.4), layout="constrained")
    grid = figure.add_gridspec(max(1, len(zooms)), 3, width_ratios=(1.0, 3.2, 1.35 if zooms else 0.01))
    order, pixels = tree.order, _coloured(tree)
    branches, middle = figure.add_subplot(grid[:, 0]), figure.add_subplot(grid[:, 1])
    _draw_branches(branches, tree)
    extent = (0, len(order), len(order), 0)
    middle.imshow(pixels[order][:, order], interpolation="nearest", aspect="auto", extent=extent)
    middle.set(xlabel=f"units of {pair.name_a} and {pair.name_b}, in the order of the tree", yticks=[])
    middle.spines[:].set_visible(True)
    place = np.argsort(order)
    for number, (_, members) in enumerate(zooms):
        first, size = int(place[members].min()), len(members)
        middle.add_patch(Rectangle((first, first), size, size, fill=False, lw=0.8, ec="black"))
        middle.annotate("ABC"[number], (first + size, first), fontsize=7, fontweight="bold")
        _draw_cluster(figure.add_subplot(grid[number, 2]), tree, order[first : first + size], pixels, "ABC"[number])
    of_nets = [f"within {brief(pair.name_a, 24)}", f"within {brief(pair.name_b, 24)}"]
    labels = [*of_nets, "between, positive weight", "between, negative"]
    legend_below(figure, [Patch(color=colour, label=label) for colour, label in zip((*COLOURS[:3], _NEGATIVE), labels)])
    weights = int(alignment.predictors_b.sum())
    title = f"{pair.layer}: tree of the sparse mapping {pair.name_a} → {pair.name_b}, {weights} weights"
    figure.suptitle(title, fontsize=9)
    return figure


def _draw_branches(axis: Axes, tree: Tree) -> None:
    if len(tree.links):
        with mpl.rc_context({"lines.linewidth": 0.5}):
            drawn: dict[str, Any] = dendrogram(tree.links, no_plot=True)
        for x, y in zip(drawn["icoord"], drawn["dcoord"]):
            axis.plot(tree.top - np.array(y), np.array(x) / 10, color="0.25", lw=0.5)
    axis.set(ylim=(len(tree.units), 0), xlabel="mean similarity", yticks=[])
    axis.spines["left"].set_visible(False)


def _draw_cluster(axis: Axes, tree: Tree, members: NDArray[np.int64], pixels: NDArray[np.float64], letter: str) -> None:
    axis.imshow(pixels[members][:, members], interpolation="nearest")
    for row, u in enumerate(members):
        for column, v in enumerate(members):
            if tree.similarity[u, v] and u != v and len(members) <= 6:
                weight = f"{tree.similarity[u, v]:.2f}".replace("0.", ".")
                axis.text(column, row, weight, ha="center", va="center", fontsize=5)
    names = [f"{'b' if tree.of_b[u] else 'a'}{tree.units[u]}" for u in members]
    axis.set_xticks([])
    axis.set_yticks(range(len(members)), names, fontsize=5)
    for label, u in zip(axis.get_yticklabels(), members):
        label.set_color(COLOURS[1] if tree.of_b[u] else COLOURS[0])
    axis.set_title(letter, fontsize=7, fontweight="bold", loc="left", pad=2)
    axis.spines[:].set_visible(True)


def _coloured(tree: Tree) -> NDArray[np.float64]:
    """B as a picture: white for 0, the colour of the nets that meet, the paler the smaller; shape (u, u, 3)."""
    side = tree.of_b.astype(int)
    kind = np.where(side[:, None] == side, side[:, None], 2)
    kind = np.where(tree.similarity < 0, 3, kind)
    colours = np.array([to_rgb(colour) for colour in (*COLOURS[:3], _NEGATIVE)])[kind]
    strength = np.clip(np.abs(tree.similarity), 0, 1)[..., None] ** 0.6
    return np.asarray(1 - strength * (1 - colours))
