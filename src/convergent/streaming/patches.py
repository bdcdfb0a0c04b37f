"""The top-activating images of each unit as little pictures: the part of an image that it sees where it is most active.

Axes: `c` units of one net, `k` pictures of each, best first; pictures are (channels, height, width), tiles `hwd` with the
colours last.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from convergent.storage.tensors import opened, save_tensors
from convergent.streaming.receptive_fields import Field, Span
from convergent.streaming.top_images import TopImages

TILE = 64  # pixels that a tile has at most, down and across
GREY = 128  # what lies outside of the image


@dataclass(frozen=True, eq=False)
class Patches:
    """The images that excite (or silence) the units of one net's layer most.

    Attributes:
        top: the images, with the position where the activation is highest in each.
        field: what a position sees of the image; None for all of it.
        across: positions in a row of the layer's map.
        tile_ckhwd: the parts of the images, whole numbers of 8 bits, shape (c, k, height, width, 1 or 3); empty before they
            are cut out.
    """

    top: TopImages
    field: Field
    across: int
    tile_ckhwd: Tensor

    def shown_ck(self) -> Tensor:
        """Which tiles show what excites a unit: not those of a rectified unit that is silent in the image, shape (c, k)."""
        return (self.top.image_ck >= 0) & (self.top.activation_ck != 0) & self.top.activation_ck.isfinite()

    def box(self, unit: int, rank: int) -> tuple[range, range] | None:
        """The rows and columns of the image that a tile shows; None for all of them."""
        return boxed(self.field, int(self.top.position_ck[unit, rank]), self.across)


def boxed(field: Field, position: int, across: int) -> tuple[range, range] | None:
    """The rows and columns of the image that a position of a map, with so many in a row, sees; None for all."""
    if field is None:
        return None
    row, column = divmod(position, across)
    return field[0].pixels(row), field[1].pixels(column)


def cropped(picture: Tensor, box: tuple[range, range] | None) -> Tensor:
    """The part of a picture (channels, height, width) in a box, None for all of it, as a tile (h, w, d), both uint8.

    It is grey where the box leaves the picture, and made smaller where it would be larger than a tile.

    >>> cropped(torch.zeros(1, 4, 4, dtype=torch.uint8), (range(-1, 1), range(2, 4)))[..., 0]
    tensor([[128, 128],
            [  0,   0]], dtype=torch.uint8)
    """
    if box is not None:
        _, height, width = picture.shape
        rows, columns = box
        top, left = max(rows.start, 0), max(columns.start, 0)
        within = picture[:, top : max(min(rows.stop, height), 0), left : max(min(columns.stop, width), 0)]
        part = picture.new_full((len(picture), len(rows), len(columns)), GREY)
        down, over = top - rows.start, left - columns.start
        part[:, down : down + within.shape[1], over : over + within.shape[2]] = within
        picture = part
    return _shrunk(picture).permute(1, 2, 0)


def _shrunk(picture: Tensor) -> Tensor:
    longer = max(picture.shape[1:])
    if longer <= TILE:
        return picture
    size = [max(1, round(side * TILE / longer)) for side in picture.shape[1:]]
    small = interpolate(picture[None].float(), size, mode="bilinear", antialias=True, align_corners=False)[0]
    return small.round().clamp(0, 255).to(torch.uint8)


def cut(
    patches: Mapping[str, Patches], pictures: Callable[[list[int]], Iterable[tuple[int, Mapping[str, Tensor]]]]
) -> dict[str, Patches]:
    """The same with their tiles, cut out of the images, each of which is read once.

    Args:
        patches: by the name of the net; those of several layers go under names of their own.
        pictures: gives for a list of images, in any order, their number and {name: what this net sees (channels, height,
            width), uint8}; images that cannot be read are left out.
    """
    wanted: dict[int, list[tuple[str, int, int]]] = {}
    for name, of_net in patches.items():
        for unit, rank in of_net.shown_ck().nonzero().tolist():
            wanted.setdefault(int(of_net.top.image_ck[unit, rank]), []).append((name, unit, rank))
    tiles: dict[str, Tensor] = {}
    for image, seen in pictures(sorted(wanted)):
        whole: dict[str, Tensor] = {}
        for name, unit, rank in wanted[image]:
            box = patches[name].box(unit, rank)
            if box is None and name not in whole:
                whole[name] = cropped(seen[name], None)
            tile_hwd = whole[name] if box is None else cropped(seen[name], box)
            if name not in tiles:
                shape = (*patches[name].top.image_ck.shape, *tile_hwd.shape)
                tiles[name] = torch.full(shape, GREY, dtype=torch.uint8)
            tiles[name][unit, rank] = tile_hwd
    return {name: replace(of_net, tile_ckhwd=tiles.get(name, of_net.tile_ckhwd)) for name, of_net in patches.items()}


def save_patches(nets: Mapping[str, Patches], file: Path) -> None:
    """Write the patches of one layer of all nets to a safetensors file."""
    about: dict[str, dict[str, Any]] = {}
    tensors = {}
    for net, of_net in nets.items():
        field = None if of_net.field is None else [[span.start, span.step, span.size] for span in of_net.field]
        about[net] = {"field": field, "across": of_net.across}
        tensors[f"{net}/tile_ckhwd"] = of_net.tile_ckhwd
        for name in ("activation_ck", "image_ck", "position_ck"):
            tensors[f"{net}/{name}"] = getattr(of_net.top, name)
    save_tensors(tensors, file, {"nets": json.dumps(about)})


def load_patches(file: Path) -> dict[str, Patches]:
    """Read what `save_patches` wrote: {net: patches}."""
    patches = {}
    with opened(file) as saved:
        for net, about in json.loads(saved.metadata()["nets"]).items():
            field = None if about["field"] is None else (Span(*about["field"][0]), Span(*about["field"][1]))
            names = ("activation_ck", "image_ck", "position_ck")
            top = TopImages(*(saved.get_tensor(f"{net}/{name}") for name in names))
            patches[net] = Patches(top, field, about["across"], saved.get_tensor(f"{net}/tile_ckhwd"))
    return patches
