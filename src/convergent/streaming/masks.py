"""Which positions of an activation are samples: padding and class tokens are none.

Axes: `n` images (or texts) of a batch, `c` units of one net, `p` positions, `s` samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from convergent.errors import InputError
from convergent.streaming.beside import sent
from convergent.streaming.layers import random_positions


def remaining(x_nc: Tensor, drop: Sequence[int], where: str) -> Tensor:
    """An activation, shape (n, c, ...), without some positions, negative ones from the end; one without positions as it is.

    Raises:
        InputError: if no position would remain.

    >>> remaining(torch.tensor([[[1, 2, 3]]]), [0, -1], "")
    tensor([[[2]]])
    """
    if not len(drop) or x_nc.ndim < 3:
        return x_nc
    x_ncp = x_nc.flatten(2)
    positions = x_ncp.shape[2]
    left = [p for p in range(positions) if p not in drop and p - positions not in drop]
    if not left:
        raise InputError(f"{where} has {positions} positions, all of which are dropped; name fewer in drop=.")
    whole = len(left) == left[-1] - left[0] + 1  # then it is a view
    return x_ncp[:, :, left[0] : left[-1] + 1] if whole else x_ncp[:, :, left]


@dataclass(frozen=True, eq=False)
class Unmasked:
    """The samples of a batch in which some positions are padding.

    Attributes:
        mask_np: which positions are none, without dropped ones, on the host.
        whole_np: which are none and not dropped, of all positions.
        sample: "every" such position, their mean ("pooled"), or so many random ones of all, see `layers.samples`.
        sample_np: which positions are samples; of means which are averaged.
        image_s: the image of each sample, as its place in the batch.
    """

    mask_np: Tensor
    whole_np: Tensor
    sample: str | int
    sample_np: Tensor
    image_s: Tensor

    @classmethod
    def of(cls, mask_np: Tensor, sample: str | int, drop: Sequence[int], image_n: Tensor) -> Unmasked:
        """The samples of images with these numbers.

        Raises:
            InputError: if a centre is wanted.
        """
        if sample == "centre":
            raise InputError("Positions that are masked have no centre; choose sample=every or pooled.")
        whole_np = mask_np.cpu().bool().clone()
        mask_np = remaining(whole_np[:, None], drop, "The mask")[:, 0].clone()
        whole_np[:, list(drop)] = False
        sample_np = mask_np
        if isinstance(sample, int) and sample < mask_np.shape[1]:
            chosen_np = random_positions(image_n, mask_np.shape[1], sample)
            sample_np = mask_np & torch.zeros_like(mask_np).scatter(1, chosen_np, True)
        image_s = sample_np.any(1).nonzero()[:, 0] if sample == "pooled" else sample_np.nonzero()[:, 0]
        return cls(mask_np, whole_np, sample, sample_np, image_s)

    def of_layer(self, x_nc: Tensor, where: str) -> bool:
        """Whether a layer has these positions; one without any has a sample of each image.

        Raises:
            InputError: if it has others.
        """
        positions = x_nc[:1, :1].numel()
        if x_nc.ndim == 2 or positions == self.mask_np.shape[1]:
            return x_nc.ndim > 2
        raise InputError(
            f"{where} has {positions} positions, but the mask {self.mask_np.shape[1]}; choose a layer that keeps the mask's "
            "positions, or say with mask=None that all are samples."
        )

    def samples(self, x_ncp: Tensor) -> Tensor:
        """The samples of an activation, shape (s, c, 1)."""
        if self.sample != "pooled":  # by places that the host knows: a GPU would be waited for to count a mask's
            n_s, p_s = (sent(of, x_ncp.device) for of in self.sample_np.nonzero(as_tuple=True))
            return x_ncp.movedim(1, 2)[n_s, p_s][:, :, None]
        sample_np = self.sample_np.to(x_ncp.device)
        image_s = self.image_s.to(x_ncp.device)
        x_scp, weight_sp = x_ncp[image_s], sample_np[image_s].to(torch.promote_types(x_ncp.dtype, torch.float32))
        total_sc = torch.where(sample_np[image_s][:, None], x_scp, 0).to(weight_sp.dtype).sum(2)
        return (total_sc / weight_sp.sum(1, keepdim=True))[:, :, None]
