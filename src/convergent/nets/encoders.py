"""Encoders of sparse autoencoders: many features of a layer's units, of which few are active at a time."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

from convergent.options import NULL, whole


class SparseEncoder(nn.Module):
    """The features of a layer's units, relu((x - b_dec) W_enc + b_enc); with `active` only so many of them, the largest.

    Units are the last axis of vectors and tokens and axis 1 of pictures (n, units, height, width), and so are features. The
    parameters are called W_enc (inputs, features), b_enc (features,) and b_dec (inputs,), as in SAELens's files.

    Args:
        inputs: units of the layer.
        features: of an input.
        active: how many are not zero (top-k); null for all that are positive.

    Source: Bricken et al. 2023, "Towards monosemanticity"; Gao et al. 2024, "Scaling and evaluating sparse autoencoders".

    >>> z = SparseEncoder(8, 64, active=4)(torch.randn(10, 8))
    >>> z.shape, int((z > 0).sum(1).max())
    (torch.Size([10, 64]), 4)
    """

    def __init__(
        self,
        inputs: Annotated[int, whole(1)],
        features: Annotated[int, whole(1)],
        active: Annotated[int | None, whole(1) | NULL] = None,
    ) -> None:
        super().__init__()
        self.W_enc = nn.Parameter(nn.functional.normalize(torch.randn(inputs, features), dim=0))
        self.b_enc = nn.Parameter(torch.zeros(features))
        self.b_dec = nn.Parameter(torch.zeros(inputs))
        self.active = active

    def forward(self, x: Tensor) -> Tensor:
        """The features of a layer's activation."""
        pictures = x.ndim == 4
        x_i = x.movedim(1, -1) if pictures else x
        z_f = torch.relu((x_i.to(self.W_enc.dtype) - self.b_dec) @ self.W_enc + self.b_enc)
        if self.active is not None:
            top = z_f.topk(self.active, -1)
            z_f = torch.zeros_like(z_f).scatter(-1, top.indices, top.values)
        return z_f.movedim(-1, 1) if pictures else z_f
