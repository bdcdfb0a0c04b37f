"""Hooks that hand over the activations of named layers while nets run.

Axes: `n` images of a batch, `c` units of one net's layer, `p` positions of one image.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from convergent.errors import InputError

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle

# What sees the activations: observer(net, layer, activation). The activation is the module's own output, which a later
# in-place module may overwrite: an observer copies what it keeps.
Observer = Callable[[str, str, Tensor], None]


class Capture:
    """While open, every forward pass of the nets hands its layers' outputs to the observer.

    >>> nets = {"only": nn.Sequential(nn.Linear(2, 3), nn.ReLU())}
    >>> with Capture(nets, ["0", "1"], lambda net, layer, x: print(net, layer, tuple(x.shape))) as capture:
    ...     capture.begin()
    ...     _ = nets["only"](torch.ones(5, 2))
    only 0 (5, 3)
    only 1 (5, 3)
    """

    def __init__(self, nets: Mapping[str, nn.Module], layers: Sequence[str], observer: Observer) -> None:
        self.observer = observer
        self.modules = {(net, layer): find_layer(nets[net], layer, net) for net in nets for layer in layers}
        self._handles: list[RemovableHandle] = []
        self._seen: set[tuple[str, str]] = set()

    def __enter__(self) -> Self:
        for (net, layer), module in self.modules.items():
            self._handles.append(module.register_forward_hook(partial(self._see, net, layer)))
        return self

    def __exit__(self, *exception: object) -> None:
        while self._handles:
            self._handles.pop().remove()

    def begin(self) -> None:
        """Start a batch: from here on each layer may be seen once."""
        self._seen.clear()

    def end(self) -> None:
        """Finish a batch.

        Raises:
            InputError: if a layer was not reached by the forward pass.
        """
        if missed := sorted(set(self.modules) - self._seen):
            net, layer = missed[0]
            raise InputError(f"Layer {layer} of net {net} was never called in the forward pass; choose another layer.")

    def _see(self, net: str, layer: str, _module: nn.Module, _args: object, output: object) -> None:
        if (net, layer) in self._seen:
            raise InputError(
                f"Layer {layer} of net {net} is called more than once in a forward pass, so its units have no single "
                "activation; give each call a module of its own or choose another layer."
            )
        if not isinstance(output, Tensor):
            raise InputError(
                f"Layer {layer} of net {net} returns a {type(output).__name__}, not a tensor; choose a layer inside it."
            )
        self._seen.add((net, layer))
        self.observer(net, layer, output)


def find_layer(net: nn.Module, layer: str, name: str) -> nn.Module:
    """The module that `get_submodule` names.

    Raises:
        InputError: if there is none, with the nearest names there are.
    """
    modules: dict[str, nn.Module] = {path: module for path, module in net.named_modules() if path}
    if layer in modules:
        return modules[layer]
    near = difflib.get_close_matches(layer, modules, n=5, cutoff=0.5) or list(modules)[:12]
    raise InputError(f"Net {name} has no layer {layer!r}; near names are {', '.join(near)}.")


def samples(activation: Tensor, sample: str | int, where: str, image_n: Tensor | None = None) -> Tensor:
    """The samples that an activation consists of, as a view where possible, shape (n images, c units, p positions).

    Args:
        activation: (n, c), (n, c, height, width), or (n, tokens, c).
        sample: "every" position, the mean over positions ("pooled"), the "centre" position, or so many random positions
            of each image, drawn anew for every image and alike for all nets and layers of one size.
        where: how a message names the layer.
        image_n: numbers of the images, shape (n,), which seed their random positions; the first n by default.

    Raises:
        InputError: if the activation has another number of axes, or `sample` is none of these.
    """
    if activation.ndim == 2:
        x_ncp = activation.unsqueeze(2)
    elif activation.ndim == 3:
        x_ncp = activation.transpose(1, 2)
    elif activation.ndim == 4:
        x_ncp = activation.flatten(2)
    else:
        raise InputError(
            f"{where} gives activations of shape {tuple(activation.shape)}; needed are (images, units), "
            "(images, units, height, width) or (images, tokens, units), so choose another layer."
        )
    positions = x_ncp.shape[2]
    if sample == "every" or positions == 1:
        return x_ncp
    if sample == "pooled":
        return x_ncp.mean(2, keepdim=True, dtype=torch.promote_types(x_ncp.dtype, torch.float32))
    if sample == "centre" and activation.ndim == 4:
        middle = activation.shape[2] // 2 * activation.shape[3] + activation.shape[3] // 2
        return x_ncp[:, :, middle : middle + 1]
    if isinstance(sample, int) and sample > 0:
        if sample >= positions:
            return x_ncp
        image_n = torch.arange(len(x_ncp)) if image_n is None else image_n
        chosen_np = random_positions(image_n.to(x_ncp.device), positions, sample)
        return x_ncp.gather(2, chosen_np[:, None].expand(-1, x_ncp.shape[1], -1))
    raise InputError(f"sample needs to be every, pooled, centre or a number of positions, not {sample!r}.")


def random_positions(image_n: Tensor, positions: int, chosen: int) -> Tensor:
    """Distinct random positions of each image, shape (n, chosen): the same whatever batch, net or process reads it.

    Each position of each image gets a hash of both numbers, and those with the largest are chosen.

    Source: Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators" (the mixing function).
    """
    mixed_np = (image_n.long()[:, None] << 32) + torch.arange(1, positions + 1, device=image_n.device)
    mixed_np = mixed_np * -7046029254386353131  # the golden ratio's 64 bits: neighbours go far apart
    for shift, factor in ((30, -4658895280553007687), (27, -7723592293110705685)):
        mixed_np = (mixed_np ^ ((mixed_np >> shift) & ((1 << (64 - shift)) - 1))) * factor
    return mixed_np.topk(chosen, dim=1).indices.sort(1).values
