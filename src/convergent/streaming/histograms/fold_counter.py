"""Joint histograms of one layer, counted apart for each fold of the images.

Axes: `n` images of a batch, `u` units of all nets side by side, `s` samples of an image.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from convergent.core.coincidences import SAMPLES
from convergent.core.histogram_counter import HistogramCounter
from convergent.core.joint_histograms import Histograms, fitting
from convergent.errors import InputError
from convergent.streaming.collector import over_processes, part_of


class FoldCounter:
    """A counter for each fold, and samples that wait until they are enough for a matrix product.

    Args:
        layer: name of the layer.
        widths: number of units of each net, by name.
        edges_ue: from `edges_of`; counted is on its device.
        fold_n: the fold of each image there is.
        folds: how many.
        pairs: numbers of the nets that are to be compared; all different nets by default.
    """

    def __init__(
        self,
        layer: str,
        widths: Mapping[str, int],
        edges_ue: Tensor,
        fold_n: Tensor,
        folds: int,
        pairs: Iterable[tuple[int, int]] | None = None,
    ) -> None:
        self.layer, self.widths, self.fold_n = layer, dict(widths), fold_n
        wanted = None if pairs is None else list(pairs)
        self.counters = [HistogramCounter(widths, edges_ue, wanted) for _ in range(folds)]
        self._waiting: list[list[Tensor]] = [[] for _ in range(folds)]

    @property
    def memory(self) -> int:
        """Bytes that the counts take."""
        return sum(counter.memory for counter in self.counters)

    def add(self, x_nus: Tensor, image_n: Tensor) -> None:
        """Take samples of these images, shape (n, u, s); their numbers are on the host."""
        fold_n = self.fold_n[image_n]
        for fold in sorted(set(fold_n.tolist())):
            of_fold_n = (fold_n == fold).nonzero()[:, 0]
            part_nus = x_nus if len(of_fold_n) == len(x_nus) else x_nus[of_fold_n.to(x_nus.device)]
            self._waiting[fold].append(part_nus.transpose(0, 1).flatten(1))
            if sum(x_us.shape[1] for x_us in self._waiting[fold]) >= SAMPLES:
                self._count(fold)

    def finish(self) -> list[Histograms]:
        """The histograms of each fold, summed over all processes; the last call.

        Raises:
            InputError: if an activation was NaN or infinite.
        """
        parts = []
        for fold, counter in enumerate(self.counters):
            self._count(fold)
            try:
                mine = counter.histograms()
            except InputError as error:
                raise InputError(f"Layer {self.layer}: {error}") from None
            parts.append(_summed(mine, counter.edges_ue.device))
        return parts

    def state(self) -> dict[str, Tensor]:
        """All that was counted so far, for a process that takes it up where this one was killed."""
        state: dict[str, Tensor] = {}
        for fold, counter in enumerate(self.counters):
            state |= {f"{fold}/{name}": x for name, x in counter.state().items()}
            if self._waiting[fold]:
                state[f"{fold}/waiting_us"] = torch.cat(self._waiting[fold], 1).cpu()
        return state

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on where `state` was taken."""
        for fold, counter in enumerate(self.counters):
            of_fold = part_of(state, str(fold))
            waiting_us = of_fold.pop("waiting_us", None)
            counter.load_state(of_fold)
            self._waiting[fold] = [] if waiting_us is None else [waiting_us.to(counter.edges_ue.device)]

    def _count(self, fold: int) -> None:
        if self._waiting[fold]:
            self.counters[fold].add(torch.cat(self._waiting[fold], 1))
            self._waiting[fold] = []


def _summed(mine: Histograms, device: torch.device) -> Histograms:
    """The histograms of all processes together, in the memory of this one's."""
    count = torch.tensor([mine.count])
    over_processes(count, device)
    above = {pair: fitting(table, int(count)) for pair, table in mine.above.items()}
    for table in [mine.above_ue, *above.values()]:
        over_processes(table, device)
    return replace(mine, count=int(count), above=above)
