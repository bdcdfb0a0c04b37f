"""The sheet that figures are drawn on: panels in a grid, a legend below, scales of layers, saving."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cbook import is_math_text
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.image import AxesImage
from matplotlib.textpath import text_to_path
from matplotlib.ticker import FuncFormatter, LogFormatterMathtext, LogLocator, NullFormatter, NullLocator
from numpy.typing import ArrayLike

from convergent.figures.style import brief_layers

P = ParamSpec("P")
R = TypeVar("R", Figure, "Figure | None")

_ACROSS = 4  # panels in a row
_SMALL = 7.0  # points of a legend's letters
_RC: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "legend.fontsize": _SMALL,
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


def panels(
    count: int, width: float, height: float, ylabel: str = "", widest: float = 0.0, **options: Any
) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels of so many inches, at most four in a row, wider ones if the title needs `widest` inches.

    `ylabel` is said once a row; `options` are those of `subplots`.
    """
    columns = max(1, min(_ACROSS, count))
    rows, width = -(-count // columns), max(width, widest / columns)
    figure = Figure(figsize=(columns * width, rows * height), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False, **options).flat)
    for axis in axes[count:]:
        axis.set_visible(False)
    for axis in axes[:count:columns] if ylabel else ():
        axis.set_ylabel(ylabel)
    return figure, axes[:count]


def legend_below(figure: Figure, extra: Iterable[Artist] = (), columns: int = _ACROSS) -> None:
    """A legend under all panels of what their legends would say, each thing once, then `extra` entries; the figure grows.

    It has so many columns if these have room beside each other.
    """
    labelled = {label: handle for axis in figure.axes for handle, label in zip(*axis.get_legend_handles_labels())}
    handles = [*labelled.values(), *extra]
    font, words = FontProperties(size=_SMALL), [str(handle.get_label()) for handle in handles]
    widths = [text_to_path.get_text_width_height_descent(text, font, is_math_text(text))[0] for text in words]
    wide = [1.06 * width / 72 for width in widths]  # hinted letters are somewhat wider
    room, between = figure.get_figwidth(), 5.2 * _SMALL / 72  # a handle with its spaces takes some five letters

    def needed(columns: int) -> float:
        down = np.array_split(wide, columns)  # as matplotlib fills them
        return sum(max(column, default=0.0) + between for column in down)

    columns = next(
        number for number in range(max(1, min(columns, len(handles))), 0, -1) if number == 1 or needed(number) <= room
    )
    figure.set_figwidth(max(room, needed(columns)))
    figure.set_figheight(figure.get_figheight() + 0.16 * -(-len(handles) // columns))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=_SMALL)


def over_pairs(rows: Iterable[Mapping[str, Any]], key: str) -> tuple[float, float, float] | None:
    """Mean, least and greatest of a scalar over the pairs of nets that have it; None if none has."""
    values = [row[key] for row in rows if row.get(key) is not None]
    return (float(np.mean(values)), min(values), max(values)) if values else None


def points_over_pairs(
    groups: Mapping[Any, Iterable[Mapping[str, Any]]], key: str
) -> list[tuple[float, float, float, float]]:
    """(x, mean, least, greatest) of a scalar over the pairs of nets, of each x with some; see `over_pairs`."""
    return [(x, *values) for x, rows in groups.items() if (values := over_pairs(rows, key))]


def band(axis: Axes, x: ArrayLike, low: ArrayLike, high: ArrayLike, colour: str, label: str | None = None) -> None:
    """A pale area from low to high."""
    axis.fill_between(x, low, high, color=colour, alpha=0.18, lw=0, label=label)


def heatmap(axis: Axes, matrix: Any, end: float = 1.0, aspect: Any = "equal", **words: Any) -> AxesImage:
    """A matrix as framed pixels, blue to red from -end to end; `words` are properties of the axes, such as titles."""
    axis.set(**words)
    axis.spines[:].set_visible(True)
    return axis.imshow(matrix, vmin=-end, vmax=end, cmap="RdBu_r", interpolation="nearest", aspect=aspect)


def error_marks(axis: Axes, points: Sequence[tuple[float, float, float, float]], **style: Any) -> None:
    """Marks at (x, mean), with bars from the least to the greatest; points are (x, mean, least, greatest)."""
    if points:
        at, mean, low, high = (np.array(column) for column in zip(*points))
        axis.errorbar(at, mean, np.maximum(0, (mean - low, high - mean)), **style)


def name_layers(axis: Axes, layers: Sequence[str], most: int = 12) -> None:
    """Put a layer's name under each whole number."""
    axis.set_xticks(range(len(layers)), brief_layers(layers, most))
    axis.set_xlim(-0.5, len(layers) - 0.5)


def log_ticks(axis: Axis) -> None:
    """Ticks of a logarithmic axis, as many as its range has room for: plain 1, 2, 5 over few decades, else powers of ten."""
    low, high = sorted(axis.get_view_interval())
    decades = float(np.log10(high / low)) if low > 0 else np.inf
    if decades > 3:
        axis.set_major_locator(LogLocator(numticks=5))
        axis.set_major_formatter(LogFormatterMathtext())
        axis.set_minor_locator(NullLocator())
    else:
        subs = (1.0, 2.0, 5.0) if decades < 1.4 else (1.0, 3.0) if decades < 2 else (1.0,)
        axis.set_major_locator(LogLocator(subs=subs))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_locator(LogLocator(subs=range(2, 10)))
        axis.set_minor_formatter(NullFormatter())


def save(figure: Figure, folder: Path, name: str) -> Path:
    """Save as vector PDF and as PNG; returns the PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(_RC):
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # laid out once, not once per format
        figure.savefig(folder / f"{name}.pdf", metadata={"CreationDate": None})
        figure.savefig(folder / f"{name}.png", dpi=200)
    return folder / f"{name}.png"
