"""Which image is read when: seeded orders that do not depend on the number of processes or workers.

An order yields `Draw`s instead of plain indices, so that the seed of an image's augmentation travels with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Sampler

from convergent.core.blocks import block_of_group, block_of_image


class Draw(NamedTuple):
    """One image to be read: its index, and the seeds of its augmentations, one for each net that is to see one of its own.

    A repetition that only keeps the processes in step is not counted.
    """

    image: int
    seeds: tuple[int, ...] = ()
    counted: bool = True


class TrainingOrder(Sampler[Draw]):
    """A new permutation every epoch; each process takes every `world`-th image, so all batches together stay the same.

    Args:
        images: how many; what remains when they are divided by `world` is left out of the epoch.
        order_seed: of the permutations.
        augment_seeds: of the augmentations, one for each net that is to see one of its own.
        rank: of this process.
        world: number of processes.
        epoch: the first one.
        skip: leave out so many of this process's images in the first epoch, which were read before.
        size: images that make up an epoch, so that permutations go on from one epoch to the next; None for all.
    """

    def __init__(
        self,
        images: int,
        order_seed: int,
        augment_seeds: Sequence[int],
        rank: int = 0,
        world: int = 1,
        epoch: int = 0,
        skip: int = 0,
        size: int | None = None,
    ) -> None:
        self.size = images if size is None else size
        self.images, self.order_seed, self.augment_seeds = images, order_seed, tuple(augment_seeds)
        self.rank, self.world, self.epoch = rank, world, epoch
        self.first, self.skip = epoch, skip

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size // self.world

    def __iter__(self) -> Iterator[Draw]:
        order = self._epoch()
        epoch, read_before = self.epoch, self.skip if self.epoch == self.first else 0
        for image in order[self.rank : len(self) * self.world : self.world][read_before:]:
            yield Draw(image, tuple(mixed(seed, epoch, image) for seed in self.augment_seeds))

    def _epoch(self) -> list[int]:
        """The images of the epoch: its part of one permutation after another."""
        first, stop, order = self.epoch * self.size, (self.epoch + 1) * self.size, []
        for number in range(first // self.images, -(-stop // self.images)):
            generator = torch.Generator().manual_seed(mixed(self.order_seed, number))
            permuted, begin = torch.randperm(self.images, generator=generator), number * self.images
            order += permuted[max(first - begin, 0) : stop - begin].tolist()
        return order


class EvaluationOrder(Sampler[Draw]):
    """Every image once over all processes; where they do not divide, the last batch is filled up with uncounted ones."""

    def __init__(self, images: int, rank: int = 0, world: int = 1) -> None:
        self.images, self.rank, self.world = images, rank, world

    def __len__(self) -> int:
        return -(-self.images // self.world)

    def __iter__(self) -> Iterator[Draw]:
        for place in range(self.rank, len(self) * self.world, self.world):
            yield Draw(place % self.images, counted=place < self.images)


class BlockOrder(Sampler[list[Draw]]):
    """Batches of the statistics pass: block after block, no batch in two blocks, whole blocks to each process.

    A block's batches are the same whatever the number of processes, so its moments are, bit for bit. The first `skip` ones
    of a process, read before, are left out. Images of one group, where these are given, are in one block.
    """

    def __init__(
        self,
        images: int,
        blocks: int,
        batch_size: int,
        rank: int = 0,
        world: int = 1,
        skip: int = 0,
        group_n: Tensor | None = None,
    ) -> None:
        block_n = block_of_image(images, blocks) if group_n is None else block_of_group(group_n, blocks)
        blocks = int(block_n.max()) + 1
        self.batches: list[list[Draw]] = []
        for block in range(blocks * rank // world, blocks * (rank + 1) // world):
            of_block = (block_n == block).nonzero()[:, 0]
            parts = -(-len(of_block) // batch_size)
            self.batches += [[Draw(image) for image in part.tolist()] for part in of_block.tensor_split(parts)]
        self.batches = self.batches[skip:]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Draw]]:
        return iter(self.batches)


class SomeOrder(Sampler[list[Draw]]):
    """Batches of some images only, the same whatever the number of processes, whole batches to each process."""

    def __init__(self, image_n: Tensor, batch_size: int, rank: int = 0, world: int = 1, skip: int = 0) -> None:
        batches = [[Draw(image) for image in part.tolist()] for part in torch.split(image_n, batch_size)]
        first, last = (len(batches) * place // world for place in (rank, rank + 1))
        self.batches = batches[first:last][skip:]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Draw]]:
        return iter(self.batches)


def mixed(*numbers: int) -> int:
    """One well-mixed 63-bit seed from several numbers (splitmix64), so that neighbouring seeds share nothing."""
    state = 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state >> 1
