"""Correlation matrices of two nets before and after alignment.

Source: Li et al. 2016, figure 1.
"""

from typing import Any

import torch
from matplotlib.figure import Figure

from convergent.core.alignment import Alignment
from convergent.figures.grid import heatmap, panels, styled
from convergent.figures.style import brief


@styled
def correlations(alignment: Alignment) -> Figure:
    """Within net a, within net b, between them in the original order, and with b's units put beside their partners.

    In the last panel both nets' units are sorted, best-aligned pair first, so a one-to-one alignment shows as a diagonal
    that fades; constant units and units without a partner come last.
    """
    pair = alignment.pair
    figure, axes = panels(4, 1.75, 2.0)
    order_a, order_b = aligned_order(alignment)
    a, b = brief(pair.name_a), brief(pair.name_b)
    images = (
        (pair.corr_aa, f"within {a}", a, a),
        (pair.corr_bb, f"within {b}", b, b),
        (pair.corr_ab, "between", b, a),
        (pair.corr_ab[order_a][:, order_b], "aligned, best first", f"{b}, by partner", a),
    )
    for axis, letter, (corr, title, across, down) in zip(axes, "abcd", images):
        words: dict[str, Any] = {
            "title": f"({letter}) {title}",
            "xlabel": f"unit of {across}",
            "ylabel": f"unit of {down}",
        }
        shown = heatmap(axis, corr.numpy(), **words)
    figure.colorbar(shown, ax=axes, shrink=0.62, pad=0.01, label="correlation")
    figure.suptitle(f"{pair.layer}: correlation of units over {pair.count:,} samples", fontsize=9)
    return figure


def aligned_order(alignment: Alignment) -> tuple[torch.Tensor, torch.Tensor]:
    """Orders of a's and b's units that put partners side by side, best first.

    Units of b follow their partners; units of a that are nobody's partner come last.
    """
    partner_b, r_b = alignment.partner_b, alignment.r_b
    best_a = torch.full((len(alignment.map_ab),), -torch.inf, dtype=r_b.dtype)
    matched = partner_b >= 0
    best_a.scatter_reduce_(0, partner_b[matched], r_b[matched], "amax")
    order_a = best_a.argsort(descending=True, stable=True)
    place_a = torch.empty_like(order_a)
    place_a[order_a] = torch.arange(len(order_a))
    place_b = torch.where(matched, place_a[partner_b.clamp(min=0)], len(order_a)).double()
    return order_a, (place_b - r_b / 4).argsort(stable=True)  # |r| <= 1: within a partner the best comes first
