"""What lies between nets: averages of their weights, and loss and accuracy on held-out images.

Axes: `n` images of a batch.
"""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from convergent.errors import InputError
from convergent.function.merging.permutations import first_tensor, named_tensors
from convergent.function.merging.repair import Statistics, mixed

POINTS = 11  # of the straight line between two nets, ends included
_BYTES = 1e9  # of held-out images that are kept at hand
_BATCH = 256


@dataclass(frozen=True)
class Place:
    """A net between others.

    Attributes:
        a: name of the net at its beginning.
        b: name of the net at its end.
        alignment: how b's units were ordered.
        repair: whether the statistics of units were renewed.
        share_b: of net b in the average, from 0 to 1.
        loss: cross-entropy on held-out images, in nats.
        accuracy: share of held-out images that are classified right.
        above: loss above the straight line between the ends' losses, in nats.
    """

    a: str
    b: str
    alignment: str
    repair: bool
    share_b: float
    loss: float
    accuracy: float
    above: float


class Average(Protocol):
    """What lies between nets: a net, and the statistics that its units are to have."""

    @property
    def shares(self) -> Sequence[float]:
        """Shares of the second of two nets at which there is one, ends included."""

    def net(self, nets: Sequence[nn.Module], shares: Sequence[float]) -> nn.Module:
        """The net at so large shares of each, in evaluation mode."""

    def mixed(self, ends: Sequence[Statistics], shares: Sequence[float]) -> Statistics:
        """The statistics that its units are to have, given those of the nets."""


class Straight:
    """Averages of weights, unit by unit, on the straight line between nets."""

    shares: Sequence[float] = torch.linspace(0, 1, POINTS, dtype=torch.float64).tolist()

    def net(self, nets: Sequence[nn.Module], shares: Sequence[float]) -> nn.Module:
        """See `averaged`."""
        return averaged(nets, shares)

    def mixed(self, ends: Sequence[Statistics], shares: Sequence[float]) -> Statistics:
        """See `repair.mixed`."""
        return mixed(ends, shares)


def averaged(nets: Sequence[nn.Module], shares: Sequence[float]) -> nn.Module:
    """A net whose weights are an average of others' of the same architecture, in evaluation mode; of one it is a copy."""
    made = copy.deepcopy(nets[0]).eval()
    every = [named_tensors(net) for net in nets]
    with torch.no_grad():
        for name, tensor in named_tensors(made).items():
            if tensor.is_floating_point() and 1.0 not in shares:
                tensor.zero_()
                for of, share in zip(every, shares):
                    tensor.add_(of[name], alpha=share)
            elif 1.0 in shares:
                tensor.copy_(every[shares.index(1.0)][name])
    return made


class Judge:
    """Held-out images, on which nets are judged.

    Args:
        loader: batches (x, y) or (x, y, ...), x what a net takes, y the classes, shape (n,), or of every position (n, p).
        device: where the nets are.

    Raises:
        InputError: if there is no batch, one has no classes, or a generator of many would have to be read again.
    """

    def __init__(self, loader: Iterable[Any], device: torch.device) -> None:
        self.loader, self.device = loader, device
        self._at_hand: list[tuple[Tensor, Tensor]] | None = []  # few images are read once
        for x, y in self._batches():
            self._at_hand.append((x, y))
            if sum(each.nbytes for each, _ in self._at_hand) > _BYTES:
                self._at_hand = None
                break
        if self._at_hand is None and iter(loader) is loader:
            raise InputError("held_out is read for every net; give a DataLoader or a list of batches, no generator.")
        if self._at_hand == []:
            raise InputError("held_out gives no batch; a generator is read but once, so make a new one.")
        if self._at_hand:
            together = (torch.split(torch.cat(parts), _BATCH) for parts in zip(*self._at_hand))
            self._at_hand = list(zip(*together))

    def _batches(self) -> Iterable[tuple[Tensor, Tensor]]:
        """The images and their classes, where the nets are."""
        return self._at_hand or ((x.to(self.device), y.to(self.device)) for x, y in map(labelled, self.loader))

    def __call__(self, net: nn.Module) -> tuple[float, float]:
        """Cross-entropy in nats and accuracy of a net in evaluation mode.

        Raises:
            InputError: if an image has a class that the net has not.
        """
        loss, right, count = 0.0, 0, 0
        with torch.no_grad():
            for x, y in self._batches():
                logits = first_tensor(net(x))
                logits, target = logits.reshape(-1, logits.shape[-1]), y.reshape(-1)
                if int(target.max()) >= logits.shape[1]:
                    raise InputError(
                        f"The held-out images have a class numbered {int(target.max())}, but the nets only have "
                        f"{logits.shape[1]} outputs; give them images of the classes they were trained on."
                    )
                loss += float(cross_entropy(logits.double(), target, reduction="sum"))
                right += int((logits.argmax(1) == target).sum())
                count += int((target >= 0).sum())
        return loss / max(count, 1), right / max(count, 1)


def labelled(batch: Any) -> tuple[Tensor, Tensor]:
    """Pictures and classes of a batch.

    Raises:
        InputError: if it is no (x, y).
    """
    if isinstance(batch, (tuple, list)) and len(batch) > 1 and all(isinstance(part, Tensor) for part in batch[:2]):
        return batch[0], batch[1]
    raise InputError(f"Merged nets are judged on batches (x, y) of images and classes, not {type(batch).__name__}.")
