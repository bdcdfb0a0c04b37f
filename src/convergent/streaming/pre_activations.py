"""What a layer's units were before their nonlinearity, seen while a net runs; and that nonlinearity on other values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map


def _names(words: str) -> frozenset[str]:
    return frozenset(words.split())


# torch's functions by name, without the underscores of those that work in place
_NONLINEAR = _names(
    "relu relu6 elu selu celu gelu silu mish leaky_relu prelu rrelu threshold hardtanh hardswish hardsigmoid sigmoid "
    "logsigmoid tanh softplus softsign softshrink hardshrink tanhshrink clamp clamp_min clip abs square exp erf"
)
_POOLING = frozenset(
    ["mean", *(f"{kind}_pool{d}d" for kind in ("max", "avg", "adaptive_max", "adaptive_avg", "lp") for d in (1, 2, 3))]
)
_NORMALISING = frozenset(["local_response_norm"])
# act on every unit alone: after a nonlinearity they are part of it, after a linear function their output is linear
_UNIT_WISE = _names(
    "dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout batch_norm flatten reshape view permute "
    "transpose movedim squeeze unsqueeze contiguous clone detach to float half bfloat16 double expand neg div "
    "getitem get"
)
# mix units, so that their outputs have no axes of their own, but for what a nonlinearity later makes of them
_LINEAR = _names(
    "linear bilinear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d matmul mm bmm addmm baddbmm "
    "einsum batch_norm layer_norm group_norm instance_norm rms_norm scaled_dot_product_attention "
    "multi_head_attention_forward embedding"
)
# of one tensor and numbers: what a nonlinearity may be made of, as GELU and swish are written out
_PARTS = _names("mul add sub rsub neg div pow square")
# act on every element alone, whatever its place, given the net's own parameters
_BY_ELEMENT = _NONLINEAR | _names(
    "dropout alpha_dropout batch_norm clone contiguous detach to float half bfloat16 double neg div mul add sub rsub pow"
)
_SUMS = frozenset(["add", "sub"])  # of linear functions' outputs are linear, a rectified unit plus another is neither


@dataclass(frozen=True)
class _Call:
    """A call of one of torch's functions."""

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    inputs: list[Tensor]

    def made(self) -> Any:
        """Make it."""
        return self.function(*self.arguments, **self.options)

    def given(self, instead: Mapping[int, Tensor]) -> _Call:
        """The same call of other tensors, by the identity of those that they replace."""
        arguments, options = tree_map(lambda x: instead.get(id(x), x), (self.arguments, self.options))
        return replace(self, arguments=arguments, options=options)


@dataclass
class Nonlinearity:
    """A nonlinearity that ran, with what followed it unit by unit (pooling, dropout, scaling, a change of shape).

    Attributes:
        sources: its input, the pre-activations; and where its output gated others, as in a gated linear unit, those.
        steps: the calls of functions that it consists of, and what came out of each.
    """

    sources: list[Tensor]
    steps: list[tuple[_Call, Tensor]] = field(default_factory=list)

    def gave(self, x: Tensor) -> bool:
        """Whether a tensor came out of it."""
        return any(out is x for _, out in self.steps)

    @property
    def by_element(self) -> bool:
        """Whether every element of the output is of one element of each source, so that some of them may be done alone."""
        shape = self.sources[0].shape
        known = [*self.sources, *(out for _, out in self.steps)]
        return all(x.shape == shape for x in known) and all(
            call.name in _BY_ELEMENT
            and (
                call.name in ("batch_norm", "prelu")
                or all(x.numel() == 1 or any(x is y for y in known) for x in call.inputs)
            )
            for call, _ in self.steps
        )

    def again(self, instead: Sequence[Tensor], output: Tensor) -> Tensor:
        """What would be in the place of one of its outputs for other values of its sources, which it may overwrite."""
        given = {id(source): x for source, x in zip(self.sources, instead)}
        for call, out in self.steps:
            given[id(out)] = call.given(given).made()
        return given[id(output)]


class PreActivations(TorchFunctionMode):
    """While open, remembers the last nonlinearity that ran, or the last linear function: what a layer's output came from.

    It watches torch's own functions, so modules and functions are alike to it; a nonlinearity that works in place has its
    input copied first.

    >>> import torch
    >>> with PreActivations() as seen:
    ...     x = torch.relu(torch.tensor([-1.0, 2.0]))
    >>> nonlinearity = seen.nonlinearity(x)
    >>> nonlinearity.sources, nonlinearity.again([torch.tensor([3.0, -4.0])], x)
    ([tensor([-1.,  2.])], tensor([3., 0.]))
    """

    _looking_away: ClassVar[bool] = False
    _open: ClassVar[list[PreActivations]] = []

    def __init__(self) -> None:
        super().__init__()
        self._last: Nonlinearity | None = None
        self._linear: list[Tensor] = []  # what the last linear function gave, and views of it
        self._parts: list[tuple[_Call, Tensor, Tensor]] = []  # made of one tensor element by element, and that tensor

    def nonlinearity(self, output: Tensor) -> Nonlinearity | None:
        """What gave a layer's output; None where that ended in no nonlinearity, or joins the outputs of several."""
        return self._last if self._last is not None and self._last.gave(output) else None

    def mixes(self, output: Tensor) -> bool:
        """Whether a layer's output came from a function that mixes units, with no nonlinearity since."""
        return any(linear is output for linear in self._linear)

    def forget(self) -> None:
        """Let go of all tensors."""
        self._last, self._linear, self._parts = None, [], []

    @classmethod
    @contextmanager
    def looking_away(cls) -> Iterator[None]:
        """While open nothing is watched by any of them: what hooks do with activations is no part of the net."""
        before, PreActivations._looking_away = PreActivations._looking_away, True
        try:
            yield
        finally:
            PreActivations._looking_away = before

    @classmethod
    @contextmanager
    def apart(cls) -> Iterator[None]:
        """While open all is watched as ever; afterwards as if nothing had run, for it is no part of the net."""
        before = []
        for seen in cls._open:
            before.append((seen, seen._last, seen._linear, seen._parts))
            seen._last = seen._last and replace(seen._last, sources=[*seen._last.sources], steps=[*seen._last.steps])
            seen._linear, seen._parts = [*seen._linear], [*seen._parts]
        try:
            yield
        finally:
            for seen, last, linear, parts in before:
                seen._last, seen._linear, seen._parts = last, linear, parts

    def __enter__(self) -> Self:
        PreActivations._open.append(self)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *exception: object) -> None:
        PreActivations._open.remove(self)
        super().__exit__(*exception)  # type: ignore[no-untyped-call]

    def __torch_function__(
        self, function: Any, _types: Any, arguments: Sequence[Any] = (), options: Mapping[str, Any] | None = None
    ) -> Any:
        """Call a function of torch, and remember it if it matters."""
        options = options or {}
        inputs = [x for x in [*arguments, *options.values()] if isinstance(x, Tensor)]
        if self._looking_away or not inputs:
            return function(*arguments, **options)
        name = getattr(function, "__name__", "")
        call = _Call(name.strip("_"), function, tuple(arguments), dict(options), inputs)
        rectified = [x for x in inputs if self.nonlinearity(x)]
        linear = any(self.mixes(x) for x in inputs)
        if not rectified and (call.name in _NONLINEAR or (call.name in _POOLING and linear)):
            in_place = name.endswith("_") or bool(options.get("inplace"))
            source = inputs[0].clone() if in_place else inputs[0]
            out, origin = call.made(), self._origin(inputs[0])
            self._linear = []
            if in_place or origin is source:
                self._last = Nonlinearity([source], [(call.given({id(inputs[0]): source}), out)])
            else:
                self._last = Nonlinearity([origin], [*self._parts_of(origin), (call, out)])
            return out
        out = call.made()
        if isinstance(out, Tensor):
            self._note(call, rectified, linear, out)
        return out

    def _origin(self, x: Tensor) -> Tensor:
        """What a tensor was made of, element by element; itself where it was made otherwise."""
        return next((origin for _, out, origin in self._parts if out is x), x)

    def _parts_of(self, origin: Tensor) -> list[tuple[_Call, Tensor]]:
        return [(call, out) for call, out, of in self._parts if of is origin]

    def _note_part(self, call: _Call, out: Tensor) -> None:
        """Remember a tensor that is made of one other, which some nonlinearity may be about to be made of."""
        if any(out is x for x in call.inputs):  # in place: what was made of it before is of other values
            self._parts = [part for part in self._parts if part[2] is not out and part[1] is not out]
            return
        origins = {id(origin): origin for x in call.inputs if x.numel() > 1 for origin in [self._origin(x)]}
        origin = next(iter(origins.values()), None)
        if call.name in _PARTS and len(origins) == 1 and origin is not None and origin.shape == out.shape:
            self._parts.append((call, out, origin))

    def _note(self, call: _Call, rectified: Sequence[Tensor], linear: bool, out: Tensor) -> None:
        if call.name in _LINEAR:
            self._parts = []
        if not rectified:
            self._note_part(call, out)
        others = [x for x in call.inputs if not any(x is y for y in rectified)]
        scales = call.name == "mul" or (call.name in _SUMS and not others)
        if rectified and self._last and (call.name in _UNIT_WISE | _NONLINEAR | _POOLING | _NORMALISING or scales):
            gated = [x for x in others if call.name == "mul" and x.shape == out.shape]
            for x in gated:  # which is the pre-activation itself, or made of it, where GELU or swish are written out
                origin = self._origin(x)
                if any(origin is y for y in self._last.sources):
                    there = [step for step, _ in self._last.steps]
                    self._last.steps += [part for part in self._parts_of(origin) if part[0] not in there]
                elif not any(x is y for y in self._last.sources):
                    self._last.sources.append(x)
            self._last.steps.append((call, out))
            return
        if any(out is x for x in rectified):  # overwritten in place by what is no part of it
            self._last = None
        self._linear = [x for x in self._linear if x is not out]
        by_constant = call.name == "mul" and sum(x.shape == out.shape for x in call.inputs) == 1
        if call.name in _LINEAR or (call.name in _SUMS and not rectified):
            self._linear = [out]
        elif linear and (call.name in _UNIT_WISE or by_constant):
            self._linear.append(out)
