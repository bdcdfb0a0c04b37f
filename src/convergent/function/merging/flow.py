"""What flows through a net: the graph that `torch.export` makes of it, and the axes of every tensor in it."""

from __future__ import annotations

import copy
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from convergent.errors import InputError
from convergent.function.merging.axes import Axis
from convergent.function.merging.calls import Call, is_axes
from convergent.function.merging.operators import rule_of
from convergent.function.merging.points import Values, modules_of

GIVEN = "what is given"  # the input's and the output's own order
# Operators that give a parameter's elements in another layout.
_LAID_OUT = frozenset(
    {"clone", "alias", "detach", "_to_copy", "contiguous", "permute", "expand", "squeeze", "unsqueeze"}
    | {"view", "_unsafe_view", "reshape", "slice", "select", "split", "split_with_sizes", "cat"}
)


@dataclass(eq=False)
class Flow:
    """The axes of all tensors of a net, after all ties.

    Attributes:
        tensors: of parameters and buffers, by name.
        values: of activations.
        reduced: of what operators make inside.
        batch: the axis of the images.
        reading: (name, place) of the axes of parameters that products are summed over, as a weight's second one.
        giving: those of all others. What is used twice may be in both, and so is a parameter of which it is not known.
    """

    tensors: dict[str, list[Axis]] = field(default_factory=dict)
    values: list[Values] = field(default_factory=list)
    reduced: list[list[Axis]] = field(default_factory=list)
    batch: Axis = field(default_factory=lambda: Axis(0))
    reading: set[tuple[str, int]] = field(default_factory=set)
    giving: set[tuple[str, int]] = field(default_factory=set)

    def used(self, name: str, call: Call) -> None:
        """Note which axes of a parameter a call reads, and which it gives."""
        axes = self.tensors[name]
        read = [any(axis is other for other in call.contracted) for axis in axes]
        unknown = bool(call.contracted) and len(axes) > 1 and not any(read)  # of another shape there
        for place, reads in enumerate(read):
            self.reading |= {(name, place)} if reads or unknown else set()
            self.giving |= set() if reads else {(name, place)}


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


def flow_of(program: Any, net: nn.Module) -> Flow:
    """The axes of a net's tensors, by the graph that `exported` gives."""
    signature = program.graph_signature
    named = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    same = _names_of_same(net)
    flow, of = Flow(), dict[fx.Node, Any]()
    tensors = flow.tensors
    source: dict[fx.Node, str] = {}  # the parameter that a node is, perhaps laid out otherwise
    modules = modules_of(program.graph)
    for node in program.graph.nodes:
        if node.op == "placeholder":
            shape = _shapes(node)[0] if _shapes(node) else ()
            name = named.get(node.name)
            if name is None:
                of[node] = [Axis(size).pin(GIVEN) for size in shape]
                flow.batch = of[node][0]
            elif name in same:
                source[node] = first = same[name]
                of[node] = tensors.setdefault(first, [Axis(size) for size in shape])
            else:  # a constant of the net's forward
                of[node] = [Axis(size).pin(GIVEN) for size in shape]
        elif node.op == "output":
            for result in fx.node.map_arg(node.args[0], lambda of_node: of_node):
                for axis in of.get(result, ()) if isinstance(result, fx.Node) else ():
                    axis.pin(GIVEN)
        elif node.target is operator.getitem:
            of[node] = of[node.args[0]][node.args[1]]
            source |= {node: source[node.args[0]]} if node.args[0] in source else {}
        elif shapes := _shapes(node):
            where = _module(node)
            call = _call(node, of, shapes, where)
            made = rule_of(node.target, where)(call)
            flow.reduced.extend(call.reduced)
            for name in (source[argument] for argument in node.all_input_nodes if argument in source):
                if call.name in _LAID_OUT:
                    source[node] = name
                else:
                    flow.used(name, call)
            of[node] = made if isinstance(node.meta["val"], (tuple, list)) else made[0]
        if node.op == "call_function" and is_axes(of.get(node)):
            flow.values.append(Values(node, of[node], modules.get(node, "")))
    for name, first in same.items():
        if first in tensors:
            tensors[name] = tensors[first]
            for places in (flow.reading, flow.giving):
                places |= {(name, place) for of_name, place in places if of_name == first}
    return flow


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


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200]
