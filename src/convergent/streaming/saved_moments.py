"""Moments on disk, a file per layer.

Axes: `k` blocks of images, `u` units of all nets side by side.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from convergent.core.layer_moments import LayerMoments
from convergent.storage.tensors import opened, save_tensors
from convergent.streaming.collector import Start
from convergent.streaming.layers import Layer
from convergent.streaming.reading import Reading
from convergent.streaming.saved_tensors import SavedTensors
from convergent.streaming.statistics_pass import StatisticsPass


@dataclass(frozen=True)
class SavedMoments:
    """The second moments as a product of a pass, see `measurement.Artifact`."""

    folder: str = ""

    def start(self, layers: Sequence[Layer], how: Reading, pairs: Iterable[tuple[str, str]] | None) -> Start:
        """What starts their collector."""
        return StatisticsPass.start(layers, how, pairs)

    def save(self, found: LayerMoments, file: Path, more: Mapping[str, str] | None = None) -> None:
        """Save those of one layer, with more text about them where there is some."""
        about = dict(more or {}) | {
            "images": str(found.images),
            "units": json.dumps([[units.start, units.stop] for units in found.units]),
        }
        tensors = {"count_k": found.count_k, "mean_ku": found.mean_ku}
        tensors |= {f"scatter_kab {i} {j}": s_kab for (i, j), s_kab in found.scatter.items()}
        save_tensors(tensors, file, about)

    def load(self, file: Path, layer: str, nets: Sequence[str]) -> LayerMoments:
        """Those of one layer; sums of products are read when asked for."""
        with opened(file) as saved:
            about, count_k, mean_ku = saved.metadata(), saved.get_tensor("count_k"), saved.get_tensor("mean_ku")
        units = [slice(*edges) for edges in json.loads(about["units"])]
        return LayerMoments(
            layer, nets, units, count_k, mean_ku, SavedTensors(file, "scatter_kab"), int(about["images"])
        )
