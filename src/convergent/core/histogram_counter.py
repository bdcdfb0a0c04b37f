"""Counts joint histograms of all pairs of units of several nets exactly, in one pass over their activations.

That a sample lies above an edge is a zero or a one, and how many lie above edges of both units is a matrix product of these:
bins - 1 rows of a unit, where whether it lies in a bin would take bins.

Axes: `u` units of all nets side by side, `s` samples, `e` edges of a unit, `i` and `j` edges of all units of two nets.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from convergent.core.coincidences import SAMPLES, Count, chosen
from convergent.core.joint_histograms import Histograms, fitting
from convergent.core.packing import Packing
from convergent.errors import InputError

_ENTRIES = 1 << 24  # of one product's result, 64 MB: wide layers are counted in strips


class HistogramCounter:
    """Counts samples into the joint histograms of the wanted pairs of nets.

    Args:
        widths: number of units of each net, by name.
        edges_ue: from `edges_of`, shape (u, bins - 1), units of all nets side by side; counted is on its device.
        pairs: numbers (i, j) of the nets that are to be compared, a net with itself included if named; all different
            nets by default.
        counts: backend of the products, see `counting.chosen`.

    Raises:
        InputError: if the edges are not those of these units, or there is no such backend.

    >>> from convergent.core.histogram_edges import edges_of
    >>> x_us = torch.tensor([[0.0, 1, 0, 1], [5.0, 7, 7, 7]])
    >>> counter = HistogramCounter({"a": 1, "b": 1}, edges_of(x_us, 2))
    >>> counter.add(x_us)
    >>> counter.histograms().pair("a", "b")[0, 0].tolist()
    [[1, 1], [0, 2]]
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        edges_ue: Tensor,
        pairs: Iterable[tuple[int, int]] | None = None,
        counts: str | Count = "auto",
    ) -> None:
        sizes = list(widths.values())
        packing = Packing.of(sizes)
        if edges_ue.ndim != 2 or len(edges_ue) != packing.width or not (edges_ue.diff(dim=1) >= 0).all():
            raise InputError(
                f"Edges need the shape ({packing.width} units, edges) and increasing order, not {tuple(edges_ue.shape)} or "
                "another order; take them from edges_of."
            )
        self.nets, self.units, self.edges_ue, self.samples = list(widths), packing.units, edges_ue, 0
        wanted = packing.pairs if pairs is None else sorted({(min(pair), max(pair)) for pair in pairs})
        self._count = chosen(counts, edges_ue.device) if isinstance(counts, str) else counts
        self.above_ue = torch.zeros_like(edges_ue, dtype=torch.int64)
        edges = edges_ue.shape[1]
        self.above = {
            (i, j): torch.zeros(sizes[i], edges, sizes[j], edges, dtype=torch.int32, device=edges_ue.device)
            for i, j in wanted
        }
        self._finite_u = torch.ones(len(edges_ue), dtype=torch.bool, device=edges_ue.device)

    @property
    def memory(self) -> int:
        """Bytes that the counts take."""
        return sum(table.nbytes for table in self.above.values())

    def add(self, x_us: Tensor) -> None:
        """Count samples of all nets' units, shape (u, s); nothing here waits for a GPU.

        Raises:
            InputError: if these are not samples of those units.
        """
        if x_us.ndim != 2 or len(x_us) != len(self.edges_ue):
            raise InputError(
                f"Histograms of {len(self.edges_ue)} units need samples of shape (units, samples), not {tuple(x_us.shape)}; "
                "put the nets' units side by side in rows."
            )
        self.samples += x_us.shape[1]
        self.above = {pair: fitting(table, self.samples) for pair, table in self.above.items()}
        for part_us in torch.split(x_us.detach().to(self.edges_ue.device), SAMPLES, 1):
            self._add(part_us)

    def histograms(self) -> Histograms:
        """The record of all samples so far, on the host; it shares the counter's memory, so this is the last call.

        Raises:
            InputError: if an activation was NaN or infinite.
        """
        if not self._finite_u.all():
            unit = int((~self._finite_u).nonzero()[0])
            net, units = next((net, units) for net, units in zip(self.nets, self.units) if unit < units.stop)
            raise InputError(
                f"Net {net} gives NaN or infinite activations (unit {unit - units.start}); check its weights and the images."
            )
        above = {pair: table.cpu() for pair, table in self.above.items()}
        return Histograms(self.nets, self.units, self.edges_ue.cpu(), self.samples, self.above_ue.cpu(), above)

    def state(self) -> dict[str, Tensor]:
        """All that was counted so far, for a process that takes it up where this one was killed."""
        tables = {f"above_{i}_{j}": table.cpu() for (i, j), table in self.above.items()}
        edges_ue = self.edges_ue.clone()  # those of several folds are one tensor, which no file of tensors takes twice
        rest = {"edges_ue": edges_ue, "above_ue": self.above_ue, "finite_u": self._finite_u}
        return {"samples": torch.tensor(self.samples)} | {name: x.cpu() for name, x in rest.items()} | tables

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on where `state` was taken."""
        device = self.edges_ue.device
        self.samples = int(state["samples"])
        self.edges_ue, self.above_ue = (state[name].to(device, copy=True) for name in ("edges_ue", "above_ue"))
        self._finite_u = state["finite_u"].to(device, copy=True)
        self.above = {(i, j): state[f"above_{i}_{j}"].to(device, copy=True) for i, j in self.above}

    def _add(self, x_us: Tensor) -> None:
        self._finite_u &= torch.isfinite(x_us).all(1)
        above_ues = x_us[:, None] > self.edges_ue[..., None]
        # as a product too: torch's sum of bool takes a third of all the time
        ones_1s = above_ues.new_ones(1, x_us.shape[1])
        self.above_ue += self._count(above_ues.flatten(0, 1), ones_1s).view_as(self.above_ue)
        for (i, j), table in self.above.items():
            rows_is, columns_js = (above_ues[self.units[net]].flatten(0, 1) for net in (i, j))
            strip = max(1, _ENTRIES // max(1, len(columns_js)))
            for into_ij, part_is in zip(torch.split(table.view(len(rows_is), -1), strip), torch.split(rows_is, strip)):
                into_ij += self._count(part_is, columns_js)
