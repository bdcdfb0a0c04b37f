"""Joint histograms of one layer of several nets, counted apart for each fold of the images.

Axes: `n` images of a batch, `u` units of all nets side by side, `s` samples of an image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from convergent.core.coincidences import SAMPLES
from convergent.core.histogram_counter import HistogramCounter
from convergent.core.histogram_source import CountedJoint
from convergent.core.joint_histograms import Histograms, fitting
from convergent.core.pairs import Pair
from convergent.errors import InputError
from convergent.streaming.collector import over_processes, part_of, state_of


@dataclass(frozen=True, eq=False)
class LayerHistograms:
    """The joint histograms of one layer of several nets, per fold of blocks of images, all with the same edges."""

    layer: str
    parts: Sequence[Histograms]

    def joint(self, a: int | str, b: int | str) -> CountedJoint:
        """Those of two nets, given by number or name."""
        return CountedJoint([part.select(a, b) for part in self.parts])

    def with_moments(self, pair: Pair) -> Pair:
        """A pair of this layer's nets with their joint histograms, for methods that need them."""
        a, b = (pair.name_a, pair.name_b) if pair.a.start < pair.b.start else (pair.name_b, pair.name_a)
        return replace(pair, joint=self.joint(a, b))


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
        pairs: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        self.layer, self.widths, self.fold_n = layer, dict(widths), fold_n
        self.counters = [HistogramCounter(widths, edges_ue, pairs) for _ in range(folds)]
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
        """All that was counted so far."""
        waiting = {f"{fold}/waiting_us": torch.cat(x, 1).cpu() for fold, x in enumerate(self._waiting) if x}
        return state_of({str(fold): counter for fold, counter in enumerate(self.counters)}) | waiting

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

    count = torch.tensor([mine.count])
    over_processes(count, device)
    above = {pair: fitting(table, int(count)) for pair, table in mine.above.items()}
    for table in [mine.above_ue, *above.values()]:
        over_processes(table, device)
    return replace(mine, count=int(count), above=above)
