"""Units side by side as pictures: matches, predictors, clusters, and the most and least active ones.

Each unit is shown by the image patches that excite it most; a pale patch stands for an image in which the unit is silent.

Axes: `a` units of net a, `b` units of net b, `k` patches of a unit.

Source: Li et al. 2016, figures 2, 5, S2, S6, S7, S11, S12.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from convergent.core.alignment import Alignment
from convergent.core.pairs import Pair
from convergent.figures.grid import styled
from convergent.streaming.patches import Patches

_SHARP = 24  # pixels that a tile is enlarged to at least, pixel by pixel
_GAP = (176, 198, 216)  # between patches and around them: no grey, so that white and black patches have an edge
_SILENT = (226, 234, 241)


@styled
def matches(alignment: Alignment, a: Patches, b: Patches, shown: int = 8) -> Figure:
    """The units of b with the highest and the lowest correlation with their partner, each above its partner in a."""
    pair, r_b, partner_b = alignment.pair, alignment.r_b, alignment.partner_b
    order = r_b.argsort(descending=True, stable=True)
    order = order[(partner_b[order] >= 0) & pair.active_b[order]]
    shown = min(shown, len(order) // 2) or len(order)
    sheet = _Sheet()
    for row, units in ((0, order[:shown]), (2.3, order[len(order) - shown :])):
        for column, unit in enumerate(units.tolist()):
            sheet.show(row, column, b, unit, f"r = {_rounded(r_b[unit])}")
            sheet.show(row + 1, column, a, int(partner_b[unit]))
        sheet.label(row, pair.name_b)
        sheet.label(row + 1, pair.name_a)
    return sheet.figure(f"{pair.layer}: best and worst matches, {pair.name_b} above {pair.name_a}")


@styled
def predictors(alignment: Alignment, a: Patches, b: Patches, shown: int = 5, each: int = 3) -> Figure:
    """Units of b, from the best to the worst explained, with the few units of a that have the largest weights."""
    pair = alignment.pair
    several = (alignment.predictors_b >= 2) & pair.active_b
    order = torch.where(several, alignment.score_b, -torch.inf).argsort(descending=True, stable=True)
    order = order[: int(several.sum())]
    chosen = order[torch.linspace(0, len(order) - 1, min(shown, len(order))).round().long()].tolist()
    sheet = _Sheet()
    for row, unit in enumerate(chosen):
        text = f"R² = {_rounded(alignment.score_b[unit])}, {int(alignment.predictors_b[unit])} units"
        sheet.show(row, 0, b, unit, text)
        weight_a = alignment.map_ab[:, unit]
        for column, predictor in enumerate(weight_a.abs().argsort(descending=True)[:each].tolist()):
            if weight_a[predictor] != 0:
                sheet.show(row, column + 1.5, a, predictor, f"weight {_rounded(weight_a[predictor])}")
    return sheet.figure(f"{pair.layer}: units of {pair.name_b}, and what predicts them in {pair.name_a}")


@styled
def clusters(alignment: Alignment, a: Patches, b: Patches, shown: int = 5, each: int = 5) -> Figure:
    """Clusters with units of both nets, those with the highest mean correlation between the nets first."""
    pair, labels_a, labels_b = alignment.pair, alignment.labels_a, alignment.labels_b
    assert labels_a is not None
    assert labels_b is not None
    rows = []
    for label in sorted(set(labels_a.tolist()) & set(labels_b.tolist()) - {-1}):
        of_a, of_b = (labels_a == label).nonzero()[:, 0], (labels_b == label).nonzero()[:, 0]
        r = float(pair.corr_ab[of_a][:, of_b].mean())
        text = f"cluster {label}\n{len(of_a)} + {len(of_b)} units\nr = {_rounded(r)}"
        rows.append((-r, text, of_a.tolist(), of_b.tolist()))
    ranked = [row[1:] for row in sorted(rows, key=lambda row: row[0])]
    larger = [row for row in ranked if len(row[1]) > 1 and len(row[2]) > 1]
    return groups(f"{pair.layer}: clusters", pair, (larger or ranked)[:shown], a, b, each)


@styled
def groups(
    title: str,
    pair: Pair,
    rows: Sequence[tuple[str, Sequence[int], Sequence[int]]],
    a: Patches,
    b: Patches,
    each: int = 5,
) -> Figure:
    """Any groups of units, in rows of a text, numbers of a's units and of b's; `each` are shown of either at most."""
    each = min(each, max((max(len(of_a), len(of_b)) for _, of_a, of_b in rows), default=1))
    sheet = _Sheet()
    for row, (text, of_a, of_b) in enumerate(rows):
        for first, patches, units in ((0.0, a, of_a), (each + 0.4, b, of_b)):
            for column, unit in enumerate(units[:each]):
                sheet.show(row, first + column, patches, unit)
        sheet.label(row, text)
    return sheet.figure(f"{title}, units of {pair.name_a} (left) and of {pair.name_b} (right)")


@styled
def extremes(layer: str, mean_c: Mapping[str, Tensor], patches: Mapping[str, Patches], shown: int = 8) -> Figure:
    """The most active units of every net (above) and the least active ones that vary (below).

    Mean activations, shape (c,), are NaN for constant units.
    """
    sheet = _Sheet()
    for number, net in enumerate(patches):
        order = [unit for unit in mean_c[net].argsort(descending=True).tolist() if not mean_c[net][unit].isnan()]
        for row, units in ((number, order[:shown]), (len(patches) + 0.3 + number, order[-shown:])):
            for column, unit in enumerate(units):
                sheet.show(row, column, patches[net], unit, f"{mean_c[net][unit]:.2g}")
            sheet.label(row, net)
    return sheet.figure(f"{layer}: most active units (above) and least active ones, with their mean activation")


@styled
def filters(alignment: Alignment, weight_a: Tensor, weight_b: Tensor, across: int = 16) -> Figure:
    """The first layer's weights of both nets, b's units below their partners, best first, `across` in a row.

    Weights have the shape (units, 1 or 3 channels, height, width).
    """
    pair = alignment.pair
    order = [unit for unit in alignment.r_b.argsort(descending=True).tolist() if alignment.partner_b[unit] >= 0]
    sheet = _Sheet(side=0.38, below=0.08)
    for place, unit in enumerate(order):
        line, column = divmod(place, across)
        partner = int(alignment.partner_b[unit])
        sheet.draw(2.3 * line, column, _framed(_coloured(weight_a[partner])), above=_rounded(alignment.r_b[unit]))
        sheet.draw(2.3 * line + 0.8, column, _framed(_coloured(weight_b[unit])))
    return sheet.figure(f"{pair.layer}: filters of {pair.name_a} above their partners in {pair.name_b}, with r")


def mosaic(patches: Patches, unit: int) -> NDArray[np.uint8]:
    """A unit's patches, three in a row with lines between and around; shape (rows, columns, 3)."""
    tile_khwd = patches.tile_ckhwd[unit]
    k, height, width, d = tile_khwd.shape
    times = max(1, -(-_SHARP // max(height, width)))
    tile_khwd = tile_khwd.repeat_interleave(times, 1).repeat_interleave(times, 2).expand(-1, -1, -1, 3 if d == 1 else d)
    gap = max(2, tile_khwd.shape[2] // 16)
    across = min(3, k)
    down, h, w = -(-k // 3), tile_khwd.shape[1] + gap, tile_khwd.shape[2] + gap
    sheet = torch.tensor(_GAP, dtype=torch.uint8).repeat(down * h + gap, across * w + gap, 1)
    for number, shown in enumerate(patches.shown_ck()[unit].tolist()):
        row, column = (gap + size * place for size, place in zip((h, w), divmod(number, across)))
        tile = tile_khwd[number] if shown else torch.tensor(_SILENT, dtype=torch.uint8)
        sheet[row : row + h - gap, column : column + w - gap] = tile
    return sheet.numpy()


def _coloured(weight_chw: Tensor) -> NDArray[Any]:
    """A filter as a picture: grey is 0 where it has colours; blue is negative and red positive where it has none."""
    scaled = (weight_chw / weight_chw.abs().max().clamp(min=1e-12) / 2 + 0.5).permute(1, 2, 0).numpy()
    if scaled.shape[2] == 3:
        return np.asarray(scaled)
    return np.asarray(colormaps["RdBu_r"](scaled[..., 0])[..., :3])


def _framed(picture: NDArray[Any]) -> NDArray[Any]:
    """A small picture enlarged, with an edge around it."""
    times = max(1, -(-_SHARP // max(picture.shape[:2])))
    enlarged = picture.repeat(times, 0).repeat(times, 1)
    return np.stack([np.pad(enlarged[..., d], 1, constant_values=edge / 255) for d, edge in enumerate(_GAP)], -1)


def _rounded(value: Tensor | float) -> str:
    return f"{round(float(value), 2) + 0.0:.2f}"  # no minus in front of zero


class _Sheet:
    """Units in rows and columns, with text above and the unit's number below each; `side` and `below` are inches."""

    def __init__(self, side: float = 0.72, below: float = 0.14) -> None:
        self.side, self.line, self.across = side, side + below + 0.17, side * 1.08
        self._pictures: list[tuple[float, float, NDArray[Any], str, str]] = []
        self._labels: list[tuple[float, str]] = []

    def show(self, row: float, column: float, patches: Patches, unit: int, above: str = "") -> None:
        """A unit's patches."""
        self.draw(row, column, mosaic(patches, unit), above, str(unit))

    def draw(self, row: float, column: float, picture: NDArray[Any], above: str = "", below: str = "") -> None:
        """Any picture."""
        self._pictures.append((row, column, picture, above, below))

    def label(self, row: float, text: str) -> None:
        """What stands left of a row."""
        self._labels.append((row, text))

    def figure(self, title: str) -> Figure:
        """All of it; one pair of axes in inches is many times faster than a pair for each unit."""
        left = max((max(map(len, text.split("\n"))) for _, text in self._labels), default=0) * 0.066 + 0.1
        columns = max((column + 1 for _, column, *_ in self._pictures), default=1)
        width = left + columns * self.across + 0.05
        height = 0.36 + max((row + 1 for row, *_ in self._pictures), default=1) * self.line
        titled = len(title) * 0.078 + 0.1
        width, shift = max(width, titled), max(0.0, titled - width) / 2
        figure = Figure(figsize=(width, height))
        axis = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axis.set_axis_off()
        for row, column, picture, above, below in self._pictures:
            x, y = shift + left + column * self.across, 0.46 + row * self.line
            high = self.side * picture.shape[0] / picture.shape[1]
            axis.imshow(picture, extent=(x, x + self.side, y + high, y), interpolation="nearest")
            axis.text(x + self.side / 2, y - 0.03, above, fontsize=6, ha="center", va="bottom")
            axis.text(x + self.side / 2, y + high + 0.02, below, fontsize=6, ha="center", va="top", color="0.35")
        for row, text in self._labels:
            axis.text(
                shift + left - 0.08, 0.46 + row * self.line + self.side / 2, text, fontsize=7, ha="right", va="center"
            )
        axis.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
        axis.text(width / 2, 0.06, title, fontsize=9, ha="center", va="top")
        return figure
