"""Several nets as one LightningModule, for a pass."""

from __future__ import annotations

from collections.abc import Mapping

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from convergent.data.numbered import check_batch
from convergent.data.pictures import Batch
from convergent.data.tokens import MASK, PLACES, TOKENS, of_view
from convergent.errors import InputError
from convergent.streaming.capture import Input, Seen, run


class Nets(pl.LightningModule):
    """Several nets that see the same images, or each its view of them, or the same tokens, for the sake of their layers."""

    def __init__(self, nets: Mapping[str, nn.Module], views: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = True  # processes without images, see `PassCallback`
        self.names, self.views = list(nets), dict(views or {})
        self.modules_ = nn.ModuleList(nets.values())

    @property
    def nets(self) -> dict[str, nn.Module]:
        """The nets by name."""
        return dict(zip(self.names, self.modules_))

    def seen_by(self, x: Tensor | Mapping[str, Tensor]) -> dict[str, Seen]:
        """What each net sees of a batch: {net: pictures (n, channels, height, width), or tokens and which are no padding}.

        Nets are not told of padding: it comes last, and decoders look back only.

        Raises:
            InputError: if a net's view is not among those of the pictures.
        """
        if isinstance(x, Tensor):
            return dict.fromkeys(self.names, x)
        if MASK in x:
            return {net: _tokens(x, self.views.get(net)) for net in self.names}
        if lost := [net for net in self.names if self.views.get(net) not in x]:
            raise InputError(
                f"The pictures come in the views {', '.join(map(str, x))}, but net {lost[0]} takes view "
                f"{self.views.get(lost[0])}; say which it takes: Nets(nets, views={{NET: VIEW, ...}})."
            )
        return {net: x[self.views[net]] for net in self.names}

    def forward(self, x: Tensor | Mapping[str, Tensor]) -> None:
        """Run every net on pictures."""
        run(self.nets, self.seen_by(x))

    def predict_step(self, batch: Batch, _batch_idx: int, dataloader_idx: int = 0) -> None:  # noqa: ARG002
        """Run every net on one batch of (pictures, classes, images)."""
        self(batch[0])

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move what nets see; numbers and masks stay on the host, where they are needed without waiting for a GPU."""
        check_batch(batch)
        mask_np = mask_of_batch(batch[0])
        x = super().transfer_batch_to_device(batch[0], device, dataloader_idx)
        return [x if mask_np is None else {**x, MASK: mask_np}, *batch[1:]]


def mask_of_batch(x: object) -> Tensor | None:
    """Which positions (n, p) of a batch of tokens are no padding; None of pictures."""
    return x[MASK] if isinstance(x, Mapping) and MASK in x else None


def _tokens(x: Mapping[str, Tensor], view: str | None) -> Input:
    token_np = x[of_view(TOKENS, view)]
    return Input(lambda net: net(token_np), x[MASK], x.get(of_view(PLACES, view)))
