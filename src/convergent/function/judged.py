"""The sums that one pass makes of net b's decisions with each map in place of a layer, and their file.

Axes: `v` maps, `n` images of a batch, `k` blocks of images, `s` sums, `t` images or tokens that count.
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


def decisions(logits_vnc: Tensor, own_nc: Tensor, target_n: Tensor | None) -> tuple[Tensor, Tensor]:
    """What each map leaves of net b's decisions.

    Args:
        logits_vnc: with each map in place, shape (maps, n, classes), or of texts (maps, n, positions, classes).
        own_nc: net b's own, likewise.
        target_n: what is right, of each image or token; below 0 it counts nowhere: padding, and tokens without a next one.

    Returns:
        `SUMS` of each image or token t that counts, shape (maps, t, SUMS), float64, and which of n these are.
    """
    counted_n = torch.ones(own_nc.shape[:-1], dtype=torch.bool, device=own_nc.device)
    if target_n is not None:
        counted_n = (target_n := target_n.to(own_nc.device)) >= 0
        target_n = target_n[counted_n]
    precision = torch.float64 if own_nc.ndim == 2 else torch.float32  # tokens are many, and so are their classes
    logits_vtc, own_tc = logits_vnc[:, counted_n], own_nc[counted_n]
    log_vtc, own_log_tc = logits_vtc.log_softmax(-1, precision), own_tc.log_softmax(-1, precision)
    kl_vt, best_vt = (own_log_tc.exp() * (own_log_tc - log_vtc)).sum(-1), logits_vtc.argmax(-1)
    parts = [torch.ones_like(kl_vt), best_vt == own_tc.argmax(-1), kl_vt]
    if target_n is not None:
        loss_vt = -log_vtc.gather(-1, target_n.expand(best_vt.shape)[..., None])[..., 0]
        parts += [loss_vt, best_vt == target_n]
    parts += [torch.full_like(kl_vt, torch.nan)] * (len(SUMS) - len(parts))
    return torch.stack([part.double() for part in parts], -1), counted_n
