"""What nets see of a batch, whatever kind of batch it is.

Axes: `n` images (or texts) of a batch, `p` positions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Input:
    """What a net sees of a batch that is more than a tensor.

    Attributes:
        run: runs a net on it.
        mask_np: which positions are samples, shape (n, p), on the host; None for all.
    """

    run: Callable[[nn.Module], object]
    mask_np: Tensor | None = None


Seen = Tensor | Input


def run(net: nn.Module, seen: Seen) -> None:
    """Run a net on what it sees of a batch."""
    if isinstance(seen, Tensor):
        net(seen)
    else:
        seen.run(net)


def mask_of(seen: Mapping[str, Seen]) -> Tensor | None:
    """Which positions of a batch are samples, the same for all nets; None for all."""
    x = next(iter(seen.values()))
    return x.mask_np if isinstance(x, Input) else None
