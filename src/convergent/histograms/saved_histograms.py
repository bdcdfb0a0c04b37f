"""Joint histograms on disk, a file per layer.

Axes: `k` folds of images, `u` units of all nets side by side, `e` edges of a unit.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from convergent.histograms.histogram_pass import HistogramPass
from convergent.histograms.joint import Counting
from convergent.histograms.layer_histograms import LayerHistograms
from convergent.histograms.record import Histograms
from convergent.streaming.collector import Reading, Start
from convergent.streaming.layers import Layer


@dataclass(frozen=True)
class SavedHistograms:
    """The joint histograms as a product of a pass, see `measurement.Product`.

    Attributes:
        counting: how finely they are counted.
    """

    counting: Counting

    @property
    def folder(self) -> str:
        """Named after all that they depend on beside the moments' key."""
        return f"histograms,bins={self.counting.bins},samples={self.counting.samples},folds={self.counting.folds}"

    def start(self, layers: Sequence[Layer], how: Reading, pairs: Iterable[tuple[str, str]] | None) -> Start:
        """What starts their collector."""
        return HistogramPass.start(layers, how, pairs, self.counting)

    def save(self, found: LayerHistograms, file: Path) -> None:
        """Save those of one layer."""
        first = found.parts[0]
        tensors = {
            "edges_ue": first.edges_ue,
            "count_k": torch.tensor([part.count for part in found.parts]),
            "above_kue": torch.stack([part.above_ue for part in found.parts]),
        }
        for fold, part in enumerate(found.parts):
            tensors |= {f"above {fold} {i} {j}": table.contiguous() for (i, j), table in part.above.items()}
        save_file(tensors, file, {"units": json.dumps([[units.start, units.stop] for units in first.units])})

    def load(self, file: Path, layer: str, nets: Sequence[str]) -> LayerHistograms:
        """Those of one layer; tables of pairs are read when asked for."""
        with safe_open(file, "pt") as saved:
            units = [slice(*edges) for edges in json.loads(saved.metadata()["units"])]
            edges_ue, count_k, above_kue = (saved.get_tensor(name) for name in ("edges_ue", "count_k", "above_kue"))
        parts = [
            Histograms(nets, units, edges_ue, count, above_kue[fold], SavedTables(file, fold))
            for fold, count in enumerate(count_k.tolist())
        ]
        return LayerHistograms(layer, parts)


class SavedTables(Mapping[tuple[int, int], Tensor]):
    """The tables of one fold in a file of saved histograms, read when asked for.

    Args:
        file: as `SavedHistograms` writes them.
        fold: number of the fold.
    """

    def __init__(self, file: Path, fold: int) -> None:
        self.file, self.fold = file, fold
        with safe_open(file, "pt") as saved:
            names = [name.split() for name in saved.keys() if name.startswith(f"above {fold} ")]  # noqa: SIM118  (no mapping)
        self._keys = sorted((int(i), int(j)) for _, _, i, j in names)

    def __getitem__(self, key: tuple[int, int]) -> Tensor:
        if key not in self._keys:
            raise KeyError(key)
        with safe_open(self.file, "pt") as saved:
            return saved.get_tensor(f"above {self.fold} {key[0]} {key[1]}")  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)
