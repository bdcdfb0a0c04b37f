"""Symmetric matrices of which only the part on and above the diagonal is made and kept.

Axes: `k` blocks of images, `u` units, `t` entries of the triangle, row after row.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

import torch
from torch import Tensor

_TILE = 256  # units
_AT_ONCE = 1 << 24  # bytes


def length_of(units: int) -> int:
    """Entries of the triangle of so many units.

    >>> length_of(4)
    10
    """
    return units * (units + 1) // 2


def mirrored(s_kuu: Tensor) -> Tensor:
    """Matrices whose part below the diagonal is now that above it, in place, shape (k, u, u)."""
    units = s_kuu.shape[-1]
    for first in range(0, units, _TILE):
        here, rest = slice(first, first + _TILE), slice(first + _TILE, None)
        own = s_kuu[:, here, here]
        own.copy_(own.triu() + own.triu(1).mT)
        s_kuu[:, rest, here] = s_kuu[:, here, rest].mT
    return s_kuu


def pieces(s_kuu: Tensor) -> Iterator[Tensor]:
    """The triangles of matrices, shape (k, u, u), one after another, in pieces of little memory."""
    units = s_kuu.shape[-1]
    rows = max(1, _AT_ONCE // (units * s_kuu.itemsize))
    for s_uu in s_kuu:
        for first in range(0, units, rows):
            yield torch.cat([s_uu[row, row:] for row in range(first, min(first + rows, units))])


def unfolded(s_kt: Tensor, into_kuu: Tensor) -> None:
    """Put triangles, shape (k, t), into matrices, on and above the diagonal."""
    units = into_kuu.shape[-1]
    starts = accumulate(range(units, 0, -1), initial=0)
    for row, start in zip(range(units), starts):
        into_kuu[:, row, row:] = s_kt[:, start : start + units - row]
