"""What each operator of a net's graph does to the axes of its tensors: the rules by which ties are found.

The operators are those of torch's core ATen set, which `torch.export` brings any module to. Most are elementwise, and torch
says so of them; the others are here. One that is not is refused by name.
"""

from collections.abc import Callable
from typing import Any

import torch

from convergent.errors import InputError
from convergent.function.merging import calls
from convergent.function.merging.axes import Axis, product
from convergent.function.merging.calls import Axes, Call, elementwise, is_axes, without

Rule = Callable[[Call], "list[Axes]"]


def _softmax(call: Call) -> list[Axes]:
    call.reduced.append(without(call.x, call.dims()))
    return [call.x]


def _matrices(call: Call) -> list[Axes]:
    """Products of matrices, whose last axes are contracted: mm, bmm, addmm, baddbmm."""
    bias, x, y = ([None] if len(_given(call)) == 2 else []) + _given(call)[:3]
    call.contracted.extend([x[-1], y[-2]])
    call.tie(x[-1], y[-2])
    for one, other in zip(x[:-2], y[:-2]):
        call.tie(one, other)
    made = [*x[:-1], y[-1]]
    for place, axis in enumerate(reversed(bias or []), 1):
        if axis.size > 1:
            call.tie(axis, made[-place])
    return [made]


def _given(call: Call) -> list[Any]:
    return [value for value in call.given.values() if is_axes(value)]


def _attention(call: Call) -> list[Axes]:
    query, key, value, mask = call["query"], call["key"], call["value"], call["attn_mask"]
    *outer, q, d = query
    if call["enable_gqa"] and outer[-1].size > key[-3].size:  # several heads of queries to each of keys
        heads = product([key[-3], Axis(outer[-1].size // key[-3].size)])
        call.tie(outer[-1], heads)
        call.tie(key[-3], value[-3])
    for x, y in (*zip(outer, key[:-2]), *zip(outer, value[:-2])):
        if x.size == y.size:
            call.tie(x, y)
    call.tie(d, key[-1])
    call.tie(key[-2], value[-2])
    attended = [*outer, q, key[-2]]
    for place, axis in enumerate(reversed(mask or []), 1):
        if axis.size > 1:
            call.tie(axis, attended[-place])
    if call["is_causal"]:
        q.pin(call.where)
        key[-2].pin(call.where)
    call.reduced.extend([attended, attended[:-1]])
    return [[*outer, q, value[-1]]]


def _convolution(call: Call) -> list[Axes]:
    x, weight, bias, groups = call["input"], call["weight"], call["bias"], call["groups"]
    one, other = (weight[1], weight[0]) if call["transposed"] else (weight[0], weight[1])
    call.contracted.append(other)
    group = Axis(groups)
    if call["transposed"]:  # (in, out of a group, ...): the groups lie in the axis of what is read
        call.tie(x[1], other)
        inner = Axis(other.size // groups)
        call.tie(other, product([group, inner]))
        made = product([group, one])
    else:  # (out, in of a group, ...)
        call.tie(x[1], product([group, other]))
        call.tie(one, product([group, Axis(one.size // groups)]))
        made = one
    if bias is not None:
        call.tie(bias[0], made)
    for axis in (*x[2:], *weight[2:]):
        axis.pin(call.where)
    return [[x[0], made, *(call.fixed(size) for size in call.shapes[0][2:])]]


def _layer_norm(call: Call) -> list[Axes]:
    normalised = len(call["normalized_shape"])
    for of in (call.given.get("weight"), call.given.get("bias")):
        for axis, other in zip(call.x[-normalised:], of or []):
            call.tie(axis, other)
    rest = [*call.x[:-normalised], *(Axis(1) for _ in range(normalised))]
    call.reduced.append(rest)
    return [call.x, rest, rest][: len(call.shapes)]


def _group_norm(call: Call) -> list[Axes]:
    x, groups = call.x, Axis(call["group"])
    call.tie(x[1], product([groups, Axis(x[1].size // groups.size)]))
    for of in (call["weight"], call["bias"]):
        if of is not None:
            call.tie(x[1], of[0])
    statistics = [x[0], groups]
    call.reduced.append(statistics)
    return [x, statistics, statistics]


def _batch_norm(call: Call) -> list[Axes]:
    for name in ("weight", "bias", "running_mean", "running_var"):
        if call.given.get(name) is not None:
            call.tie(call.x[1], call[name][0])
    return [call.x, *([call.x[1]] if shape and shape[0] else [Axis(0)] for shape in call.shapes[1:])]


def _embedding(call: Call) -> list[Axes]:
    call["weight"][0].pin(call.where)
    return [[*call["indices"], call["weight"][1]]]


def _index(call: Call) -> list[Axes]:
    indices = call["indices"]
    places = [place for place, of in enumerate(indices) if of is not None]
    for place in places:
        call.x[place].pin(call.where)
    added = len(call.shapes[0]) - (len(call.x) - len(places))
    together = places[-1] - places[0] == len(places) - 1
    first = places[0] if together else 0
    before = [axis for place, axis in enumerate(call.x[:first]) if place not in places]
    after = [axis for place, axis in enumerate(call.x) if place >= first and place not in places]
    new = [call.fixed(size) for size in call.shapes[0][len(before) : len(before) + added]]
    return [[*before, *new, *after]]


_RULES: tuple[tuple[str, Rule], ...] = (
    ("clone alias detach _to_copy lift_fresh_copy contiguous copy dropout", calls.same),
    ("_softmax _log_softmax", _softmax),
    ("cumsum cumprod flip roll", calls.ordered),
    ("view _unsafe_view reshape", calls.view),
    ("permute", calls.permuted),
    ("expand", calls.expanded),
    ("squeeze", calls.squeezed),
    ("unsqueeze", calls.unsqueezed),
    ("select", calls.selected),
    ("index_select", calls.picked),
    ("as_strided", calls.restrided),
    ("slice", calls.sliced),
    ("split split_with_sizes", calls.split),
    ("cat", calls.concatenated),
    ("mean sum amax amin any all prod var std logsumexp argmax argmin var_mean", calls.reduced),
    ("mm bmm addmm baddbmm", _matrices),
    ("scaled_dot_product_attention", _attention),
    ("convolution", _convolution),
    ("constant_pad_nd", calls.padded),
    ("reflection_pad1d reflection_pad2d replication_pad2d replication_pad3d", calls.spatial),
    ("avg_pool1d avg_pool2d avg_pool3d max_pool2d_with_indices max_pool3d_with_indices adaptive_avg_pool1d", calls.spatial),
    ("_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d upsample_nearest2d upsample_bilinear2d", calls.spatial),
    ("native_layer_norm", _layer_norm),
    ("_fused_rms_norm", _layer_norm),
    ("native_group_norm", _group_norm),
    ("_native_batch_norm_legit_no_training _native_batch_norm_legit", _batch_norm),
    ("embedding", _embedding),
    ("index _unsafe_index", _index),
    ("full full_like zeros zeros_like ones ones_like empty scalar_tensor", calls.filled),
    ("arange", calls.numbered),
    ("slice_scatter select_scatter index_put", calls.written),
)  # fmt: skip
_BY_NAME: dict[str, Rule] = {name: rule for names, rule in _RULES for name in names.split()}


def rule_of(operator: Any, where: str) -> Rule:
    """The rule of an operator of ATen.

    Raises:
        InputError: if there is none; the message names the module that calls it.
    """
    name = str(operator).removeprefix("aten.").partition(".")[0]
    if name in _BY_NAME:
        return _BY_NAME[name]
    if torch.Tag.pointwise in getattr(operator, "tags", ()):
        return elementwise
    raise InputError(
        f"Which units belong together cannot be told of module {where or 'the net'}, for it calls {operator}, of which no "
        "rule is known; merge nets without it, or add a rule to convergent.function.merging.operators."
    )
