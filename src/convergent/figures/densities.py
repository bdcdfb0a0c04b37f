"""Joint densities of two pairs of units, a well and a badly matched one.

Source: Li et al. 2016, figure S1; there in equal bins of activation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from numpy.typing import NDArray

from convergent.analysis.reports import Report
from convergent.core.alignment import Alignment
from convergent.core.histogram_source import Counting, counting_of
from convergent.core.mutual_information import entropy
from convergent.figures.grid import panels, styled
from convergent.methods.mutual_information import histograms_of

_DOUBLINGS = 4  # of the scale, up and down


@dataclass(frozen=True, eq=False)
class Joint2D:
    """The joint histogram of two units.

    Attributes:
        title: what to say of it.
        names: of both units.
        count_ij: samples in each pair of bins, shape (bins, bins), rows for the first unit.
        edges: of either unit, shape (bins - 1,).
    """

    title: str
    names: tuple[str, str]
    count_ij: NDArray[np.int64]
    edges: tuple[NDArray[np.float64], NDArray[np.float64]]


def joints_of(alignment: Alignment, rows: Sequence[Mapping[str, Any]]) -> list[Joint2D]:
    """The joint histograms of the pairs of units with most and with least nats, from rows of the table `partners`.

    The least are those of a unit of b with the median entropy or more: that next to nothing is shared by a unit that is next
    to constant says nothing.
    """
    pair = alignment.pair
    counting = counting_of(alignment.method) or Counting()
    histograms, (first, second) = histograms_of(pair, counting.bins)
    entropy_b = entropy(histograms.counts_ui[histograms.units[second]])
    lively_b = entropy_b >= entropy_b[alignment.partner_b >= 0].median()
    worst = next(row for row in reversed(rows) if lively_b[row["unit"]])
    joints = []
    for row, title in ((rows[0], "best"), (worst, "worst")):
        a, b = row["partner"], row["unit"]
        edges = [histograms.edges_ue[histograms.units[net]][unit] for net, unit in ((first, a), (second, b))]
        joint = Joint2D(
            title=f"{title} pair: {row['nats']:.2f} nats, r = {row['r']:.2f}",
            names=(f"unit {a} of {pair.name_a}", f"unit {b} of {pair.name_b}"),
            count_ij=histograms.pair(first, second, slice(a, a + 1))[0, b].numpy().copy(),
            edges=(edges[0].double().numpy(), edges[1].double().numpy()),
        )
        joints.append(joint)
    return joints


@styled
def densities(alignment: Alignment, reports: Sequence[Report]) -> Figure | None:
    """A panel per pair of units: how many times more often they are seen together than independent units would be.

    Axes are ranks: a bin is as wide as its share of the samples, and its edges say the activation. So drawn, independent
    units are white throughout, the density integrates to one, and the mean of its logarithm is the mutual information. The
    wide first bin is the zeros of a rectified unit; cells without any sample are hatched.
    """
    rows = next((report.tables["partners"] for report in reports if "partners" in report.tables), None)
    if not rows:
        return None
    joints = joints_of(alignment, rows)
    figure, axes = panels(len(joints), 2.6, 2.5)
    for axis, joint in zip(axes, joints):
        shown = _draw(axis, joint)
    bar = figure.colorbar(shown, ax=axes, shrink=0.8, pad=0.02, extend="min")
    bar.set_ticks(range(-_DOUBLINGS, _DOUBLINGS + 1, 2), labels=["1/16", "1/4", "1", "4", "16"])
    bar.set_label("density, independent = 1")
    figure.suptitle(f"{alignment.pair.layer}: two units together", fontsize=9)
    return figure


def _draw(axis: Axes, joint: Joint2D) -> QuadMesh:
    share_ij = joint.count_ij / joint.count_ij.sum()
    of_i, of_j = share_ij.sum(1), share_ij.sum(0)
    some_i, some_j = of_i > 0, of_j > 0  # units of few distinct values have empty bins
    expected_ij = np.outer(of_i[some_i], of_j[some_j])
    with np.errstate(divide="ignore"):
        doublings_ij = np.log2(share_ij[some_i][:, some_j] / expected_ij)
    down, across = (np.concatenate([[0.0], np.cumsum(share[share > 0])]) for share in (of_i, of_j))
    axis.set_facecolor("0.93")
    axis.patch.set(hatch="////", edgecolor="0.75", lw=0)
    masked_ij = np.ma.masked_invalid(doublings_ij)
    shown = axis.pcolormesh(across, down, masked_ij, cmap="RdBu_r", vmin=-_DOUBLINGS, vmax=_DOUBLINGS, lw=0)
    shown.set_rasterized(True)
    _ticks(axis.xaxis, across, joint.edges[1][some_j[:-1]])
    _ticks(axis.yaxis, down, joint.edges[0][some_i[:-1]])
    axis.set(title=joint.title, ylabel=joint.names[0], xlabel=joint.names[1], xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axis.spines[:].set_visible(True)
    return shown


def _ticks(axis: Axis, place: NDArray[np.float64], edge: NDArray[np.float64]) -> None:
    """Activations at the bins' edges, as many as there is room for."""
    at: list[float] = []
    labels: list[str] = []
    for x, value in zip(place[1:], edge):
        if not at or x - at[-1] > 0.13:
            at.append(x)
            labels.append("0" if value == 0 else f"{value:.2g}")
    axis.set_ticks(at, labels=labels)
