"""Hooks that hand over the activations of layers while nets run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from convergent.errors import InputError
from convergent.streaming.layers import Layer, find_layer
from convergent.streaming.pre_activations import PreActivations

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle

    from convergent.streaming.rotations import Rotations

# What sees the activations: observer(net, layer, activation). The activation is the module's own output, which a later
# in-place module may overwrite: an observer copies what it keeps.
Observer = Callable[[str, str, Tensor], None]


class Capture:
    """While open, every forward pass between `begin` and `end` hands its layers' outputs to the observer.

    What runs the nets at other times, such as the calibration of something else in the same pass, is not seen.

    Args:
        nets: by name.
        layers: {name of the layer: {net: path of its module}}, see `layers.resolve`.
        observer: called with the net's name, the layer's name and the activation.
        rotations: the observer is given the activations on rotated axes too, under the rotated nets' names.

    Raises:
        InputError: if a net has no such module.

    >>> import torch
    >>> nets = {"only": nn.Sequential(nn.Linear(2, 3), nn.ReLU())}
    >>> layers = {"linear": {"only": "0"}, "relu": {"only": "1"}}
    >>> with Capture(nets, layers, lambda net, layer, x: print(net, layer, tuple(x.shape))) as capture:
    ...     capture.begin()
    ...     _ = nets["only"](torch.ones(5, 2))
    only linear (5, 3)
    only relu (5, 3)
    """

    def __init__(
        self,
        nets: Mapping[str, nn.Module],
        layers: Mapping[str, Layer],
        observer: Observer,
        rotations: Rotations | None = None,
    ) -> None:
        self.observer, self.rotations = observer, rotations
        self.modules = {
            (net, name): find_layer(nets[net], path, net)
            for name, layer in layers.items()
            for net, path in layer.items()
        }
        self._handles: list[RemovableHandle] = []
        self._seen: set[tuple[str, str]] = set()
        self._reading = False

    def __enter__(self) -> Self:
        if self.rotations:
            self.rotations.__enter__()
        for (net, layer), module in self.modules.items():
            self._handles.append(module.register_forward_hook(partial(self._see, net, layer)))
        return self

    def __exit__(self, *exception: object) -> None:
        while self._handles:
            self._handles.pop().remove()
        if self.rotations:
            self.rotations.__exit__()

    def begin(self) -> None:
        """Start a batch: from here on each layer may be seen once."""
        self._seen.clear()
        self._reading = True

    def end(self) -> None:
        """Finish a batch.

        Raises:
            InputError: if a layer was not reached by the forward pass.
        """
        self._reading = False
        if missed := sorted(set(self.modules) - self._seen):
            net, layer = missed[0]
            raise InputError(f"Layer {layer} of net {net} was never called in the forward pass; choose another layer.")

    def _see(self, net: str, layer: str, _module: nn.Module, _args: object, output: object) -> None:
        if not self._reading:
            return
        if (net, layer) in self._seen:
            raise InputError(
                f"Layer {layer} of net {net} is called more than once in a forward pass, so its units have no single "
                "activation; give each call a module of its own or choose another layer."
            )
        if not isinstance(output, Tensor):
            raise InputError(
                f"Layer {layer} of net {net} returns a {type(output).__name__}, not a tensor; choose a layer inside it."
            )
        if output.is_complex() or output.layout != torch.strided:
            kind = "complex numbers" if output.is_complex() else "a sparse or nested tensor"
            raise InputError(
                f"Layer {layer} of net {net} returns {kind}, where a dense tensor of real numbers is needed; choose another "
                "layer, or a module that returns such a tensor (of complex numbers the parts or the magnitude)."
            )
        self._seen.add((net, layer))
        with PreActivations.looking_away():
            self.observer(net, layer, output)
            for name, rotated in self.rotations.of(net, layer, output) if self.rotations else ():
                self.observer(name, layer, rotated)
