"""Nets with their units in another order: the same function, as running them shows.

Axes: `n` units of a group, `h` units with others within them (heads), `d` units within each of those.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from convergent.errors import InputError
from convergent.function.merging.axes import Axis
from convergent.function.merging.ties import Group, Ties

# Which unit comes to each place: of a group's axis shape (n,); of an inner axis shape (h, d), where row h says it of the
# unit that came to place h of the outer axis. What is not in it stays as it is.
Order = Mapping[Axis, Tensor]

TOLERANCE = 1e-5  # of outputs, relative to the largest: what rounding in another order of sums may change


def random_order(ties: Ties, seed: int) -> dict[Axis, Tensor]:
    """Every group of a net in a random order."""
    generator = torch.Generator().manual_seed(seed)
    order: dict[Axis, Tensor] = {}
    for group in ties.groups:
        order[group.atom] = torch.randperm(group.atom.size, generator=generator)
        for inner in group.inner:
            order[inner] = torch.rand(group.atom.size, inner.size, generator=generator).argsort(1)
    return order


def reordered(ties: Ties, name: str, x: Tensor, order: Order) -> Tensor:
    """A parameter or buffer of a net, by name, with its units in another order."""
    if name not in ties.tensors or not any(atom in order for axis in ties.tensors[name] for atom in axis.atoms):
        return x
    made = torch.empty_like(x)
    for (old, atoms), (new, _) in zip(ties.blocks(name, x), ties.blocks(name, made)):
        there = [(place, order[atom]) for place, atom in enumerate(atoms) if atom in order]
        for place, of_n in there:
            if of_n.ndim == 1:
                old = old.index_select(place, of_n.to(old.device))
        for place, of_hd in there:
            if of_hd.ndim == 2:
                outer = outer_place(atoms, place, ties.parents[atoms[place]])
                shape = [1] * old.ndim
                shape[outer], shape[place] = of_hd.shape
                index = (of_hd if outer < place else of_hd.T).reshape(shape)
                old = old.take_along_dim(index.to(old.device), place)
        new.copy_(old)
    return made


def outer_place(atoms: list[Axis], place: int, outer: Axis) -> int:
    """Which axis of a block has the units within which those of an inner axis lie: the nearest before it, or after."""
    before = [other for other in range(place) if atoms[other] is outer]
    return before[-1] if before else next(other for other in range(place, len(atoms)) if atoms[other] is outer)


def permuted(net: nn.Module, ties: Ties, order: Order) -> nn.Module:
    """A copy of a net with its units in another order, in evaluation mode; the net is left as it is."""
    made = copy.deepcopy(net).eval()
    with torch.no_grad():
        for name, tensor in named_tensors(made).items():
            tensor.copy_(reordered(ties, name, tensor, order))
    return made


def named_tensors(net: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers of a net by name, each once."""
    return {**dict(net.named_parameters()), **dict(net.named_buffers())}


def check_same(net: nn.Module, other: nn.Module, x: Tensor, name: str) -> float:
    """Find out by running both that a net and its copy in another order do the same.

    Args:
        net: as it was given.
        other: the same with units in another order.
        x: images, shape (n, ...), where the nets are.
        name: of the net, for the message.

    Returns:
        The largest difference of outputs, relative to the largest output.

    Raises:
        InputError: if they do not; the message names the first module whose outputs are other values, in whatever order.
    """
    (out, seen), (out_other, seen_other) = _ran(net, x), _ran(other, x)
    different = _difference(out, out_other)
    if different <= TOLERANCE:
        return different
    values = zip(seen.items(), seen_other.values())
    # rounding adds up from module to module: where they part, they part at once
    where = next((path for (path, one), two in values if _difference(one, two) > 10 * TOLERANCE), "")
    raise InputError(
        f"Net {name} is another function with its units in another order (outputs differ by {different:.1e} of the "
        f"largest): it parts from itself in module {where or 'that gives its output'}, whose ties are not all known."
    )


def _ran(net: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The output of a net, and the sorted values of what each of its modules without parts gives, by their last call."""
    seen: dict[str, Tensor] = {}

    def see(path: str, output: Any) -> None:
        if isinstance(output, Tensor):
            seen[path] = output.detach().flatten().sort().values

    with torch.no_grad():
        leaves = [(path, module) for path, module in net.named_modules() if not list(module.children())]
        handles = [
            module.register_forward_hook(lambda _module, _x, output, path=path: see(path, output))
            for path, module in leaves
        ]
        try:
            output = net(x)
        finally:
            for handle in handles:
                handle.remove()
    return first_tensor(output), seen


def first_tensor(output: Any) -> Tensor:
    """The logits of a net: its output, or the first tensor in it.

    Raises:
        InputError: if there is none.
    """
    if isinstance(output, Tensor):
        return output
    parts = output.values() if isinstance(output, Mapping) else output if isinstance(output, (tuple, list)) else ()
    if (found := next((part for part in parts if isinstance(part, Tensor)), None)) is None:
        raise InputError(f"A net to be merged needs to give a tensor of logits, not {type(output).__name__}.")
    return found


def _difference(x: Tensor, other: Tensor) -> float:
    if x.shape != other.shape:
        return float("inf")
    return float((x - other).abs().max() / x.abs().max().clamp(min=1e-30))


def identity_order(group: Group) -> dict[Axis, Tensor]:
    """The order in which a group is."""
    n = group.atom.size
    return {group.atom: torch.arange(n)} | {inner: torch.arange(inner.size).repeat(n, 1) for inner in group.inner}
