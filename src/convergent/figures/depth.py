"""At which depth partners are: the layers of one net's population against those of another's."""

from collections.abc import Sequence
from statistics import fmean

import numpy as np
from matplotlib.figure import Figure

from convergent.analysis.reports import Report
from convergent.figures.grid import panels, styled


@styled
def depth(reports: Sequence[Report]) -> Figure | None:
    """Of each layer's units the share whose best partner is in each layer of the other net, means over pairs of nets.

    Left the share of all units, right of those above chance.
    """
    tables = [report.tables["depth"] for report in reports if report.tables.get("depth") and not report.null]
    if not tables:
        return None
    rows = max(int(row["layer_b"]) for table in tables for row in table) + 1
    columns = max(int(row["layer_a"]) for table in tables for row in table) + 1
    figure, axes = panels(2, 0.34 * columns + 1.2, 0.34 * rows + 1.0, ylabel="layer of the unit")
    for axis, name, title in zip(axes, ("share", "share_above"), ("best partner in", "above chance in")):
        values: dict[tuple[int, int], list[float]] = {}
        for row in (row for table in tables for row in table):
            values.setdefault((int(row["layer_b"]), int(row["layer_a"])), []).append(float(row[name]))
        share_ij = np.zeros((rows, columns))
        for at, of in values.items():
            share_ij[at] = fmean(of)
        axis.imshow(share_ij, vmin=0, vmax=max(share_ij.max(), 1e-9), cmap="viridis")
        for (i, j), share in np.ndenumerate(share_ij) if columns <= 8 else ():
            dark = share < 0.6 * share_ij.max()
            axis.text(j, i, f"{share:.0%}", ha="center", va="center", size=6, color="white" if dark else "black")
        axis.set(xticks=range(columns), yticks=range(rows), xlabel="layer of the partner", title=title)
        axis.spines[:].set_visible(False)
        axis.tick_params(length=0)
    return figure
