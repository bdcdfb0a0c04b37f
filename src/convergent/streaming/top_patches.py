"""The top-activating patches of each unit, collected in the statistics pass; afterwards cut out of the images.

Axes: `c` units of one net, `k` images of each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from convergent.streaming.capture import Capture
from convergent.streaming.collector import Collector, First, Start, of_other_processes, table_of
from convergent.streaming.layers import JOINED, Layers, Pairs, samples
from convergent.streaming.patches import Patches, load_patches, save_patches
from convergent.streaming.reading import Reading
from convergent.streaming.receptive_fields import Field, receptive_fields
from convergent.streaming.top_images import TopCounter


class TopPatches(Collector):
    """Collects the images (or contexts), and the positions in them, that excite each unit of every layer most.

    Whatever the samples of the moments are, this looks at every position that is no padding. Of the first image only the
    size matters.
    """

    def __init__(
        self,
        nets: Mapping[str, nn.Module],
        layers: Layers,
        first: First,
        reading: Reading | None = None,
        k: int = 9,
        *,
        lowest: bool = False,
    ) -> None:
        super().__init__(nets, layers, reading or Reading())
        _, x = next(first(1))
        pictures = {net: seen for net, seen in x.items() if isinstance(seen, Tensor)}
        self._masked = torch.inf if lowest else -torch.inf
        self._counters: dict[tuple[str, str], TopCounter] = {}
        self._across: dict[tuple[str, str], int] = {}
        self._new = partial(TopCounter, k=k, lowest=lowest)
        self._fields: dict[tuple[str, str], Field] = {}
        for net, module in nets.items():
            paths = {layer: of_nets[net] for layer, of_nets in self.layers.items()}
            single = {layer: path for layer, path in paths.items() if net in pictures and JOINED not in path}
            fields = dict.fromkeys(paths) | (receptive_fields(module, pictures[net], single) if single else {})
            self._fields |= {(layer, net): of for layer, of in fields.items()}
        with Capture(nets, self.layers, self._begin, output=self.reading.output) as capture:
            capture.run(x)

    def _begin(self, net: str, layer: str, activation: Tensor) -> None:
        x_nc, where = self.by_unit(net, layer, activation), (layer, net)
        self._counters[where] = self._new(x_nc.shape[1], device=activation.device)
        self._across[where] = x_nc.shape[-1] if x_nc.ndim > 2 else 1
        if self.units(net, layer, activation.shape) != "channel":
            self._fields[where] = None

    @classmethod
    def start(cls, layers: Layers, reading: Reading | None = None, k: int = 9, *, lowest: bool = False) -> Start:
        """What starts this collector in a pass; arguments as for the class."""
        return lambda nets, _images, first: cls(nets, layers, first, reading, k, lowest=lowest)

    def see(self, net: str, layer: str, activation: Tensor) -> None:
        """Compare the highest activations of the batch with those kept."""
        x_ncp = samples(self.by_unit(net, layer, activation), "every", "")
        if self.unmasked:
            x_ncp = x_ncp.masked_fill(~self.unmasked.whole_np[:, None].to(x_ncp.device), self._masked)
        self._counters[layer, net].add(x_ncp, self.images_on(activation.device))

    def collected(self) -> dict[str, dict[str, Patches]]:
        """The patches of every layer and net, not yet cut out."""
        patches: dict[str, dict[str, Patches]] = {layer: {} for layer in self.layers}
        for (layer, net), counter in self._counters.items():
            for other in of_other_processes(counter.state()):
                counter.merge(other)
            field, across = self._fields[layer, net], self._across[layer, net]
            patches[layer][net] = Patches(counter.top(), field, across, torch.empty(0, dtype=torch.uint8))
        return patches

    def parts_read(self) -> dict[str, TopCounter]:
        """The counter of each layer and net."""
        return {f"{layer}/{net}": counter for (layer, net), counter in self._counters.items()}

    def plan(self) -> str:
        """A table of what the units see of an image, a line per layer."""
        rows = []
        for layer, paths in self.layers.items():
            fields = [self._fields[layer, net] for net in paths]
            sizes = [f"{of[0].size} x {of[1].size} pixels" if of else "the whole image" for of in fields]
            rows.append((layer, ", ".join(dict.fromkeys(sizes))))
        return table_of(("layer", "a unit sees"), rows, 2)


@dataclass(frozen=True)
class SavedPatches:
    """Patches as an artifact of a pass, see `measurement.Artifact`: the images and positions first, tiles by `cut_out`."""

    k: int = 9
    lowest: bool = False
    folder: str = field(default="patches", kw_only=True)

    def start(self, layers: Layers, reading: Reading, _pairs: Pairs) -> Start:
        """What starts their collector."""
        return TopPatches.start(layers, reading, self.k, lowest=self.lowest)

    def save(self, patches: Mapping[str, Patches], file: Path) -> None:
        """Save those of one layer."""
        save_patches(patches, file)

    def load(self, file: Path, _layer: str, _nets: Sequence[str]) -> dict[str, Patches]:
        """Those of one layer by net."""
        return load_patches(file)
