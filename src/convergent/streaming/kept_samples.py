"""A seeded sample of images whose activations are kept in the statistics pass, for measures that need samples.

Axes: `n` images of a batch, `c` units of one net, `m` images of the sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from convergent.errors import InputError
from convergent.memory import check_memory
from convergent.storage.tensors import opened, save_tensors
from convergent.streaming.capture import Capture, Seen
from convergent.streaming.collector import Collector, First, Start, over_processes, part_of, table_of
from convergent.streaming.layers import Layers, Pairs
from convergent.streaming.reading import Reading


class KeptSamples(Collector):
    """Keeps the activations of some images, means over positions, whatever the order, batches and processes.

    Args:
        nets: by name.
        layers: whose activations are kept.
        reading: how activations are read; of layers with positions means are taken, or the centre where that is the sample.
        images: how many there will be.
        seen: what each net sees of a few images.
        most: images of the sample; all if there are no more.

    Raises:
        InputError: if memory does not suffice.
    """

    def __init__(
        self,
        nets: Mapping[str, nn.Module],
        layers: Layers,
        reading: Reading,
        images: int,
        seen: Mapping[str, Seen],
        most: int,
    ) -> None:
        sample = "centre" if reading.sample == "centre" else "pooled"
        super().__init__(nets, layers, replace(reading, sample=sample))
        self.most = min(most, images)
        chosen = torch.randperm(images, generator=torch.Generator().manual_seed(0))[: self.most].sort().values
        self.place_n = torch.full((images,), -1).index_copy_(0, chosen, torch.arange(self.most))
        self.kept: dict[
            str, Tensor
        ] = {}  # shape (m, c + 1), by layer and net; 1 in the last column where there was one
        with Capture(nets, self.layers, self._begin, output=self.reading.output) as capture:
            capture.run(seen)
        needed = sum(x_mc.nbytes for x_mc in self.kept.values())
        check_memory(needed, f"Activations of {self.most} images", "leave measures that need samples, or layers, out")

    def _begin(self, net: str, layer: str, activation: Tensor) -> None:
        units = self.by_unit(net, layer, activation).shape[1]
        self.kept[f"{layer}\n{net}"] = torch.zeros(self.most, units + 1)  # whose memory is taken as images come

    def see(self, net: str, layer: str, activation: Tensor) -> None:
        """Keep the activations of the chosen images of the batch."""
        x_nc, image_n = self.samples(net, layer, activation)[:, :, 0], self.image_n
        if self.unmasked and len(x_nc) != len(image_n):  # without texts that are padding throughout
            image_n = image_n[self.unmasked.image_s]
        x_mc, place_n = self.kept[f"{layer}\n{net}"], self.place_n[image_n]
        if (there := place_n >= 0).any():
            x_mc[place_n[there], :-1] = x_nc[there.to(x_nc.device)].float().cpu()
            x_mc[place_n[there], -1] = 1

    def collected(self) -> dict[str, dict[str, Tensor]]:
        """The samples of each layer and net, shape (m, c): of the images that were read by any process."""
        samples: dict[str, dict[str, Tensor]] = {layer: {} for layer in self.layers}
        for name, x_mc in self.kept.items():
            over_processes(x_mc)
            layer, _, net = name.partition("\n")
            samples[layer][net] = x_mc[x_mc[:, -1] > 0, :-1]
        return samples

    def state(self) -> dict[str, Tensor]:
        """All that was kept so far."""
        return super().state() | {f"kept/{name}": x_mc for name, x_mc in self.kept.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on where `state` was taken."""
        super().load_state(state)
        self.kept = {name: x_mc.clone() for name, x_mc in part_of(state, "kept").items()}

    def plan(self) -> str:
        """How many images are kept."""
        return table_of(("images of which activations are kept",), [[f"{self.most:,}"]], 0)


@dataclass(frozen=True)
class SavedSamples:
    """The samples as an artifact of a pass, see `measurement.Artifact`."""

    most: int

    @property
    def folder(self) -> str:
        """Named after their number."""
        return f"samples={self.most}"

    def start(self, layers: Layers, reading: Reading, _pairs: Pairs) -> Start:
        """What starts their collector."""

        def started(nets: Mapping[str, nn.Module], images: int | None, first: First) -> KeptSamples:
            if images is None:
                raise InputError("A sample of images needs to know how many there are; give a loader with a length.")
            return KeptSamples(nets, layers, reading, images, next(first(1))[1], self.most)

        return started

    def save(self, samples: Mapping[str, Tensor], file: Path) -> None:
        """Save those of one layer by net."""
        save_tensors(dict(samples), file, {})

    def load(self, file: Path, _layer: str, nets: Sequence[str]) -> dict[str, Tensor]:
        """Those of one layer by net."""
        with opened(file) as saved:
            return {net: saved.get_tensor(net) for net in nets}
