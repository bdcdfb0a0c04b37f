"""The images that excite each unit most, streamed: any order, batches and processes give the same ones.

Axes: `n` images of a batch, `c` units of one net, `p` positions of an image, `k` best images.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

_LAST = 2**32 - 1  # number of images that a key has room for, less one


@dataclass(frozen=True, eq=False)
class TopImages:
    """Of every unit the images in which it is most active, best first: how active, which image (-1 for none), where.

    All are of shape (c, k).
    """

    activation_ck: Tensor
    image_ck: Tensor
    position_ck: Tensor


class TopCounter:
    """Keeps the k images with the highest (or lowest) activation of each unit, one position of each.

    What is kept is one whole number per image, the activation in its upper half and the image in its lower one, so that
    comparing numbers compares activations and, where these are equal, takes the image that comes first: the result is exact
    whatever the order.

    >>> counter = TopCounter(1, k=2)
    >>> counter.add(torch.tensor([[[0.0, 5.0]], [[9.0, 1.0]]]), torch.tensor([3, 4]))
    >>> counter.add(torch.tensor([[[5.0, 5.0]]]), torch.tensor([2]))
    >>> counter.top().image_ck, counter.top().position_ck
    (tensor([[4, 2]]), tensor([[0, 0]]))
    """

    def __init__(
        self, units: int, k: int = 9, *, lowest: bool = False, device: torch.device | str | None = None
    ) -> None:
        self.sign = -1.0 if lowest else 1.0
        self.key_ck = torch.full((units, k), torch.iinfo(torch.int64).min, device=device)
        self.position_ck = torch.zeros(units, k, dtype=torch.int64, device=device)

    def add(self, x_ncp: Tensor, image_n: Tensor) -> None:
        """Read a batch: activations (n, c, p) and the images' numbers (n,), each image once in all."""
        best_nc = x_ncp.amax(2) if self.sign > 0 else -x_ncp.amin(2)
        key_cn = _key(best_nc.float(), image_n.to(best_nc.device)).T
        k, c = self.key_ck.shape[1], torch.arange(len(self.key_ck), device=self.key_ck.device)[:, None]
        self.key_ck, chosen_ck = torch.cat([self.key_ck, key_cn], 1).topk(k, dim=1)
        # where in the image is asked only of k images for each unit; which of them are new is not, for a GPU would wait
        old_ck, new_ck = chosen_ck.clamp(max=k - 1), (chosen_ck - k).clamp(min=0)
        x_ckp = x_ncp[new_ck, c]
        position_ck = x_ckp.argmax(2) if self.sign > 0 else x_ckp.argmin(2)
        self.position_ck = torch.where(chosen_ck < k, self.position_ck[c, old_ck], position_ck)

    def merge(self, other: Mapping[str, Tensor]) -> None:
        """Add what another process kept of other images, its `state`."""
        both_ck, k = torch.cat([self.key_ck, other["key_ck"]], 1), self.key_ck.shape[1]
        self.key_ck, chosen_ck = both_ck.topk(k, dim=1)
        self.position_ck = torch.cat([self.position_ck, other["position_ck"]], 1).gather(1, chosen_ck)

    def state(self) -> dict[str, Tensor]:
        """All that was kept so far."""
        return {"key_ck": self.key_ck, "position_ck": self.position_ck}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on where `state` was taken."""
        self.key_ck, self.position_ck = (state[name].to(self.key_ck.device) for name in ("key_ck", "position_ck"))

    def top(self) -> TopImages:
        """What was kept, best first, on the host."""
        key_ck = self.key_ck.cpu()
        read_ck = key_ck > torch.iinfo(torch.int64).min
        order_ck = (key_ck >> 32).to(torch.int32)
        activation_ck = self.sign * (order_ck ^ ((order_ck >> 31) & 0x7FFFFFFF)).view(torch.float32)
        image_ck = torch.where(read_ck, _LAST - (key_ck & _LAST), -1)
        return TopImages(torch.where(read_ck, activation_ck, torch.nan), image_ck, self.position_ck.cpu())


def _key(best_nc: Tensor, image_n: Tensor) -> Tensor:
    """One whole number for activation and image: float32 are in order as whole numbers once negative ones are turned."""
    bits_nc = (best_nc + 0.0).contiguous().view(torch.int32)  # + 0 makes -0 an ordinary zero
    order_nc = bits_nc ^ ((bits_nc >> 31) & 0x7FFFFFFF)
    return (order_nc.long() << 32) | (_LAST - image_n.long())[:, None]
