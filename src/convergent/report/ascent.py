"""The input that a unit prefers, by gradient ascent: what excites it, not what happens to be among the images.

Axes: `u` units of one layer, one picture each.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu
from torch.overrides import TorchFunctionMode

from convergent.streaming.capture import Capture
from convergent.streaming.layers import by_unit, layout
from convergent.streaming.unit_axis import axis_by_type


@dataclass(frozen=True, eq=False)
class Preferred:
    """What units prefer.

    Attributes:
        picture_uchw: as the net sees it, shape (u, channels, height, width).
        activation_u: that the unit reaches, shape (u,).
        position: in the layer's map where it does, counted row by row.
    """

    picture_uchw: Tensor
    activation_u: Tensor
    position: int


@dataclass(frozen=True)
class Ascent:
    """How pictures are optimised; all regularisers may be 0.

    Attributes:
        steps: of Adam.
        rate: of learning, in standard deviations of the pictures.
        jitter: pixels by which the picture is shifted at random before each step; None for a 32nd of its side.
        smoothness: weight of the mean squared difference of neighbouring pixels.
        decay: weight of the mean squared pixel.
        seed: of the first picture, which is faint noise, and of the shifts.

    Source: Erhan, Bengio, Courville, Vincent 2009, "Visualizing higher-layer features of a deep network"; Mordvintsev, Olah,
    Tyka 2015, "Inceptionism" (jitter); Mahendran, Vedaldi 2015 (total variation).
    """

    steps: int = 128
    rate: float = 0.05
    jitter: int | None = None
    smoothness: float = 0.1
    decay: float = 0.01
    seed: int = 0

    def pictures(
        self,
        net: nn.Module,
        path: str,
        units: Sequence[int],
        shape: Sequence[int],
        low: Tensor | float = -torch.inf,
        high: Tensor | float = torch.inf,
    ) -> Preferred:
        """For each unit a picture that excites it.

        A unit of a map is excited at the map's centre.

        Args:
            net: in evaluation mode; its weights are left alone.
            path: of the layer.
            units: of the layer.
            shape: of a picture: channels, height, width.
            low: least value of a pixel, as the net sees it; broadcast over (channels, height, width).
            high: greatest value.
        """
        parameter = next(net.parameters(), torch.empty(0))
        generator = torch.Generator().manual_seed(self.seed)
        x = (0.01 * torch.randn(len(units), *shape, generator=generator)).to(parameter.device, parameter.dtype)
        x.requires_grad_()
        jitter = min(shape[1:]) // 32 if self.jitter is None else self.jitter
        adam = torch.optim.Adam([x], lr=self.rate)
        with torch.enable_grad():
            for step in range(self.steps):
                shifts = torch.randint(-jitter, jitter + 1, (2,), generator=generator).tolist()
                # a rectified unit that is silent has no gradient: at first it gets a faint one
                with _Leaky(0.1 * max(0.0, 1 - 2 * step / self.steps)):
                    excited_u, _ = _at_centre(net, path, x.roll(shifts, (2, 3)), units)
                loss = -excited_u.sum() + self._penalty(x)
                (x.grad,) = torch.autograd.grad(loss, x)
                adam.step()
                with torch.no_grad():
                    x.clamp_(torch.as_tensor(low).to(x), torch.as_tensor(high).to(x))
        with torch.no_grad():
            return Preferred(x.detach(), *_at_centre(net, path, x, units))

    def _penalty(self, x: Tensor) -> Tensor:
        rough = x.diff(dim=2).square().mean((1, 2, 3)) + x.diff(dim=3).square().mean((1, 2, 3))
        return (self.smoothness * rough + self.decay * x.square().mean((1, 2, 3))).sum()


class _Leaky(TorchFunctionMode):
    """While open, rectifiers let a share of what is negative through."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    def __torch_function__(self, function: Callable[..., Any], _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.slope and function.__name__ in ("relu", "relu_"):
            return leaky_relu(args[0], self.slope)
        return function(*args, **(kwargs or {}))


def _at_centre(net: nn.Module, path: str, x: Tensor, units: Sequence[int]) -> tuple[Tensor, int]:
    """The activation of each unit in its own picture, at the map's centre; and which position that is."""
    seen: list[Tensor] = []
    layers = {path: {"": path}}
    with Capture({"": net}, layers, lambda _net, _layer, activation: seen.append(activation.clone())) as capture:
        capture.begin()
        net(x)
    units_are = layout(seen[0].shape, "auto", axis_by_type(net, path))
    x_uc = by_unit(seen[0], units_are, f"Layer {path}")
    chosen_u, position = x_uc[torch.arange(len(units)), torch.tensor(units)], 0
    for size in chosen_u.shape[1:]:
        chosen_u, position = chosen_u[:, size // 2], position * size + size // 2
    return chosen_u, position
