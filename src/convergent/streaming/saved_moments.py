"""Moments on disk, a file per layer.

Axes: `k` blocks of images, `u` units of all nets side by side.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from convergent.streaming.collector import Reading, Start
from convergent.streaming.layer_moments import LayerMoments
from convergent.streaming.layers import Layer
from convergent.streaming.statistics_pass import StatisticsPass


@dataclass(frozen=True)
class SavedMoments:
    """The second moments as a product of a pass, see `measurement.Product`."""

    folder: str = ""

    def start(self, layers: Sequence[Layer], how: Reading, pairs: Iterable[tuple[str, str]] | None) -> Start:
        """What starts their collector."""
        return StatisticsPass.start(layers, how, pairs)

    def save(self, found: LayerMoments, file: Path) -> None:
        """Save those of one layer."""
        about = {"images": str(found.images), "units": json.dumps([[units.start, units.stop] for units in found.units])}
        tensors = {"count_k": found.count_k, "mean_ku": found.mean_ku}
        tensors |= {f"scatter_kab {i} {j}": s_kab.contiguous() for (i, j), s_kab in found.scatter.items()}
        save_file(tensors, file, about)

    def load(self, file: Path, layer: str, nets: Sequence[str]) -> LayerMoments:
        """Those of one layer; sums of products are read when asked for."""
        with safe_open(file, "pt") as saved:
            about, count_k, mean_ku = saved.metadata(), saved.get_tensor("count_k"), saved.get_tensor("mean_ku")
        units = [slice(*edges) for edges in json.loads(about["units"])]
        return LayerMoments(layer, nets, units, count_k, mean_ku, SavedScatter(file), int(about["images"]))


class SavedScatter(Mapping[tuple[int, int], Tensor]):
    """The sums of products in a file of saved moments, read when asked for.

    Args:
        file: as `SavedMoments` writes them.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        with safe_open(file, "pt") as saved:
            names = [name.split() for name in saved.keys() if name.startswith("scatter_kab")]  # noqa: SIM118  (no mapping)
        self._keys = sorted((int(i), int(j)) for _, i, j in names)

    def __getitem__(self, key: tuple[int, int]) -> Tensor:
        if key not in self._keys:
            raise KeyError(key)
        with safe_open(self.file, "pt") as saved:
            return saved.get_tensor(f"scatter_kab {key[0]} {key[1]}")  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)
