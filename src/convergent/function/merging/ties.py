"""Which units of a net have to be reordered together, and where: read off the graph that `torch.export` makes of the net.

Every parameter, buffer and activation has axes; what the operators between them do says which of these are the same units.
Units whose order nothing gives a meaning form groups: a hidden layer, a residual stream with all that is added to it, the
heads of an attention. The units within a head may be reordered head by head, and so those within a convolution's group.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor, nn

from convergent.errors import InputError
from convergent.function.merging.axes import Axis, blocks
from convergent.function.merging.flow import GIVEN, exported, flow_of
from convergent.function.merging.points import points_of


@dataclass(frozen=True, eq=False)
class Group:
    """Units that may be reordered, wherever they are.

    Attributes:
        name: the parameter that gives them.
        atom: their axis.
        inner: axes of the same number of units within each of these (within a head), which may be reordered in each of them.
        points: modules whose outputs' units they are, inner ones included, as `layers.resolve` names them.
    """

    name: str
    atom: Axis
    inner: tuple[Axis, ...]
    points: tuple[str, ...]

    def __repr__(self) -> str:
        inner = "".join(f" x {axis.size}" for axis in self.inner)
        return f"Group({self.name}: {self.atom.size}{inner} units, at {', '.join(self.points) or 'no module'})"


@dataclass(frozen=True, eq=False)
class Ties:
    """The groups of a net's units.

    Attributes:
        tensors: the axes of every parameter and buffer, by name.
        groups: in the order of the net.
        pinned: parameters by name, the module that gives the order of their first axis a meaning; without those of the
            classes and of the input, whose order is given.
        reading: (name, place) of the axes of parameters that are summed over where they are used, as a weight's second one.
        giving: those of all others, as a weight's first one; what is used twice may be in both.

    >>> import torch
    >>> net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 4, 5), nn.ReLU(), nn.Linear(5, 2))
    >>> Ties.of(net, torch.zeros(2, 1, 4, 4)).groups
    (Group(0.weight: 3 units, at 1), Group(3.weight: 5 units, at 4))
    """

    tensors: Mapping[str, Sequence[Axis]]
    groups: tuple[Group, ...]
    pinned: Mapping[str, str]
    reading: frozenset[tuple[str, int]] = frozenset()
    giving: frozenset[tuple[str, int]] = frozenset()

    @classmethod
    def of(cls, net: nn.Module, x: Tensor) -> Ties:
        """The ties of a net that reads a batch like x, shape (n, ...); the net is left as it is.

        Raises:
            InputError: if its graph cannot be made, an operator is not known, or there is nothing to reorder.
        """
        flow = flow_of(exported(net, x), net)
        tensors, values = flow.tensors, flow.values
        of_parameters = [tensors[name] for name, _ in net.named_parameters() if name in tensors]
        inner_of = _inner([*tensors.values(), *(value.axes for value in values), *flow.reduced], of_parameters)
        groups: list[Group] = []
        within = {atom for inner in inner_of.values() for atom in inner}
        for axes in of_parameters:
            for axis in axes:
                for atom in axis.atoms:
                    if not atom.pinned and atom not in within and atom not in (group.atom for group in groups):
                        inner = tuple(inner_of.get(atom, ()))
                        groups.append(
                            Group(_giving(atom, tensors), atom, inner, points_of(atom, inner, values, net, flow.batch))
                        )
        pinned = {}
        for name, axes in tensors.items():
            wheres = {atom.pinned for atom in axes[0].atoms} if len(axes) > 1 and name.endswith("weight") else set()
            if wheres and not wheres & {"", GIVEN}:
                pinned[name] = min(wheres)
        if not groups:
            where = ", ".join(dict.fromkeys(pinned.values())) or "its input and its output"
            raise InputError(f"This net has no units that could be reordered: their order means something to {where}.")
        return cls(tensors, tuple(groups), pinned, frozenset(flow.reading), frozenset(flow.giving))

    @cached_property
    def parents(self) -> dict[Axis, Axis]:
        """The axis within whose units each inner axis lies."""
        return {inner: group.atom for group in self.groups for inner in group.inner}

    def blocks(self, name: str, x: Tensor) -> Iterator[tuple[Tensor, list[Axis]]]:
        """Views of the parts of a parameter or buffer, each with the atom of every of its axes."""
        return blocks(x, self.tensors[name])


def _inner(every: Iterable[Iterable[Axis]], tensors: Iterable[Iterable[Axis]]) -> dict[Axis, list[Axis]]:
    """Of atoms that are never without another one, by that other: they may be ordered otherwise within each of its units."""
    always: dict[Axis, set[Axis]] = {}
    for axes in every:
        free = {atom for axis in axes for atom in axis.atoms if not atom.pinned}
        for atom in free:
            always[atom] = always.get(atom, free) & free
    inner: dict[Axis, list[Axis]] = {}
    taken: set[Axis] = set()
    there = {atom for axes in tensors for axis in axes for atom in axis.atoms}
    for atom in (atom for atom in always if atom in there):
        outer = [one for one in always[atom] - {atom} if one in there and atom not in always[one]]
        outer = [
            one
            for one in outer
            if one not in taken and not any(other != one and other in always[one] for other in outer)
        ]
        if outer and atom not in inner:
            inner.setdefault(outer[0], []).append(atom)
            taken.add(atom)
    return inner


def _giving(atom: Axis, tensors: Mapping[str, Sequence[Axis]]) -> str:
    """The weight whose first axis an atom is in, or the first tensor that has it."""
    having = {name: axes for name, axes in tensors.items() if any(atom in axis.atoms for axis in axes)}
    return next((name for name, axes in having.items() if len(axes) > 1 and atom in axes[0].atoms), next(iter(having)))
