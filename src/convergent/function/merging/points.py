"""Where in a net the units of a group can be measured: modules whose outputs' units they are."""

import operator
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from torch import fx, nn
from torch.nn.modules import dropout, pooling

from convergent.errors import InputError
from convergent.function.merging.axes import Axis
from convergent.streaming.layers import find_layer, layout
from convergent.streaming.unit_axis import axis_by_type

# Modules that only hand on, or draw together, units which can be measured before them.
_HAND_ON = (
    pooling._MaxPoolNd, pooling._AvgPoolNd, pooling._AdaptiveMaxPoolNd, pooling._AdaptiveAvgPoolNd, pooling._LPPoolNd,
    dropout._DropoutNd, nn.Flatten, nn.Unflatten, nn.Identity, nn.Upsample,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Values:
    """One activation: the node of the graph that makes it, its axes, and the module whose output it is, if it is one's."""

    node: fx.Node
    axes: Sequence[Axis]
    module: str = ""


def modules_of(graph: fx.Graph) -> dict[fx.Node, str]:
    """The module whose output each node is, by the path that `layers.resolve` takes; the innermost one of several."""
    last: dict[str, fx.Node] = {}
    calls: dict[str, int] = {}
    for node in graph.nodes:
        for path in _stack(node):
            last[path] = node
    innermost = {node: path for path, node in last.items() if path and path == _stack(node)[-1]}
    for path in last:
        calls[path.partition("@")[0]] = calls.get(path.partition("@")[0], 0) + 1
    return {node: _numbered(path, calls) for node, path in innermost.items()}


def points_of(
    atom: Axis, inner: Sequence[Axis], values: Sequence[Values], net: nn.Module, batch: Axis
) -> tuple[str, ...]:
    """The outputs of modules whose units a group is, as they are where something else reads them.

    Of a convolution, its norm and its nonlinearity that follow one another that is the last one.
    """
    carrying = {value.node for value in values if any(atom in axis.atoms for axis in value.axes)}
    named = {
        value.node: value.module for value in values if value.module and _units_are(atom, inner, value, net, batch)
    }

    @cache
    def followed(node: fx.Node) -> bool:
        """Whether all that reads it hands it on to another point."""
        users = list(_users(node))
        return bool(users) and all(user in named or (user in carrying and followed(user)) for user in users)

    return tuple(dict.fromkeys(path for node, path in named.items() if not followed(node)))


def _units_are(atom: Axis, inner: Sequence[Axis], value: Values, net: nn.Module, batch: Axis) -> bool:
    """Whether a group is what a module's output has as its units, of each image of a batch."""
    try:
        module = find_layer(net, value.module, "merged")
    except InputError:
        return False
    shape = [axis.size for axis in value.axes]
    if isinstance(module, _HAND_ON) or len(shape) < 2 or value.axes[0].root is not batch.root:
        return False
    place = 1 if layout(shape, "auto", axis_by_type(net, value.module)) == "channel" else -1
    factors = value.axes[place].factors
    return factors == [atom] if not inner else any(factors == [atom, one] for one in inner)


def _users(node: fx.Node) -> Iterator[fx.Node]:
    """What reads a node's tensor, or that of one that gives several."""
    for user in node.users:
        if user.target is not operator.getitem and isinstance(user.meta.get("val"), (tuple, list)):
            yield from (part for part in user.users if part.args[1] == 0)
        else:
            yield user


def _stack(node: fx.Node) -> list[str]:
    """The modules that a node is in, the outermost first, with @1 behind the second call of one."""
    stack = node.meta.get("nn_module_stack", {}).items()
    calls = [(path, re.search(r"@\d+", key)) for key, (path, _) in stack]
    return [path + (call[0] if call else "") for path, call in calls]


def _numbered(path: str, calls: Mapping[str, int]) -> str:
    """The path as layers are named: #1 for the second call of a module that is called several times."""
    module, _, number = path.partition("@")
    return f"{module}#{number or 0}" if calls[module] > 1 else module
