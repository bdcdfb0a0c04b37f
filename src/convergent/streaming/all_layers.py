"""Second moments of every layer of every net with every other layer and net: a sample per image, in the same pass.

A *site* is a layer of a net; in these moments sites stand where in others nets do, all layers as one.
"""

from __future__ import annotations

import hashlib
import json
from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from convergent.core.layer_moments import LayerMoments
from convergent.storage.tensors import opened, save_tensors
from convergent.streaming.accumulate import Accumulator
from convergent.streaming.collector import First, Start, table_of
from convergent.streaming.layers import Layers, Pairs, resolve
from convergent.streaming.reading import Reading
from convergent.streaming.saved_moments import moments_of, tensors_of
from convergent.streaming.sparse_accumulate import SparseAccumulator
from convergent.streaming.statistics_pass import Part, StatisticsPass, calibration_of

_ALL = ""  # what the layer of all layers is called


def site(net: str, layer: str) -> str:
    """The name of a layer of a net."""
    return f"{net}\n{layer}"


def net_and_layer(name: str) -> tuple[str, str]:
    """The net and the layer that a site's name means."""
    net, _, layer = name.partition("\n")
    return net, layer


class AllLayersPass(StatisticsPass):
    """Collects the moments of all sites together; those of each layer hold its sites with itself and all later ones."""

    sparse = False  # sites with several layers

    def accumulating(
        self, seen: Mapping[str, Mapping[str, Tensor]]
    ) -> dict[str, list[Accumulator | SparseAccumulator]]:
        """One accumulator for all sites, layer by layer and in each net by net."""
        of_sites = {site(net, layer): x for layer, of_nets in seen.items() for net, x in of_nets.items()}
        self._masked |= {_ALL} if self._masked else set()
        return {_ALL: [self.accumulator(_ALL, Part(list(of_sites), None, self.deal.blocks), of_sites)]}

    def see(self, net: str, layer: str, activation: Tensor) -> None:
        """Copy an activation into the buffer."""
        self.accumulators[_ALL][0].write(site(net, layer), self.samples(net, layer, activation))

    def by_layer(self) -> Iterator[tuple[str, LayerMoments]]:
        """The moments by the layer of the first site of each pair."""
        ((_, whole),) = super().by_layer()
        layer_of = [net_and_layer(name)[1] for name in whole.nets]
        for layer in self.layers:
            scatter = {ij: s_kab for ij, s_kab in whole.scatter.items() if layer_of[ij[0]] == layer}
            yield layer, replace(whole, scatter=scatter)

    def plan(self) -> str:
        """What all layers with all layers take, in a line."""
        (sums,) = self.accumulators[_ALL]
        row = [f"{len(sums.units)}", f"{sums.packing.width:,}", f"{sums.blocks}", f"{sums.pass_memory / 1e6:,.0f} MB"]
        return table_of(("layers of nets", "units", "blocks", "pass"), [row], 0)


@dataclass(frozen=True)
class SavedAllLayers:
    """The moments of all layers with all layers as an artifact of a pass, see `measurement.Artifact`.

    Attributes:
        wanted: all layers: a pass that lacks some measures these.
    """

    wanted: Layers

    @property
    def folder(self) -> str:
        """Named after the layers."""
        return f"all_layers={hashlib.sha256(json.dumps(self.wanted).encode()).hexdigest()[:8]}"

    def start(self, _layers: Layers, reading: Reading, _pairs: Pairs) -> Start:
        """What starts their collector; layers of unequal sizes have no position in common, so it reads their means."""
        sample = "centre" if reading.sample == "centre" else "pooled"

        def started(nets: Mapping[str, nn.Module], images: int | None, first: First) -> AllLayersPass:
            layers = list(resolve(nets, self.wanted).values())
            return AllLayersPass(
                nets, layers, images, next(first(calibration_of(images)))[1], replace(reading, sample=sample)
            )

        return started

    def save(self, moments: LayerMoments, file: Path) -> None:
        """Save those whose first site is of one layer."""
        tensors, about = tensors_of(moments)
        save_tensors(tensors, file, about | {"sites": json.dumps(moments.nets)})

    def load(self, file: Path, layer: str, _nets: Sequence[str]) -> LayerMoments:
        """Those whose first site is of one layer; sums of products are read when asked for."""
        with opened(file) as saved:
            sites = json.loads(saved.metadata()["sites"])
        return moments_of(file, layer, sites)


def together(parts: Iterable[LayerMoments]) -> LayerMoments:
    """The moments of all sites from those of each layer."""
    every = list(parts)
    scatter: Any = ChainMap(*(part.scatter for part in every))  # type: ignore[arg-type]  # which is only read
    return replace(every[0], layer=_ALL, scatter=scatter)
