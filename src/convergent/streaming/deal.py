"""Which block of images each image is in, whether or not anybody knows how many there will be.

Axes: `n` images of a batch, `k` blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from convergent.core.blocks import block_of_group, block_of_image
from convergent.errors import InputError


@dataclass(frozen=True)
class Deal:
    """Images dealt into blocks by their numbers, at random and always alike.

    Of so many images each block gets its share, see `blocks.block_of_image`. Where nobody knows how many there will be, each
    run of as many numbers as there are blocks (0 to 63, 64 to 127, ...) is dealt one to each, in an order of its own. Fewer
    images than `most` make fewer blocks. Images of one group, where their groups are known, are in one block.

    >>> deal = Deal(None, 4)
    >>> deal.block(torch.arange(4)).sort().values, deal.block(torch.arange(4, 8)).sort().values
    (tensor([0, 1, 2, 3]), tensor([0, 1, 2, 3]))
    """

    images: int | None
    most: int
    group_n: Tensor | None = None

    def __post_init__(self) -> None:
        if self.group_n is not None and len(self.group_n) != self.images:
            raise InputError(
                f"group_n needs the group of each of {self.images or 'a known number of'} images, not of "
                f"{len(self.group_n)}; give a loader whose length is known, and a group for each image's number."
            )

    @property
    def blocks(self) -> int:
        """How many blocks there are."""
        if self.group_n is not None:
            return min(self.most, len(torch.unique(self.group_n)))
        return self.most if self.images is None else min(self.most, self.images)

    @cached_property
    def block_n(self) -> Tensor:
        """The block of each image, where their number is known."""
        if self.group_n is not None:
            return block_of_group(self.group_n, self.most)
        return block_of_image(self.images or 0, self.most)

    def block(self, image_n: Tensor) -> Tensor:
        """The blocks of images with these numbers, on the host."""
        if self.images is not None:
            return self.block_n[image_n]
        run_n, place_n = image_n // self.most, image_n % self.most
        order_k = {run: _order(run, self.most) for run in set(run_n.tolist())}
        return torch.stack([order_k[run] for run in run_n.tolist()]).gather(1, place_n[:, None])[:, 0]


def _order(run: int, blocks: int) -> Tensor:
    return torch.randperm(blocks, generator=torch.Generator().manual_seed(run % 2**63))
