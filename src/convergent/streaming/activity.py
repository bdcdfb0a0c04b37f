"""How much of a layer is active, and whether sparse products suit it.

Axes: `n` images of a batch, `c` units of one net, `p` positions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from convergent.core.packing import Packing

# Layers of so many units, of whose activations no more is active, have sparse products: tests/benchmarks/sparse_codes.py.
_UNITS, _DENSITY = 512, 1 / 32


@dataclass(frozen=True)
class Activity:
    """What a calibration says of how much of a layer is active.

    Attributes:
        units: of the narrowest net.
        density: largest share of a net's activations that are not zero.
        products: of a sample, over all wanted pairs of nets.
        samples: there will be; 0 where nobody knows.
    """

    units: int
    density: float
    products: float
    samples: float

    @classmethod
    def of(cls, seen: Mapping[str, Tensor], packing: Packing, samples: float) -> Activity:
        """Of samples of each net, shape (n, c, p)."""
        count_js = torch.stack([(x_ncp != 0).sum(1).flatten().double() for x_ncp in seen.values()])
        width_j = torch.tensor([[x_ncp.shape[1]] for x_ncp in seen.values()])
        products = sum(float((count_js[i] * count_js[j]).mean()) for i, j in packing.blocks())
        return cls(int(width_j.min()), float((count_js / width_j).mean(1).max()), products, samples)

    @property
    def suits(self) -> bool:
        """Whether sparse products are the faster ones on a processor."""
        return self.density <= _DENSITY and self.units >= _UNITS

    def memory(self, packing: Packing, blocks: int) -> int:
        """Bytes that the sparse sums of so many blocks take at most: no entry but for two units that are active together."""
        most = float(blocks * max(packing.size - 1 - 2 * packing.width, 1))
        return int(12 * (min(self.products * self.samples, most) if self.samples else most))

    def blocks(self, packing: Packing, blocks: int, memory: float) -> int:
        """So many blocks, or a half, a quarter, ... where they do not fit and fewer take less."""
        while blocks > 1 and self.memory(packing, blocks) > max(memory, self.memory(packing, blocks // 2)):
            blocks //= 2
        return blocks
