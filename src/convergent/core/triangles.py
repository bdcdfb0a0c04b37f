"""Symmetric matrices of which only the part on and above the diagonal is made and kept.

Axes: `k` blocks of images, `u` units, `t` entries of the triangle, row after row.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate

import torch
from torch import Tensor

_TILE = 256  # units
_LOOKED_UP = 1024  # units up to which looking every entry up is faster than copying row after row


def length_of(units: int, rows: slice | None = None) -> int:
    """Entries of the triangle of so many units, or of some of its rows.

    >>> length_of(4), length_of(4, slice(1, 3))
    (10, 5)
    """
    return sum(units - row for row in range(units)[rows or slice(None)])


def mirrored(s_kuu: Tensor) -> Tensor:
    """Matrices whose part below the diagonal is now that above it, in place, shape (k, u, u)."""
    units = s_kuu.shape[-1]
    for first in range(0, units, _TILE):
        here, rest = slice(first, first + _TILE), slice(first + _TILE, None)
        own = s_kuu[:, here, here]
        own.copy_(own.triu() + own.triu(1).mT)
        s_kuu[:, rest, here] = s_kuu[:, here, rest].mT
    return s_kuu


def diagonal(s_kt: Tensor, units: int) -> Tensor:
    """The diagonals of matrices given as triangles, shape (k, units)."""
    return s_kt[:, list(accumulate(range(units, 1, -1), initial=0))]


def unfolded(s_kt: Tensor, into_kuu: Tensor) -> None:
    """Put triangles, shape (k, t), into symmetric matrices."""
    units = into_kuu.shape[-1]
    if units <= _LOOKED_UP:
        place_uu = _place_uu(units)
        entry_uu = s_kt.new_empty(units * units)
        for s_t, into_uu in zip(s_kt, into_kuu):
            torch.index_select(s_t, 0, place_uu, out=entry_uu)
            into_uu.copy_(entry_uu.view(units, units))
        return
    starts = accumulate(range(units, 0, -1), initial=0)
    for row, start in zip(range(units), starts):
        into_kuu[:, row, row:] = s_kt[:, start : start + units - row]
    mirrored(into_kuu)


@lru_cache(4)
def _place_uu(units: int) -> Tensor:
    """Where in the triangle each entry of the matrix is, row after row, shape (u * u,)."""
    place_uu = torch.empty(units, units, dtype=torch.long)
    rows, columns = torch.triu_indices(units, units)
    place_uu[rows, columns] = place_uu[columns, rows] = torch.arange(len(rows))
    return place_uu.flatten()
