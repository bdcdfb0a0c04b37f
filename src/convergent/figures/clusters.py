"""The correlations of both nets' units put into clusters.

Source: Li et al. 2016, figure S5.
"""

import numpy as np
import torch
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from convergent.core.alignment import Alignment
from convergent.figures.grid import heatmap, legend_below, panels, styled
from convergent.figures.style import COLOURS


@styled
def clusters(alignment: Alignment) -> Figure | None:
    """The combined matrix of correlations, in the original order and in clusters, the bars saying whose units they are.

    Frames are the clusters, the largest first, within each a's units first; units in no cluster come last.
    """
    pair = alignment.pair
    if alignment.labels_a is None or alignment.labels_b is None:
        return None
    label_u = torch.cat([alignment.labels_a, alignment.labels_b]).numpy()
    net_u = np.repeat([0, 1], [pair.p, pair.q])
    upper = torch.cat([pair.corr_aa, pair.corr_ab], 1)
    corr_uu = torch.cat([upper, torch.cat([pair.corr_ab.T, pair.corr_bb], 1)], 0).numpy()
    order_u = np.lexsort((net_u, np.where(label_u < 0, label_u.max() + 1, label_u)))
    figure, axes = panels(2, 3.1, 3.2)
    for axis, order, title in zip(axes, (np.arange(len(net_u)), order_u), ("(a) original order", "(b) in clusters")):
        shown = heatmap(axis, corr_uu[np.ix_(order, order)], title=title, xticks=[], yticks=[])
        for place, extent in (
            ((-0.04, 0, 0.025, 1), (0, 1, len(order), 0)),
            ((0, -0.04, 1, 0.025), (0, len(order), 1, 0)),
        ):
            bar = axis.inset_axes(place)
            whose = net_u[order][:, None] if place[0] < 0 else net_u[order][None]
            bar.imshow(whose, cmap=ListedColormap(COLOURS[:2]), vmin=0, vmax=1, aspect="auto", extent=extent,
                       interpolation="nearest")  # fmt: skip
            bar.set_axis_off()
    first = 0
    for size in np.bincount(label_u[label_u >= 0]):
        axes[1].add_patch(Rectangle((first - 0.5, first - 0.5), size, size, fill=False, ec="black", lw=0.6))
        first += size
    figure.colorbar(shown, ax=axes, shrink=0.7, pad=0.01, label="correlation")
    aside = int((label_u < 0).sum())
    legend_below(figure, [Patch(color=colour, label=name) for colour, name in zip(COLOURS, (pair.name_a, pair.name_b))])
    text = f"{label_u.max() + 1} clusters" + (f", {aside} units in no cluster" if aside else "")
    figure.suptitle(f"{pair.layer}: correlation of the units of both nets, {text}", fontsize=9)
    return figure
