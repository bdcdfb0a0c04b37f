"""A layer's pre-activations unit by unit: what is known of them beforehand, and their rotation.

Axes: `n` images of a batch, `c` units of one net, `p` positions, `s` samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from convergent.core.moments import Moments
from convergent.core.rotation import HAAR, Turn, WideTurn, turning, wide_turning
from convergent.streaming.layers import random_positions

_POSITIONS, _FEW_POSITIONS = 64, 16  # of each of the first images; of layers so wide that their samples are held


def unit_axis_of(x: Tensor, units: int, layout: str) -> int | None:
    """The axis of a tensor's units: the layer's, another one, 0 for "all elements of an image", None for nowhere."""
    for axis in (-1 if layout == "last" else 1, 1, -1):
        if x.ndim > 1 and x.shape[axis] == units:
            return axis % x.ndim
    return 0 if x[:1].numel() == units * len(x[:1]) else None


def at_positions(x: Tensor, layout: str, chosen_np: Tensor) -> Tensor:
    """A tensor of as many axes with some positions of each image only, all in the first axis of positions."""
    ones = [1] * (x.ndim - 3)
    if layout == "last":
        x_npc = x.flatten(1, -2).gather(1, chosen_np[:, :, None].expand(-1, -1, x.shape[-1]))
        return x_npc.view(*x_npc.shape[:2], *ones, -1)
    x_ncp = x.flatten(2).gather(2, chosen_np[:, None].expand(-1, x.shape[1], -1))
    return x_ncp.view(*x_ncp.shape, *ones)


@dataclass(frozen=True)
class ByUnit:
    """A tensor laid out unit by unit, shape (c, s), as one matrix product wants it, for all rotations."""

    x: Tensor
    x_cs: Tensor
    axis: int

    @classmethod
    def of(cls, x: Tensor, units: int, layout: str) -> ByUnit:
        """Lay a tensor out."""
        axis = unit_axis_of(x, units, layout) or 0
        x_cs = (x.movedim(axis, 0) if axis else x.flatten(1).T).reshape(units, -1)
        return cls(x, x_cs.to(torch.promote_types(x.dtype, torch.float32)), axis)

    def turned(self, turn: Turn | WideTurn) -> Tensor:
        """The tensor rotated over its units."""
        turned_cs = turn(self.x_cs).to(self.x.dtype)
        if not self.axis:
            return turned_cs.T.reshape(self.x.shape)
        others = [size for axis, size in enumerate(self.x.shape) if axis != self.axis]
        return turned_cs.view(-1, *others).movedim(0, self.axis)


class PreSamples:
    """What is known of pre-activations in the first images: their moments, or of wide layers the samples themselves."""

    def __init__(self) -> None:
        self._moments: Moments | None = None
        self._wide: list[Tensor] = []  # of shape (c, s)
        self._like = torch.empty(0)

    def add(self, x: Tensor, units: int, layout: str, image_n: Tensor, mask_np: Tensor | None = None) -> None:
        """Take a batch: some positions of every image, or all that are no padding."""
        self._like = x.new_empty(0, dtype=torch.promote_types(x.dtype, torch.float32))
        axis = unit_axis_of(x, units, layout)
        x_npc = (x.movedim(axis, -1) if axis else x.flatten(1)).reshape(len(x), -1, units)
        positions = _FEW_POSITIONS if units > HAAR else _POSITIONS
        if mask_np is not None and mask_np.shape[1] == x_npc.shape[1]:
            x_npc = x_npc[mask_np.to(x.device, torch.bool)][:, None]
        elif x_npc.shape[1] > positions:
            chosen_np = random_positions(image_n.to(x.device), x_npc.shape[1], positions)
            x_npc = x_npc.gather(1, chosen_np[:, :, None].expand(-1, -1, units))
        x_sc = x_npc.flatten(0, 1)
        if units > HAAR:
            self._wide.append(x_sc.T.to(self._like, copy=True))
        else:
            moments = Moments.of(x_sc)
            self._moments = moments if self._moments is None else self._moments + moments

    def turn(self, generator: torch.Generator) -> Turn | WideTurn:
        """A random rotation of these units, on their device."""
        if self._moments is None:
            return wide_turning(torch.cat(self._wide, 1), generator)
        return turning(self._moments, generator, self._like)
