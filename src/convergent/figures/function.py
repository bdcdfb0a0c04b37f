"""Explained and kept: how much of a layer's variance a map explains, and how much of the net's decisions it keeps."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from convergent.analysis.reports import Report
from convergent.figures.grid import legend_below, over_pairs, panels, styled
from convergent.figures.style import Look, brief, in_order, look_of

# How the controls of a method are marked beside it, and what they are called.
_CONTROLS = {"untrained": "from an untrained net", "rotated": "from a randomly rotated net"}
_LEAST = -0.05  # of the variance explained, where marks of less are put
_PERMUTED = Look("random permutation", "0.5", "*")

Rows = Sequence[Mapping[str, Any]]


@styled
def function(reports: Sequence[Report], method: str) -> Figure | None:
    """The figure of one method and of what it is read beside.

    Args:
        reports: some with a table `function`, see `function.judgement`.
        method: its name.
    """
    rows = [{"layer": of.layer, **row} for of in reports for row in of.tables.get("function", ())]
    return explained_and_kept({method: rows}) if rows else None


@styled
def explained_and_kept(rows: Mapping[str, Rows]) -> Figure:
    """A panel per layer: variance explained on held-out images across, kept upwards, a mark per method and its controls.

    Marks are means over all ordered pairs of nets, bars reach from the least to the greatest pair; predictions have their
    units' variance restored. Filled: from the other trained net; hollow: the same from an untrained net; a cross: from
    a randomly rotated one, to which a line leads.

    Args:
        rows: by the method's name, with the layer, the map, whether variance is restored, and what came of it.
    """
    layers = list(dict.fromkeys(row["layer"] for of_method in rows.values() for row in of_method))
    figure, axes = panels(len(layers), 1.95, 2.2, "decisions kept", 6.0, sharey=True)
    drawn: set[str] = set()
    for axis, layer in zip(axes, layers):
        for look, points in _marks(rows, layer):
            for control, (x, y) in points.items():
                drawn.add(control)
                bars: dict[str, Any] = (
                    {"xerr": [[x[0] - x[1]], [x[2] - x[0]]], "yerr": [[y[0] - y[1]], [y[2] - y[0]]]}
                    if not control
                    else {}
                )
                label = look.words if not control else None
                at = max(x[0], _LEAST)
                axis.errorbar(at, y[0], **bars, **_style(look, control), ls="", elinewidth=0.6, label=label)
                if at > x[0]:  # far outside, which says no more than that nothing is explained
                    axis.annotate(
                        "",
                        (at, y[0]),
                        (at - 0.1, y[0]),
                        arrowprops={"arrowstyle": "<-", "lw": 0.8, "shrinkA": 0, "shrinkB": 3},
                    )
            if {"", "rotated"} <= points.keys():
                ends = [[points[name][side][0] for name in ("", "rotated")] for side in (0, 1)]
                axis.plot(*ends, color=look.colour, lw=0.6, zorder=1)
        axis.axhline(0, color="0.8", lw=0.6, zorder=0)
        axis.axhline(1, color="0.8", lw=0.6, zorder=0)
        axis.set(
            title=brief(layer, 24), xlabel="variance explained, held out", xlim=(min(-0.05, axis.get_xlim()[0]), 1.02)
        )
    axes[0].set_ylim(max(-0.3, min(axis.get_ylim()[0] for axis in axes)), 1.05)
    grey = Look("", "0.35", "o")
    handles = [
        Line2D([], [], ls="", label=words, **_style(grey, control))
        for control, words in _CONTROLS.items()
        if control in drawn
    ]
    legend_below(figure, handles)
    return figure


def _marks(rows: Mapping[str, Rows], layer: str) -> Iterator[tuple[Look, dict[str, Any]]]:
    """Each method, then what all are read beside: (mean, least, greatest) of both axes by control."""
    common: Rows = next(iter(rows.values()))
    sets = [
        (look_of(name), rows[name], {"method": "", "rotated": "rotated", "untrained": "untrained"})
        for name in in_order(rows)
    ]
    if not any(name.split(",")[0] == "least_squares" for name in rows):
        names = {"least_squares": "", "least_squares_untrained": "untrained"}
        sets.append((look_of("least_squares"), common, names))
    sets.append((_PERMUTED, common, {"permuted": ""}))
    for look, some, names in sets:
        points = {}
        for name, control in names.items():
            of_map = [row for row in some if (row["layer"], row["map"], row["restored"]) == (layer, name, 1)]
            x, y = (over_pairs(of_map, column) for column in ("r2_held_out", "kept"))
            if x and y:
                points[control] = x, y
        yield look, points


def _style(look: Look, control: str) -> dict[str, Any]:
    if control == "rotated":
        return {"marker": "x", "ms": 4.5, "mew": 1.1, "color": look.colour, "zorder": 2}
    face = {"mfc": "white", "mew": 0.9} if control == "untrained" else {}
    return {
        "marker": look.mark,
        "ms": 5 if control == "" else 4.5,
        "color": look.colour,
        "zorder": 3 - bool(control),
        **face,
    }
