"""What lies between two nets on the straight line between their weights.

Source: Ainsworth et al. 2023, figure 2; Jordan et al. 2023, figure 1.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from convergent.figures.grid import band, legend_below, log_ticks, panels, styled
from convergent.figures.style import Look, look_of

_LOOKS = {
    "none": Look("as they come", "#000000", ""),
    "random": Look("random order", "#8C8C8C", ""),
    "covariance": Look("covariance", "#D55E00", ""),
    "weights": Look("weights (Git Re-Basin)", "#009E73", ""),
    "consensus": Look("consensus of all nets", "#964BFA", ""),
    "zip": Look("zip: merged within nets, too", "#CC79A7", ""),
}
_PANELS = (
    ("loss", 0, "loss (nats)"),
    ("loss", 1, "loss, repaired"),
    ("accuracy", 0, "accuracy"),
    ("accuracy", 1, "accuracy, repaired"),
)


def look_of_alignment(name: str) -> Look:
    """How an alignment is drawn and called: as the method it is, or by its word."""
    return _LOOKS.get(name) or look_of(name)


@styled
def merging(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Loss and accuracy on held-out images along the line, by alignment, without and with REPAIR.

    Curves are means over the pairs of nets, bands, of the first alignment and of none, from the least to the greatest pair;
    zipped nets have a middle only.
    Loss has one logarithmic scale; accuracy has one of its own where nets are repaired.

    Args:
        rows: of `line_columns.PLACE`.
    """
    shown = [panel for panel in _PANELS if any(row["repair"] == panel[1] for row in rows)]
    figure, axes = panels(len(shown), 2.0, 1.9)
    for axis, (name, repair, title) in zip(axes, shown):
        for alignment in dict.fromkeys(row["alignment"] for row in rows):
            lines: dict[float, list[float]] = {}
            for row in rows:
                if row["alignment"] == alignment and row["repair"] == repair:
                    lines.setdefault(row["share_b"], []).append(row[name])
            share, values = np.array(list(lines)), np.array(list(lines.values()))
            look = look_of_alignment(alignment)
            dashes: Any = (0, (1, 1.4)) if alignment == "random" else "-"
            if len(share) > 3:
                axis.plot(share, values.mean(1), color=look.colour, label=look.words, ls=dashes)
            else:  # there is nothing between the ends but a middle
                middle = share == 0.5
                axis.plot(share[middle], values[middle].mean(1), "D", ms=4, color=look.colour, label=look.words)
                continue
            if alignment in (rows[0]["alignment"], "none"):
                band(axis, share, values.min(1), values.max(1), look.colour)
        axis.set(title=title, xlabel="share of net b", xlim=(0, 1), xticks=[0, 0.5, 1], xticklabels=["0", "0.5", "1"])
        if name == "loss":
            losses = [row["loss"] for row in rows]
            axis.set_yscale("log")
            axis.set_ylim(0.8 * min(losses), 1.2 * max(losses))
            log_ticks(axis.yaxis)
        else:
            axis.set_ylim(None, 1)
    legend_below(figure, columns=6)
    return figure
