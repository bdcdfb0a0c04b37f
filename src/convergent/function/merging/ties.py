"""Which units of a net have to be reordered together, and where: read off the graph that `torch.export` makes of the net.

Every parameter, buffer and activation has axes; what the operators between them do says which of these are the same units.
Units whose order nothing gives a meaning form groups: a hidden layer, a residual stream with all that is added to it, the
heads of an attention. The units within a head may be reordered head by head, and so those within a convolution's group.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx, nn

from convergent.errors import InputError
from convergent.function.merging.axes import Axis, blocks
from convergent.function.merging.calls import Call, is_axes
from convergent.function.merging.operators import rule_of
from convergent.function.merging.points import Values, modules_of, points_of


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

    >>> net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 4, 5), nn.ReLU(), nn.Linear(5, 2))
    >>> Ties.of(net, torch.zeros(2, 1, 4, 4)).groups
    (Group(0.weight: 3 units, at 1), Group(3.weight: 5 units, at 4))
    """

    tensors: Mapping[str, Sequence[Axis]]
    groups: tuple[Group, ...]
    pinned: Mapping[str, str]

    @classmethod
    def of(cls, net: nn.Module, x: Tensor) -> Ties:
        """The ties of a net that reads a batch like x, shape (n, ...); the net is left as it is.

        Raises:
            InputError: if its graph cannot be made, an operator is not known, or there is nothing to reorder.
        """
        program = exported(net, x)
        tensors, values, reduced, batch = _flow(program, net)
        of_parameters = [tensors[name] for name, _ in net.named_parameters() if name in tensors]
        inner_of = _inner([*tensors.values(), *(value.axes for value in values), *reduced], of_parameters)
        groups: list[Group] = []
        within = {atom for inner in inner_of.values() for atom in inner}
        for axes in of_parameters:
            for axis in axes:
                for atom in axis.atoms:
                    if not atom.pinned and atom not in within and atom not in (group.atom for group in groups):
                        inner = tuple(inner_of.get(atom, ()))
                        groups.append(
                            Group(_giving(atom, tensors), atom, inner, points_of(atom, inner, values, net, batch))
                        )
        pinned = {}
        for name, axes in tensors.items():
            wheres = {atom.pinned for atom in axes[0].atoms} if len(axes) > 1 and name.endswith("weight") else set()
            if wheres and not wheres & {"", _GIVEN}:
                pinned[name] = min(wheres)
        if not groups:
            where = ", ".join(dict.fromkeys(pinned.values())) or "its input and its output"
            raise InputError(f"This net has no units that could be reordered: their order means something to {where}.")
        return cls(tensors, tuple(groups), pinned)

    @cached_property
    def parents(self) -> dict[Axis, Axis]:
        """The axis within whose units each inner axis lies."""
        return {inner: group.atom for group in self.groups for inner in group.inner}

    def blocks(self, name: str, x: Tensor) -> Iterator[tuple[Tensor, list[Axis]]]:
        """Views of the parts of a parameter or buffer, each with the atom of every of its axes."""
        return blocks(x, self.tensors[name])


_GIVEN = "what is given"  # the input's and the output's own order


def exported(net: nn.Module, x: Tensor) -> Any:
    """The graph of a net in evaluation mode, in torch's core operators; of a copy on the processor.

    Raises:
        InputError: if torch cannot make it.
    """
    try:
        with torch.no_grad():
            program = torch.export.export(copy.deepcopy(net).cpu().eval(), (x.detach().cpu(),), strict=False)
            table = torch.export.default_decompositions()
            table.pop(torch.ops.aten.scaled_dot_product_attention.default, None)  # type: ignore[no-untyped-call]  # which is another one on each device
            return program.run_decompositions(table)
    except Exception as error:  # whatever torch, or the net's own forward, says
        raise InputError(
            f"torch.export cannot make the graph of this net ({type(error).__name__}: {_first_line(error)}), from which the "
            "ties of its units are read; its forward must not choose by the values of tensors."
        ) from None


def _flow(program: Any, net: nn.Module) -> tuple[dict[str, list[Axis]], list[Values], list[list[Axis]], Axis]:
    """The axes of all tensors, after all ties: of parameters and buffers by name, of activations, of what is reduced.

    The last one is the axis of the images of the batch.
    """
    signature = program.graph_signature
    named = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    same = _names_of_same(net)
    tensors: dict[str, list[Axis]] = {}
    of: dict[fx.Node, Any] = {}
    values, reduced, batch = [], [], Axis(0)
    modules = modules_of(program.graph)
    for node in program.graph.nodes:
        if node.op == "placeholder":
            shape = _shapes(node)[0] if _shapes(node) else ()
            name = named.get(node.name)
            if name is None:
                of[node] = [Axis(size).pin(_GIVEN) for size in shape]
                batch = of[node][0]
            elif name in same:
                first = same[name]
                of[node] = tensors.setdefault(first, [Axis(size) for size in shape])
            else:  # a constant of the net's forward
                of[node] = [Axis(size).pin(_GIVEN) for size in shape]
        elif node.op == "output":
            for result in fx.node.map_arg(node.args[0], lambda of_node: of_node):
                for axis in of.get(result, ()) if isinstance(result, fx.Node) else ():
                    axis.pin(_GIVEN)
        elif node.target is operator.getitem:
            of[node] = of[node.args[0]][node.args[1]]
        elif shapes := _shapes(node):
            where = _module(node)
            call = _call(node, of, shapes, where)
            made = rule_of(node.target, where)(call)
            reduced += call.reduced
            of[node] = made if isinstance(node.meta["val"], (tuple, list)) else made[0]
        if node.op == "call_function" and is_axes(of.get(node)):
            values.append(Values(node, of[node], modules.get(node, "")))
    for name, first in same.items():
        if first in tensors:
            tensors[name] = tensors[first]
    return tensors, values, reduced, batch


def _call(node: fx.Node, of: Mapping[fx.Node, Any], shapes: Sequence[Sequence[int]], where: str) -> Call:
    schema = node.target._schema  # type: ignore[union-attr]
    given = {argument.name: argument.default_value for argument in schema.arguments if argument.has_default_value()}
    given = dict(zip((argument.name for argument in schema.arguments), node.args)) | {
        name: value for name, value in {**given, **node.kwargs}.items() if name not in _names(schema, len(node.args))
    }
    plain = {name: fx.node.map_arg(value, lambda argument: of[argument]) for name, value in given.items()}
    return Call(
        str(schema.name).partition("::")[2], {name: _listed(value) for name, value in plain.items()}, shapes, where
    )


def _names(schema: Any, count: int) -> set[str]:
    return {argument.name for argument in schema.arguments[:count]}


def _listed(value: Any) -> Any:
    return [_listed(part) for part in value] if isinstance(value, (list, tuple)) else value


def _shapes(node: fx.Node) -> list[list[int]]:
    value = node.meta.get("val")
    tensors = value if isinstance(value, (tuple, list)) else [value]
    return [list(x.shape) for x in tensors if isinstance(x, Tensor)]


def _module(node: fx.Node) -> str:
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return stack[-1][0] if stack else ""


def _names_of_same(net: nn.Module) -> dict[str, str]:
    """Each name of a parameter or buffer, and the first name that the same tensor has."""
    first: dict[int, str] = {}
    every = [*net.named_parameters(remove_duplicate=False), *net.named_buffers(remove_duplicate=False)]
    return {name: first.setdefault(id(tensor), name) for name, tensor in every}


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


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200]
