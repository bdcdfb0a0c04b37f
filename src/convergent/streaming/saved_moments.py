"""Moments on disk, a file per layer.

Axes: `k` blocks of images, `u` units of all nets side by side.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from convergent.core.energies import Energies
from convergent.core.layer_moments import LayerMoments
from convergent.core.sparse_layer_moments import SparseLayerMoments
from convergent.storage.tensors import SavedTensors, opened, save_tensors
from convergent.streaming.collector import Start
from convergent.streaming.divided_pass import DividedPass, LayerBands
from convergent.streaming.layers import Layers, Pairs
from convergent.streaming.reading import Reading
from convergent.streaming.saved_sparse import SQUARES, SavedProducts, sparse_tensors

_ENERGIES = ("centre_u", "mean_ki", "with_energies_kij", "with_units_kiu")


@dataclass(frozen=True)
class SavedMoments:
    """The second moments as an artifact of a pass, see `measurement.Artifact`."""

    folder: str = ""
    done: Mapping[str, int] = field(default_factory=dict)  # of layers of which some bands are saved, how many

    def start(self, layers: Layers, reading: Reading, pairs: Pairs) -> Start:
        """What starts their collector, which leaves to later passes what does not fit into this one."""
        return DividedPass.starting(layers, reading, pairs, self.done)

    def save(self, moments: LayerMoments | LayerBands, file: Path) -> None:
        """Save those of one layer, or some bands of them."""
        tensors, about = tensors_of(moments.moments if isinstance(moments, LayerBands) else moments)
        save_tensors(tensors, file, about)

    def load(self, file: Path, layer: str, nets: Sequence[str]) -> LayerMoments:
        """Those of one layer; sums of products are read when asked for."""
        return moments_of(file, layer, nets)


def tensors_of(moments: LayerMoments, prefix: str = "") -> tuple[dict[str, Any], dict[str, str]]:
    """What is saved of a layer's moments, and the text about it, under names that begin in the same way."""
    tensors: dict[str, Any] = {"count_k": moments.count_k, "mean_ku": moments.mean_ku}
    tensors |= {f"scatter_kab {i} {j}": s_kab for (i, j), s_kab in moments.scatter.items()}
    tensors |= sparse_tensors(moments) if isinstance(moments, SparseLayerMoments) else {}
    if (of := moments.energies) is not None:
        kinds = of.centre_u, of.mean_ki, of.with_energies_kij, of.with_units_kiu
        tensors |= {f"energies {name}": x for name, x in zip(_ENERGIES, kinds)}
    about = {"images": str(moments.images), "units": json.dumps([[units.start, units.stop] for units in moments.units])}
    return {f"{prefix}{name}": x for name, x in tensors.items()}, {f"{prefix}{name}": t for name, t in about.items()}


def moments_of(file: Path, layer: str, nets: Sequence[str], prefix: str = "") -> LayerMoments:
    """The moments that were saved under names that begin in this way; sums of products are read when asked for."""
    with opened(file) as saved:
        about = saved.metadata()
        count_k, mean_ku = (saved.get_tensor(f"{prefix}{name}") for name in ("count_k", "mean_ku"))
        units = [slice(*edges) for edges in json.loads(about[f"{prefix}units"])]
        there = f"{prefix}energies {_ENERGIES[0]}" in saved.keys()  # noqa: SIM118  (no mapping)
        of = [saved.get_tensor(f"{prefix}energies {name}") for name in _ENERGIES] if there else []
        square_ku = saved.get_tensor(f"{prefix}{SQUARES}") if f"{prefix}{SQUARES}" in saved.keys() else None  # noqa: SIM118
    if square_ku is not None:
        of_units, products = (layer, nets, units, count_k, mean_ku), SavedProducts(file, prefix, units)
        return SparseLayerMoments(*of_units, int(about[f"{prefix}images"]), square_ku=square_ku, products=products)
    scatter = SavedTensors(file, f"{prefix}scatter_kab")
    energies, images = Energies(units, *of) if of else None, int(about[f"{prefix}images"])
    return LayerMoments(layer, nets, units, count_k, mean_ku, scatter, images, energies)
