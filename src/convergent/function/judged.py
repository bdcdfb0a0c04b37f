"""The sums that one pass makes of net b's decisions with each map in place of a layer, and their file.

Axes: `v` maps, `k` blocks of images, `s` sums.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from convergent.function.stitches import Stitch
from convergent.storage.tensors import opened, save_tensors

# What is summed over the images of a block, of net b itself and with each map in place.
SUMS = ("images", "same_decision", "kl", "loss", "accuracy")


@dataclass(frozen=True, eq=False)
class Judged:
    """What is left of net b's decisions with each map in place of a layer.

    Attributes:
        stitches: the maps, one for each version that is judged.
        sums_vks: sums over the images of a block, shape (maps, blocks, SUMS), float64.
        difference_v: the largest difference of a logit from net b's own, shape (maps,).
    """

    stitches: Sequence[Stitch]
    sums_vks: Tensor
    difference_v: Tensor

    def __add__(self, other: Self) -> Self:
        """The maps of both."""
        sums_vks, difference_v = (
            torch.cat([getattr(of, name) for of in (self, other)]) for name in ("sums_vks", "difference_v")
        )
        return type(self)([*self.stitches, *other.stitches], sums_vks, difference_v)

    def save(self, file: Path) -> None:
        """Save the sums; what maps they are of is said by name."""
        names = [[of.name, of.a, of.b, of.r2_held_out, of.versions, of.subset] for of in self.stitches]
        tensors = {"sums_vks": self.sums_vks, "difference_v": self.difference_v}
        save_tensors(tensors, file, {"maps": json.dumps(names)})

    @classmethod
    def load(cls, file: Path) -> Self:
        """What was saved; the maps themselves are not there."""
        with opened(file, "remove it") as saved:
            maps = json.loads(saved.metadata()["maps"])
            tensors = [saved.get_tensor(name) for name in ("sums_vks", "difference_v")]
        stitches = [
            Stitch(name, a, b, "", (), 0, 0, r2, versions, subset=tuple(subset))
            for name, a, b, r2, versions, subset in maps
        ]
        return cls(stitches, *tensors)
