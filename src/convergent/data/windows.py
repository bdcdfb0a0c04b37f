"""What language models are trained on: a stream of tokens cut into contexts."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from convergent.data.order import Draw
from convergent.errors import InputError


class Windows(Dataset[Any]):
    """A stream of tokens cut into contexts: batches of (tokens (n, p), next tokens (n, p), numbers (n,))."""

    def __init__(self, token_t: Tensor, context: int) -> None:
        self.token_t, self.context = token_t, context
        if not len(self):
            raise InputError(
                f"All documents to train on have {len(token_t)} tokens together, fewer than a context of {context}; give "
                "more documents, or choose a shorter data.context."
            )

    def __len__(self) -> int:
        return (len(self.token_t) - 1) // self.context

    def __getitems__(self, draws: Sequence[Draw]) -> list[Tensor]:
        number_n = torch.tensor([draw.image for draw in draws])
        token_np = self.token_t[(number_n * self.context)[:, None] + torch.arange(self.context + 1)].long()
        return [token_np[:, :-1], token_np[:, 1:], number_n]
