"""What each unit likes best, collected in the statistics pass; afterwards cut out of the images.

Axes: `c` units of one net, `k` images of each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from convergent.streaming.collector import Collector, First, Start, part_of
from convergent.streaming.layers import Layer
from convergent.streaming.patches import Patches, load_patches, save_patches
from convergent.streaming.plan import table_of
from convergent.streaming.reading import Reading
from convergent.streaming.receptive_fields import Field, receptive_fields
from convergent.streaming.top_images import TopCounter


class TopPatches(Collector):
    """Collects the images, and the positions in them, that excite each unit of every layer most.

    Whatever the samples of the moments are, this looks at every position.
    """

    def __init__(
        self,
        nets: Mapping[str, nn.Module],
        layers: Sequence[str | Sequence[str] | Layer],
        first: First,
        reading: Reading | None = None,
        k: int = 9,
        *,
        lowest: bool = False,
    ) -> None:
        """Find what the units see of an image.

        Args:
            nets: by name.
            layers: see `layers.resolve`.
            first: image of the pass, of which only the size matters.
            reading: which axis of an activation its units are.
            k: images of each unit.
            lowest: the lowest activations instead.
        """
        super().__init__(nets, layers, reading or Reading())
        _, x = next(first(1))
        pictures = {net: seen for net, seen in x.items() if isinstance(seen, Tensor)}
        self._device = {net: pictures[net].device for net in nets}
        self._counters: dict[str, dict[str, TopCounter]] = {layer: {} for layer in self.layers}
        self._across: dict[tuple[str, str], int] = {}
        self._new = partial(TopCounter, k=k, lowest=lowest)
        self._fields: dict[tuple[str, str], Field] = {}
        for net, module in nets.items():
            fields = receptive_fields(
                module, pictures[net], {layer: paths[net] for layer, paths in self.layers.items()}
            )
            self._fields |= {(net, layer): of for layer, of in fields.items()}

    @classmethod
    def start(
        cls, layers: Sequence[Layer], reading: Reading | None = None, k: int = 9, *, lowest: bool = False
    ) -> Start:
        """What starts this collector in a pass; arguments as for the class."""
        return lambda nets, _images, first: cls(nets, layers, first, reading, k, lowest=lowest)

    def see(self, net: str, layer: str, activation: Tensor) -> None:
        """Compare the highest activations of the batch with those kept."""
        x_nc = self.by_unit(net, layer, activation)
        if net not in self._counters[layer]:
            self._counters[layer][net] = self._new(x_nc.shape[1], device=activation.device)
            self._across[net, layer] = x_nc.shape[-1] if x_nc.ndim > 2 else 1
            if self.units(net, layer, activation.shape) != "channel":
                self._fields[net, layer] = None
        x_ncp = x_nc.flatten(2) if x_nc.ndim > 2 else x_nc.unsqueeze(2)
        self._counters[layer][net].add(x_ncp, self.images_on(activation.device))

    def collected(self) -> dict[str, dict[str, Patches]]:
        """The patches of every layer and net, not yet cut out."""
        patches: dict[str, dict[str, Patches]] = {}
        for layer, counters in self._counters.items():
            patches[layer] = {}
            for net, counter in counters.items():
                for other in _of_other_processes(counter.state()):
                    counter.merge(other)
                where = net, layer
                patches[layer][net] = Patches(
                    counter.top(), self._fields[where], self._across[where], torch.empty(0, dtype=torch.uint8)
                )
        return patches

    def state(self) -> dict[str, Tensor]:
        """All that was read so far."""
        state = {"images": torch.tensor(self.images)}
        for layer, counters in self._counters.items():
            for net, counter in counters.items():
                saved = counter.state() | {"across": torch.tensor(self._across[net, layer])}
                state |= {f"{layer}/{net}/{name}": tensor.cpu() for name, tensor in saved.items()}
        return state

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on where `state` was taken."""
        self.images = int(state["images"])
        for layer, paths in self.layers.items():
            for net in paths:
                if saved := part_of(part_of(state, layer), net):
                    counter = self._counters[layer][net] = self._new(len(saved["key_ck"]), device=self._device[net])
                    counter.load_state(saved)
                    self._across[net, layer] = int(saved["across"])

    def plan(self) -> str:
        """A table of what the units see of an image, a line per layer."""
        rows = []
        for layer, paths in self.layers.items():
            fields = dict.fromkeys(_told(self._fields[net, layer]) for net in paths)
            rows.append((layer, ", ".join(fields)))
        return table_of(("layer", "a unit sees"), rows, 2)


def _told(field: Field) -> str:
    return "the whole image" if field is None else f"{field[0].size} x {field[1].size} pixels"


def _of_other_processes(state: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """What the other processes kept."""
    dist = torch.distributed
    if not (dist.is_available() and dist.is_initialized()):
        return
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    gathered = {}
    for name, tensor in state.items():
        here = tensor.to(device).contiguous()
        gathered[name] = [torch.empty_like(here) for _ in range(dist.get_world_size())]
        dist.all_gather(gathered[name], here)
    for rank in range(dist.get_world_size()):
        if rank != dist.get_rank():
            yield {name: gathered[name][rank].to(state[name].device) for name in state}


@dataclass(frozen=True)
class SavedPatches:
    """Patches as a product of a pass, see `measurement.Artifact`: the images and positions first, tiles by `cut_out`.

    Attributes:
        k: of each unit.
        lowest: those of the lowest activations.
    """

    k: int = 9
    lowest: bool = False
    folder: str = field(default="patches", kw_only=True)

    def start(self, layers: Sequence[Layer], reading: Reading, _pairs: Iterable[tuple[str, str]] | None) -> Start:
        """What starts their collector."""
        return TopPatches.start(layers, reading, self.k, lowest=self.lowest)

    def save(self, patches: Mapping[str, Patches], file: Path) -> None:
        """Save those of one layer."""
        save_patches(patches, file)

    def load(self, file: Path, _layer: str, _nets: Sequence[str]) -> dict[str, Patches]:
        """Those of one layer by net."""
        return load_patches(file)
