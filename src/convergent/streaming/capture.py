"""Hooks that hand over the activations of layers while nets run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from convergent.errors import InputError
from convergent.streaming.layers import Layer, find_layer, layout, members_of, module_and_call, of_input
from convergent.streaming.pre_activations import PreActivations
from convergent.streaming.unit_axis import axis_by_type

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle

    from convergent.streaming.rotations import Rotations

# What sees the activations: observer(net, layer, activation). The activation is the module's own output, which a later
# in-place module may overwrite: an observer copies what it keeps.
Observer = Callable[[str, str, Tensor], None]


@dataclass(frozen=True, eq=False)
class Input:
    """What runs a net on a batch that is no tensor, and which positions (n, p) are samples, on the host; None for all.

    Where nets read other tokens, `place_np` says at which of its own each net has these positions.
    """

    run: Callable[[nn.Module], object]
    mask_np: Tensor | None = None
    place_np: Tensor | None = None


Seen = Tensor | Input  # what a net sees of a batch


def run(nets: Mapping[str, nn.Module], seen: Mapping[str, Seen]) -> None:
    """Run each net on what it sees of a batch."""
    for name, net in nets.items():
        x = seen[name]
        _ = net(x) if isinstance(x, Tensor) else x.run(net)


def mask_of(seen: Mapping[str, Seen]) -> Tensor | None:
    """Which positions of a batch are samples, the same for all nets; None for all."""
    x = next(iter(seen.values()))
    return x.mask_np if isinstance(x, Input) else None


def places_of(seen: Mapping[str, Seen]) -> dict[str, Tensor]:
    """At which of its own positions each net has those of a batch, where these are other ones."""
    return {net: x.place_np for net, x in seen.items() if isinstance(x, Input) and x.place_np is not None}


class Capture:
    """While open, every forward pass between `begin` and `end` hands its layers' outputs to the observer.

    What runs the nets at other times, such as the calibration of something else in the same pass, is not seen. With
    rotations the observer is given the activations on rotated axes too, under the rotated nets' names.

    Raises:
        InputError: if a net has no such module, or two nets share one.

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
        output: str | int | None = None,
    ) -> None:
        self.nets, self.layers, self.observer, self.rotations, self.output = nets, layers, observer, rotations, output
        paths: dict[tuple[str, str], str] = {}
        self._layer: dict[tuple[str, str], str] = {}  # of each member of a population, and of every other layer itself
        for name, of_nets in layers.items():
            for net, path in of_nets.items():
                members = members_of(name, path)
                paths |= {(net, member): of for member, of in members.items()}
                self._layer |= {(net, member): name for member in members}
        self._paths, self._pieces = paths, dict[tuple[str, str], dict[str, list[tuple[str, Tensor]]]]()
        self.modules = {(net, name): find_layer(nets[net], path, net) for (net, name), path in paths.items()}
        owner: dict[nn.Module, str] = {}
        for (net, layer), module in self.modules.items():
            if owner.setdefault(module, net) != net:
                raise InputError(
                    f"Layer {layer} of nets {owner[module]} and {net} is one and the same module, which sees the images of "
                    "both; give each net its own, or choose layers that they do not share."
                )
        self._wanted = {of: module_and_call(path)[1] for of, path in paths.items()}
        self._calls = dict.fromkeys(self.modules, 0)
        self._handles: list[RemovableHandle] = []
        self._reading = False

    def __enter__(self) -> Self:
        if self.rotations:
            self.rotations.__enter__()
        for (net, layer), module in self.modules.items():
            if of_input(self._paths[net, layer]):
                see = partial(self._see_input, net, layer)
                self._handles.append(module.register_forward_pre_hook(see, with_kwargs=True))
            else:
                self._handles.append(module.register_forward_hook(partial(self._see, net, layer)))
        return self

    def __exit__(self, *exception: object) -> None:
        while self._handles:
            self._handles.pop().remove()
        if self.rotations:
            self.rotations.__exit__()

    def begin(self) -> None:
        """Start a batch."""
        self._calls, self._pieces = dict.fromkeys(self.modules, 0), {}
        self._reading = True

    def run(self, seen: Mapping[str, Seen]) -> None:
        """Run all nets on a batch, from its begin to its end."""
        self.begin()
        run(self.nets, seen)
        self.end()

    def end(self) -> None:
        """Finish a batch.

        Raises:
            InputError: if a layer was not reached by the forward pass.
        """
        self._reading = False
        for (net, layer), calls in self._calls.items():
            if not calls:
                raise InputError(
                    f"Layer {layer} of net {net} was never called in the forward pass; choose another layer."
                )
            if calls <= (self._wanted[net, layer] or 0):
                raise InputError(
                    f"Layer {layer} of net {net} was called {calls} times only, and calls are numbered from 0; choose one "
                    "that every forward pass has."
                )

    def _see_input(
        self, net: str, layer: str, module: nn.Module, args: Sequence[object], named: Mapping[str, object]
    ) -> None:
        self._see(net, layer, module, args, next(iter([*args, *named.values()]), None))

    def _see(self, net: str, layer: str, _module: nn.Module, _args: object, output: object) -> None:
        if not self._reading:
            return
        wanted, call = self._wanted[net, layer], self._calls[net, layer]
        self._calls[net, layer] += 1
        if wanted is None and call:
            raise InputError(
                f"Layer {layer} of net {net} is called more than once in a forward pass, so its units have no single "
                f"activation; say which call it is, as {layer}#0 for the first one, or choose another layer."
            )
        if wanted is not None and call != wanted:
            return
        where = f"Layer {layer} of net {net}"
        activation = tensor_of(output, self.output, where)
        if activation.is_complex() or activation.layout != torch.strided:
            kind = "complex numbers" if activation.is_complex() else "a sparse or nested tensor"
            raise InputError(
                f"{where} returns {kind}, where a dense tensor of real numbers is needed; choose another "
                "layer, or a module that returns such a tensor (of complex numbers the parts or the magnitude)."
            )
        with PreActivations.looking_away():
            if (whole := self._layer[net, layer]) != layer:
                self._join(net, whole, layer, activation)
                return
            self.observer(net, layer, activation)
            for name, rotated in self._rotated(net, layer, activation):
                self.observer(name, layer, rotated)

    def _join(self, net: str, layer: str, member: str, activation: Tensor) -> None:
        """Keep a member of a population until all are there, then hand them over side by side."""
        pieces, path = self._pieces.setdefault((net, layer), {}), self.layers[layer][net]
        pieces[member] = seen = [(net, activation.clone()), *self._rotated(net, member, activation)]
        names = list(members_of(layer, path))
        if len(pieces) < len(names):
            return
        last = layout(activation.shape, "auto", axis_by_type(self.nets[net], path)) == "last"
        for place, (name, _) in enumerate(seen):
            self.observer(name, layer, torch.cat([pieces[of][place][1] for of in names], -1 if last else 1))
        del self._pieces[net, layer]

    def _rotated(self, net: str, layer: str, activation: Tensor) -> Iterator[tuple[str, Tensor]]:
        if self.rotations and net in self.rotations.nets:
            yield from self.rotations.of(net, layer, activation)


def tensor_of(output: object, name: str | int | None, where: str) -> Tensor:
    """The tensor that a layer's output is; of a tuple, dictionary or dataclass the one of this key, attribute or place.

    By default it is the first one.

    Raises:
        InputError: if there is none.

    >>> tensor_of({"hidden": torch.ones(2), "weights": torch.zeros(3)}, "weights", "")
    tensor([0., 0., 0.])
    """
    if isinstance(output, Tensor):
        return output
    parts: dict[str, object] = {}
    if isinstance(output, Mapping):
        parts = {str(key): part for key, part in output.items()}
    elif is_dataclass(output):
        parts = {of.name: getattr(output, of.name) for of in fields(output)}
    elif isinstance(output, Sequence) and not isinstance(output, str):
        names = getattr(output, "_fields", range(len(output)))
        parts = {str(key): part for key, part in zip(names, output)}
        name = str(names[name]) if isinstance(name, int) and -len(output) <= name < len(output) else name
    if not parts:
        raise InputError(f"{where} returns a {type(output).__name__}, not a tensor; choose a layer inside it.")
    if name is not None and str(name) not in parts:
        raise InputError(f"{where} returns {', '.join(parts)}, but no {name}; name one of these as output=.")
    return tensor_of(next(iter(parts.values())) if name is None else parts[str(name)], None, where)
