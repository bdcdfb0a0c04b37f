"""A call of an operator in a net's graph, and what operators do to axes that compute nothing with them but move them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from convergent.errors import InputError
from convergent.function.merging.axes import Axis, cut, regrouped, sum_of, unify

Axes = list[Axis]  # of one tensor


@dataclass(frozen=True)
class Call:
    """One call of an operator in a net's graph.

    Attributes:
        name: of the operator.
        given: its arguments by name, tensors by their axes.
        shapes: of what it returns.
        where: the module that calls it.
        reduced: the axes of tensors that it makes inside and that are no node of the graph.
        contracted: axes that it sums products over.
    """

    name: str
    given: Mapping[str, Any]
    shapes: Sequence[Sequence[int]]
    where: str
    reduced: list[Axes] = field(default_factory=list)
    contracted: list[Axis] = field(default_factory=list)

    def __getitem__(self, name: str) -> Any:
        return self.given[name]

    @property
    def x(self) -> Axes:
        """The axes of the first argument."""
        return next(iter(self.given.values()))

    def dims(self, name: str = "dim") -> list[int]:
        """The axes of the first argument that are meant, all if that is not said."""
        value, count = self.given.get(name), len(self.x)
        value = range(count) if value is None or value == [] else [value] if isinstance(value, int) else value
        return [dim % count if count else 0 for dim in value]

    def tie(self, x: Axis, y: Axis) -> None:
        """Tie two axes.

        Raises:
            InputError: if they are of unequal sizes.
        """
        if x.size != y.size:
            raise InputError(
                f"{self.name} of module {self.where or 'the net'} has axes of {x.size} and {y.size} units."
            )
        unify(x, y, self.where)

    def fixed(self, size: int) -> Axis:
        """An axis whose order means something."""
        return Axis(size).pin(self.where)


def elementwise(call: Call) -> list[Axes]:
    """Axes that lie over one another are one."""
    tensors = [x for value in call.given.values() for x in _tensors(value)]
    made: Axes = []
    for place, size in enumerate(reversed(call.shapes[0]), 1):
        there = [x[-place] for x in tensors if len(x) >= place and x[-place].size == size]
        for other in there[1:]:
            call.tie(there[0], other)
        made.insert(0, there[0] if there else Axis(size))
    return [made]


def is_axes(value: Any) -> bool:
    """Whether an argument is a tensor's axes; a number of no axes is one, too."""
    return isinstance(value, list) and all(isinstance(axis, Axis) for axis in value)


def _tensors(value: Any) -> list[Axes]:
    if is_axes(value):
        return [value]
    return [x for part in value for x in _tensors(part)] if isinstance(value, list) else []


def same(call: Call) -> list[Axes]:
    """The axes stay."""
    return [call.x]


def ordered(call: Call) -> list[Axes]:
    """Along some axes the order counts."""
    for dim in call.dims("dims" if "dims" in call.given else "dim"):
        call.x[dim].pin(call.where)
    return [call.x]


def view(call: Call) -> list[Axes]:
    """The elements are given another shape."""
    return [regrouped(call.x, call.shapes[0], call.where)]


def permuted(call: Call) -> list[Axes]:
    """The axes come in another order."""
    return [[call.x[dim] for dim in call.dims("dims")]]


def expanded(call: Call) -> list[Axes]:
    """Axes of one unit get several that are alike."""
    shape = call.shapes[0]
    x = [*(Axis(1) for _ in range(len(shape) - len(call.x))), *call.x]
    return [[axis if axis.size == size else Axis(size) for axis, size in zip(x, shape)]]


def squeezed(call: Call) -> list[Axes]:
    """Axes of one unit go."""
    dims = call.dims()
    return [[axis for dim, axis in enumerate(call.x) if dim not in dims or axis.size > 1]]


def unsqueezed(call: Call) -> list[Axes]:
    """An axis of one unit comes."""
    made = list(call.x)
    made.insert(call["dim"] % (len(made) + 1), Axis(1))
    return [made]


def selected(call: Call) -> list[Axes]:
    """One unit of an axis is taken: which one matters."""
    (dim,) = call.dims()
    call.x[dim].pin(call.where)
    return [without(call.x, [dim])]


def picked(call: Call) -> list[Axes]:
    """Units of an axis are taken by their numbers."""
    (dim,) = call.dims()
    call.x[dim].pin(call.where)
    return [[*call.x[:dim], call.fixed(call.shapes[0][dim]), *call.x[dim + 1 :]]]


def restrided(call: Call) -> list[Axes]:
    """The elements stay in their order.

    Raises:
        InputError: if they do not.
    """
    sizes, place = call.shapes[0], 1
    for size, stride in zip(reversed(sizes), reversed(call["stride"])):
        if size > 1 and stride != place:
            raise InputError(
                f"Module {call.where or 'the net'} reads a tensor by strides, of which ties are not known."
            )
        place *= size
    return view(call)


def sliced(call: Call) -> list[Axes]:
    """A range of an axis is taken."""
    (dim,), size = call.dims(), call.shapes[0][call.dims()[0]]
    axis = call.x[dim]
    if size == axis.size:
        return [call.x]
    start = call["start"] or 0
    start = start + axis.size if start < 0 else start
    if call["step"] == 1 and size:
        parts = _parts(call, axis, [cut for cut in (start, size, axis.size - start - size) if cut])
        return [[*call.x[:dim], parts[1 if start else 0], *call.x[dim + 1 :]]]
    axis.pin(call.where)
    return [[*call.x[:dim], call.fixed(size), *call.x[dim + 1 :]]]


def split(call: Call) -> list[Axes]:
    """An axis is cut into ranges."""
    (dim,) = call.dims()
    parts = _parts(call, call.x[dim], [shape[dim] for shape in call.shapes])
    return [[*call.x[:dim], part, *call.x[dim + 1 :]] for part in parts]


def _parts(call: Call, axis: Axis, sizes: Sequence[int]) -> list[Axis]:
    """An axis cut into parts of these sizes; pinned where that cuts through units."""
    parts, rest = [], axis
    for size in sizes[:-1]:
        if (halves := cut(rest, size, call.where)) is None:
            axis.pin(call.where)
            return [call.fixed(size) for size in sizes]
        parts.append(halves[0])
        rest = halves[1]
    return [*parts, rest]


def concatenated(call: Call) -> list[Axes]:
    """Tensors come one after another along an axis."""
    tensors: list[Axes] = [x for x in call["tensors"] if len(x) > 1 or x[0].size > 0]
    dim = call.given.get("dim", 0) % len(tensors[0])
    for x in tensors[1:]:
        for place, axis in enumerate(x):
            if place != dim:
                call.tie(tensors[0][place], axis)
    return [[*tensors[0][:dim], sum_of([x[dim] for x in tensors]), *tensors[0][dim + 1 :]]]


def reduced(call: Call) -> list[Axes]:
    """Axes are summed over, or the like, which their order does not change."""
    dims, keep = call.dims(), call.given.get("keepdim", False)
    made = [Axis(1) if dim in dims else axis for dim, axis in enumerate(call.x)] if keep else without(call.x, dims)
    return [made] * len(call.shapes)


def spatial(call: Call) -> list[Axes]:
    """Pooling and resizing of the last axes."""
    matched = re.search(r"(\d)d", call.name)
    count = int(matched[1]) if matched else len(call["pad"]) // 2
    for axis in call.x[-count:]:
        axis.pin(call.where)
    return [[*call.x[:-count], *(call.fixed(size) for size in shape[-count:])] for shape in call.shapes]


def padded(call: Call) -> list[Axes]:
    """Axes get units at their ends."""
    made, pad = list(call.x), call["pad"]
    for place in range(len(pad) // 2):
        if before_after := [size for size in pad[2 * place : 2 * place + 2] if size]:
            axis = made[-1 - place].pin(call.where)
            made[-1 - place] = call.fixed(axis.size + sum(before_after))
    return [made]


def filled(call: Call) -> list[Axes]:
    """All elements are alike, in whatever order."""
    return [[Axis(size) for size in shape] for shape in call.shapes]


def numbered(call: Call) -> list[Axes]:
    """The elements are numbered."""
    return [[call.fixed(size) for size in shape] for shape in call.shapes]


def written(call: Call) -> list[Axes]:
    """A part of a tensor is written to, as of a mask: the order of everything in it matters."""
    for axis in (axis for value in call.given.values() for x in _tensors(value) for axis in x):
        axis.pin(call.where)
    return [call.x]


def without(x: Axes, dims: Sequence[int]) -> Axes:
    """A tensor's axes but some."""
    return [axis for dim, axis in enumerate(x) if dim not in dims]
