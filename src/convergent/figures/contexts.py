"""Units of language models side by side: the text around the tokens that excite each most, the token marked."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from convergent.core.alignment import Alignment
from convergent.figures.grid import styled
from convergent.streaming.unit_contexts import Excerpt, UnitContexts

_SIZE = 6.5  # points of the letters, all of one width
_LEFT, _RIGHT = 36, 26  # letters before the token; of the token and after it
_MARK = "#ffd27f"


@styled
def contexts(alignment: Alignment, a: UnitContexts, b: UnitContexts, shown: int = 6, each: int = 3) -> Figure:
    """The units of b with the highest correlation with their partner, beside that partner in a."""
    pair, r_b, partner_b = alignment.pair, alignment.r_b, alignment.partner_b
    order = r_b.argsort(descending=True, stable=True)
    units = order[(partner_b[order] >= 0) & pair.active_b[order]][:shown].tolist()
    letter, column = 0.602 * _SIZE / 72, _LEFT + _RIGHT + 3  # inches, of DejaVu Sans Mono; letters
    lines = 1 + len(units) * (each + 1.4)
    figure = Figure(figsize=(2 * column * letter, (lines + 1.2) * 0.135))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(0, 2 * column), ylim=(lines, -1.2))
    axis.axis("off")
    for side, name in enumerate((pair.name_b, pair.name_a)):
        axis.text(side * column + 1, -0.3, name, size=8, weight="bold", va="center")
    for row, unit in enumerate(units):
        top = 1 + row * (each + 1.4)
        partner = int(partner_b[unit])
        for side, (number, of) in enumerate(((unit, b), (partner, a))):
            text = f"unit {number}" + (f", r = {float(r_b[unit]):.2f}" if not side else "")
            axis.text(side * column + 1, top - 0.1, text, size=7, color="0.35", va="center")
            for line, excerpt in enumerate(of.of(number, each)):
                _write(axis, side * column + _LEFT, top + 1 + line, excerpt)
    return figure


def _write(axis: Axes, x: float, y: float, excerpt: Excerpt) -> None:
    style: dict[str, Any] = {"size": _SIZE, "family": "DejaVu Sans Mono", "va": "center", "parse_math": False}
    before, token = excerpt.before[-_LEFT + 2 :], excerpt.token[: _RIGHT - 2]
    axis.text(x, y, before, ha="right", color="0.25", **style)
    axis.fill_between([x, x + len(token)], y - 0.46, y + 0.46, color=_MARK, lw=0)
    axis.text(x, y, token, ha="left", **style)
    axis.text(x + len(token), y, excerpt.after[: _RIGHT - len(token) - 1], ha="left", color="0.25", **style)
