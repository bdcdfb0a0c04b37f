"""What all figures share, and the page with them: sizes, words, colours that the colour-blind tell apart; and saving."""

from __future__ import annotations

import functools
import re
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogFormatterMathtext, LogLocator, NullFormatter, NullLocator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

P = ParamSpec("P")
R = TypeVar("R", Figure, "Figure | None")

# Of layers, nets and kinds, in this order. Those of Okabe and Ito 2008 that white paper does not swallow (a contrast of 3
# and more), then darker ones that stay apart from them and each other in the three kinds of colour vision deficiency.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#320096", "#7D3219", "#964BFA", "#000000")


class Look(NamedTuple):
    """How a method is drawn, wherever it is drawn."""

    words: str
    colour: str
    mark: str


# A method looks the same in every figure, on the page and in W&B, whatever stands beside it.
_METHODS = {
    "matching": Look("matching", "#0072B2", "s"),
    "semimatching": Look("semi-matching", "#D55E00", "o"),
    "mutual_information": Look("mutual information", "#009E73", "D"),
    "sparse": Look("sparse", "#CC79A7", "^"),
    "sparse_path": Look("sparse path", "#4B004B", "v"),
    "spectral": Look("spectral", "#964BFA", "P"),
    "hierarchical_spectral": Look("hierarchical spectral", "#320096", "X"),
    "spectral_paper": Look("spectral (paper)", "#7D3219", "p"),
    "least_squares": Look("least squares", "#000000", "h"),
}
_OTHERS = ("#5D5D5D", "#8A6D00", "#B0005E", "#00706B", "#A8501C")  # of methods that are not ours, by their name


def look_of(result: str) -> Look:
    """How the method of a result is drawn, and what the result is called; settings follow the method's name.

    >>> look_of("least_squares").words, look_of("sparse,alpha=0.1").words, look_of("my_own").words
    ('least squares', 'sparse, alpha=0.1', 'my own')
    """
    method, *settings = re.sub(r",images=[^,]*", "", result).split(",")
    number = zlib.crc32(method.encode())  # the same in every process
    other = Look(method.replace("_", " "), _OTHERS[number % len(_OTHERS)], "<>dH*"[number % 5])
    look = _METHODS.get(method, other)
    return look._replace(words=", ".join([look.words, *settings]))


def in_order(results: Iterable[str]) -> list[str]:
    """Results as methods are listed, of fewer partners first; those of methods that are not ours last."""
    place = {method: number for number, method in enumerate(_METHODS)}
    return sorted(results, key=lambda result: (place.get(result.split(",")[0], len(place)), result))


# How what chance gives is drawn, by the null's name; and what it is called.
NULLS: dict[str, dict[str, Any]] = {
    "rotated": {"color": "black", "ls": (0, (4, 2)), "lw": 0.9},
    "rotated_after": {"color": "0.55", "ls": (0, (4, 2)), "lw": 0.9},
    "shuffled": {"color": "black", "ls": (0, (1, 2)), "lw": 0.9},
}
_NULL_WORDS = {
    "rotated": "random rotation",
    "rotated_after": "random rotation of activations",
    "shuffled": "shuffled images",
}
NULL_MEANINGS = {
    "rotated": "one net's pre-activations are rotated at random before the nonlinearity, each unit's mean and variance "
    "kept: the same space on random axes",
    "rotated_after": "one net's activations are rotated at random: the same space, but no rectified units, so that real "
    "axes exceed it even where they mean nothing",
    "shuffled": "each net reads the images in an order of its own: what is left is what any two nets have in common",
}


def null_words(null: str) -> str:
    """What a null is called.

    >>> null_words("rotated"), null_words("shuffled")
    ('random rotation', 'shuffled images')
    """
    return _NULL_WORDS.get(null, null.replace("_", " "))


def null_mark(null: str, look: Look) -> dict[str, Any]:
    """How a method's own null is marked beside it: hollow where the space is the same, a dash where images are not.

    A dot is the rotation of activations, which leaves no rectified units.
    """
    if null == "shuffled":
        return {"marker": "_", "ms": 6, "mew": 1.1, "color": look.colour}
    if null == "rotated_after":
        return {"marker": ".", "ms": 4, "color": look.colour}
    return {"marker": look.mark, "ms": 4, "mew": 0.9, "color": look.colour, "mfc": "white"}


def null_handles(nulls: Sequence[str]) -> list[Line2D]:
    """Entries of a legend for the marks of nulls."""
    grey = Look("", "0.35", "o")
    return [Line2D([], [], ls="", label=f"the same with {null_words(null)}", **null_mark(null, grey)) for null in nulls]


def brief(name: str, most: int = 12) -> str:
    """A name that fits: its beginning and, as names differ there, more of its end.

    >>> brief("seed=0"), brief("resnet18_pretrained,seed=0")
    ('seed=0', 'resn…,seed=0')
    """
    return name if len(name) <= most else f"{name[: most // 3]}…{name[most // 3 + 1 - most :]}"


def pale(colour: str, share: float = 0.4) -> tuple[float, float, float]:
    """A colour on its way to white, for areas on which something is to be read."""
    red, green, blue = (1 - share * (1 - part) for part in to_rgb(colour))
    return red, green, blue


def log_ticks(axis: Axis) -> None:
    """Ticks of a logarithmic axis, as many as its range has room for: plain 1, 2, 5 over few decades, else powers of ten."""
    low, high = sorted(axis.get_view_interval())
    decades = float(np.log10(high / low)) if low > 0 else np.inf
    if decades > 3:
        axis.set_major_locator(LogLocator(numticks=5))
        axis.set_major_formatter(LogFormatterMathtext())
        axis.set_minor_locator(NullLocator())
    else:
        axis.set_major_locator(
            LogLocator(subs=(1.0, 2.0, 5.0) if decades < 1.4 else (1.0, 3.0) if decades < 2 else (1.0,))
        )
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_locator(LogLocator(subs=range(2, 10)))
        axis.set_minor_formatter(NullFormatter())


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


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Mark a function that draws a figure: everything in it has the common style."""

    @functools.wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> R:
        with mpl.rc_context(_RC):
            return draw(*args, **kwargs)

    return drawn


def panels(rows: int, columns: int, width: float, height: float, **how: Any) -> tuple[Figure, list[Axes]]:
    """A figure of `rows` x `columns` panels, each `width` x `height` inches, row by row."""
    figure = Figure(figsize=(columns * width, rows * height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **how)
    return figure, list(axes.flat)


def panel_each(
    count: int, width: float, height: float, ylabel: str, widest: float = 4.4, **how: Any
) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels side by side, at most four in a row; the first of a row says what is up.

    Args:
        count: of panels.
        width: of a panel in inches, if that makes the figure as wide as its legend.
        height: of a panel.
        ylabel: what the vertical axes are.
        widest: what the legend and title need.
        **how: to `subplots`.
    """
    columns = max(1, min(4, count))
    figure, axes = panels(-(-count // columns), columns, max(width, widest / columns), height, **how)
    for axis in axes[count:]:
        axis.set_visible(False)
    for axis in axes[:count:columns]:
        axis.set_ylabel(ylabel)
    return figure, axes[:count]


def legend_below(figure: Figure, handles: Iterable[Artist], columns: int = 3) -> None:
    """A legend under all panels, for which the figure grows."""
    handles = list(handles)
    figure.set_figheight(figure.get_figheight() + 0.16 * -(-len(handles) // columns))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)


def once(axes: Iterable[Axes]) -> list[Artist]:
    """What the panels' legends would say, each thing once."""
    labelled = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels())}
    return list(labelled.values())


def save(figure: Figure, folder: Path, name: str) -> Path:
    """Save as vector PDF and as PNG; returns the PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(_RC):
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # laid out once, not once per format
        figure.savefig(folder / f"{name}.pdf", metadata={"CreationDate": None})
        figure.savefig(folder / f"{name}.png", dpi=200)
    return folder / f"{name}.png"
