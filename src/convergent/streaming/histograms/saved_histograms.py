"""Joint histograms on disk, a file per layer.

Axes: `k` folds of images, `u` units of all nets side by side, `e` edges of a unit.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from convergent.core.histogram_source import Counting
from convergent.core.joint_histograms import Histograms
from convergent.storage.tensors import SavedTensors, opened, save_tensors
from convergent.streaming.collector import Start
from convergent.streaming.histograms.histogram_pass import HistogramPass
from convergent.streaming.histograms.layer_histograms import LayerHistograms
from convergent.streaming.layers import Layers, Pairs
from convergent.streaming.reading import Reading
from convergent.streaming.rotations import rotated_name


@dataclass(frozen=True)
class SavedHistograms:
    """The joint histograms as an artifact of a pass, see `measurement.Artifact`.

    They are of the nets with one another; or of so many random rotations of each net with the others.
    """

    counting: Counting
    rotated: int = 0

    @property
    def folder(self) -> str:
        """Named after all that they depend on beside the moments' key."""
        counting = f"bins={self.counting.bins},samples={self.counting.samples},folds={self.counting.folds}"
        return f"histograms,{counting}" + (f",rotated={self.rotated}" if self.rotated else "")

    def start(self, layers: Layers, reading: Reading, pairs: Pairs) -> Start:
        """What starts their collector."""
        return HistogramPass.start(layers, reading, pairs, self.counting, self.rotated)

    def save(self, histograms: LayerHistograms, file: Path) -> None:
        """Save those of one layer."""
        first = histograms.parts[0]
        count_k = torch.tensor([part.count for part in histograms.parts])
        above_kue = torch.stack([part.above_ue for part in histograms.parts])
        tensors = {"edges_ue": first.edges_ue, "count_k": count_k, "above_kue": above_kue}
        for fold, part in enumerate(histograms.parts):
            tensors |= {f"above {fold} {i} {j}": table for (i, j), table in part.above.items()}
        save_tensors(tensors, file, {"units": json.dumps([[units.start, units.stop] for units in first.units])})

    def load(self, file: Path, layer: str, nets: Sequence[str]) -> LayerHistograms:
        """Those of one layer; tables of pairs are read when asked for."""
        with opened(file) as saved:
            units = [slice(*edges) for edges in json.loads(saved.metadata()["units"])]
            edges_ue, count_k, above_kue = (saved.get_tensor(name) for name in ("edges_ue", "count_k", "above_kue"))
        names = [*nets, *(rotated_name(net, draw) for draw in range(self.rotated) for net in nets)]
        parts = [
            Histograms(names, units, edges_ue, count, above_kue[fold], SavedTensors(file, f"above {fold}"))
            for fold, count in enumerate(count_k.tolist())
        ]
        return LayerHistograms(layer, parts)
