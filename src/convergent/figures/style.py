"""What all figures share: size, colours that the colour-blind tell apart, and how they are saved."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, ParamSpec

import matplotlib as mpl
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from matplotlib.axes import Axes

P = ParamSpec("P")

# Okabe and Ito 2008: eight colours for the three kinds of colour vision deficiency.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")

# How what chance gives is drawn, by the null's name.
NULLS: dict[str, dict[str, Any]] = {
    "rotated": {"color": "black", "ls": (0, (4, 2)), "lw": 0.9},
    "permuted": {"color": "black", "ls": (0, (1, 2)), "lw": 0.9},
}

_RC: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "legend.fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.2,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # text stays text in PDF
}


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Mark a function that draws a figure: everything in it has the common style."""

    @functools.wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with mpl.rc_context(_RC):
            return draw(*args, **kwargs)

    return drawn


def panels(rows: int, columns: int, width: float, height: float, **how: Any) -> tuple[Figure, list[Axes]]:
    """A figure of `rows` x `columns` panels, each `width` x `height` inches, row by row."""
    figure = Figure(figsize=(columns * width, rows * height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **how)
    return figure, list(axes.flat)


def save(figure: Figure, folder: Path, name: str) -> Path:
    """Save as vector PDF and as PNG; returns the PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(_RC):
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # laid out once, not once per format
        figure.savefig(folder / f"{name}.pdf", metadata={"CreationDate": None})
        figure.savefig(folder / f"{name}.png", dpi=200)
    return folder / f"{name}.png"
