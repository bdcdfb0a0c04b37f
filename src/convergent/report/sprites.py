"""Many little pictures in few files: the patches of all units of a layer as pages of a contact sheet.

Axes: `c` units of one net, `k` patches of each, `hwd` rows, columns and colours of a tile.
"""

import io
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from convergent.streaming.patches import GREY, TILE, Patches

_PAGE = 512  # units on a page
_BYTES_PER_PIXEL = 0.3  # of photographs, in WebP of this quality
_QUALITY = 80
_SMALLEST = 16


@dataclass(frozen=True)
class Sprites:
    """Pages of tiles, as large as the bytes allow.

    Attributes:
        tiles: how many there will be in all.
        budget: bytes that they may take together.
    """

    tiles: int
    budget: float

    @property
    def side(self) -> int:
        """Pixels of a tile's longer side, at most."""
        return max(_SMALLEST, min(TILE, int((self.budget / max(self.tiles, 1) / _BYTES_PER_PIXEL) ** 0.5)))

    def of(self, patches: Patches) -> tuple[list[bytes], dict[str, Any]]:
        """Pages as WebP, and how they are laid out: `unit` u is block u modulo `page`, blocks fill rows of `across`.

        A block is 3 tiles wide at most and as high as its patches need; small tiles (of a few pixels) are kept without loss.
        """
        tile_ckhwd = self._sized(patches.tile_ckhwd)
        c, k, height, width, _ = tile_ckhwd.shape
        columns = min(3, k)
        down = -(-k // columns)
        across = max(1, round((min(c, _PAGE) * down * height / (columns * width)) ** 0.5))
        lossless = height * width <= 24 * 24
        pages = []
        for part in torch.split(tile_ckhwd, _PAGE):
            file = io.BytesIO()
            image = Image.fromarray(montage(part, across).numpy())
            image.save(file, "WEBP", lossless=lossless, quality=100 if lossless else _QUALITY, method=4)
            pages.append(file.getvalue())
        laid = {"across": across, "page": _PAGE, "down": down, "columns": columns}
        return pages, {"k": k, "height": height, "width": width, **laid}

    def _sized(self, tile_ckhwd: Tensor) -> Tensor:
        c, k, height, width, d = tile_ckhwd.shape
        longer = max(height, width)
        if longer > self.side:
            size = [max(1, round(side * self.side / longer)) for side in (height, width)]
            x = tile_ckhwd.flatten(0, 1).permute(0, 3, 1, 2).float()
            x = interpolate(x, size, mode="bilinear", antialias=True, align_corners=False).round().to(torch.uint8)
            tile_ckhwd = x.permute(0, 2, 3, 1).reshape(c, k, *size, d)
        return tile_ckhwd.expand(-1, -1, -1, -1, 3) if d == 1 else tile_ckhwd


def montage(tile_ckhwd: Tensor, across: int) -> Tensor:
    """Blocks of up to 3 tiles a row for each unit, `across` blocks a row; shape (rows, columns, d).

    >>> montage(torch.zeros(5, 9, 4, 4, 3, dtype=torch.uint8), across=2).shape
    torch.Size([36, 24, 3])
    """
    c, k, height, width, d = tile_ckhwd.shape
    columns = min(3, k)
    down, rows = -(-k // columns), -(-c // across)
    filled = tile_ckhwd.new_full((rows * across, down * columns, height, width, d), GREY)
    filled[:c, :k] = tile_ckhwd
    blocks = filled.view(rows, across, down, columns, height, width, d).permute(0, 2, 4, 1, 3, 5, 6)
    return blocks.reshape(rows * down * height, across * columns * width, d)
