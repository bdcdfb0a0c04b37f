"""What no unit falls below: the least activation of each, collected in the statistics pass.

Axes: `c` units of one net.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from convergent.storage.tensors import opened, save_tensors
from convergent.streaming.capture import Capture, Seen
from convergent.streaming.collector import Collector, Start, of_other_processes
from convergent.streaming.layers import Layers, Pairs
from convergent.streaming.reading import Reading


class Lowest(Collector):
    """Collects the least activation of each unit, over all images and positions: {layer: {net: shape (c,)}}."""

    def __init__(
        self, nets: Mapping[str, nn.Module], layers: Layers, reading: Reading, seen: Mapping[str, Seen]
    ) -> None:
        super().__init__(nets, layers, reading)
        self._lowest: dict[str, Tensor] = {}
        with Capture(nets, self.layers, self._begin, output=self.reading.output) as capture:
            capture.run(seen)

    def _begin(self, net: str, layer: str, activation: Tensor) -> None:
        units = self.by_unit(net, layer, activation).shape[1]
        self._lowest[f"{layer}/{net}"] = torch.full((units,), torch.inf, device=activation.device)

    def see(self, net: str, layer: str, activation: Tensor) -> None:
        """Compare a batch with the least activations so far."""
        x_c = self.by_unit(net, layer, activation).movedim(1, 0).flatten(1).amin(1).float()
        name = f"{layer}/{net}"
        self._lowest[name] = x_c.minimum(self._lowest[name].to(x_c.device))

    def collected(self) -> dict[str, dict[str, Tensor]]:
        """The least activations over all processes, on the host."""
        names = [f"{layer}/{net}" for layer in self.layers for net in self.nets]
        lowest = {name: self._lowest[name].cpu() for name in names}
        for other in of_other_processes(lowest):
            lowest = {name: x_c.minimum(other[name].cpu()) for name, x_c in lowest.items()}
        return {layer: {net: lowest[f"{layer}/{net}"] for net in self.nets} for layer in self.layers}

    def state(self) -> dict[str, Tensor]:
        """All that was read so far."""
        return super().state() | {f"lowest {name}": x_c.cpu() for name, x_c in self._lowest.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on where `state` was taken."""
        super().load_state(state)
        head = "lowest "
        self._lowest = {name.removeprefix(head): x_c for name, x_c in state.items() if name.startswith(head)}

    def plan(self) -> str:
        """It takes a number of every unit."""
        return f"the least activation of each unit in {', '.join(self.layers)}"


@dataclass(frozen=True)
class SavedLowest:
    """The least activations as an artifact of a pass, see `measurement.Artifact`."""

    folder: str = "lowest"

    def start(self, layers: Layers, reading: Reading, _pairs: Pairs) -> Start:
        """What starts their collector."""
        return lambda nets, _images, first: Lowest(nets, layers, reading, next(first(1))[1])

    def save(self, lowest: Mapping[str, Tensor], file: Path) -> None:
        """Save those of one layer."""
        save_tensors(lowest, file)

    def load(self, file: Path, _layer: str, nets: Sequence[str]) -> dict[str, Tensor]:
        """Those of one layer by net."""
        with opened(file) as saved:
            return {net: saved.get_tensor(net) for net in nets}
