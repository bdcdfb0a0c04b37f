"""Which pixels of the image an output position of a layer can see, found while the net runs once.

Every tensor that comes of the image carries its field along, through whatever modules, functions and branches the net has;
what is not understood (attention, a mean over all positions) counts as seeing the whole image.

Axes: fields are (down, across), in pixels.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from convergent.streaming.capture import Capture
from convergent.streaming.layers import Layer


@dataclass(frozen=True)
class Span:
    """Along one axis, output position i sees the `size` pixels from start + i step on; some may lie outside of the image.

    Source: Araujo, Norris, Sim 2019, "Computing receptive fields of convolutional neural networks", Distill.

    >>> Span().window(11, stride=4).window(3, stride=2)  # conv1 and pool1 of CaffeNet
    Span(start=0, step=8, size=19)
    """

    start: int = 0
    step: int = 1
    size: int = 1

    def window(self, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> Self:
        """What a position sees behind a window that slides over these positions."""
        return type(self)(
            self.start - padding * self.step, self.step * stride, self.size + (kernel - 1) * dilation * self.step
        )

    def joined(self, other: Self) -> Self | None:
        """What sees both; None where the positions do not lie on one grid."""
        if self.step != other.step:
            return None
        start = min(self.start, other.start)
        return type(self)(start, self.step, max(self.start + self.size, other.start + other.size) - start)

    def pixels(self, position: int) -> range:
        """What one position sees."""
        first = self.start + position * self.step
        return range(first, first + self.size)


# Down and across; None: the whole image.
Field = tuple[Span, Span] | None

_IMAGE = (Span(), Span())


def receptive_fields(net: nn.Module, x: Tensor, layer: Mapping[str, str]) -> dict[str, Field]:
    """The field of each layer's output, {name: (down, across) or None for the whole image}.

    The net is in evaluation mode; x are pictures (n, channels, height, width); `layer` has the paths of modules by name.

    >>> net = nn.Sequential(nn.Conv2d(1, 2, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    >>> receptive_fields(net, torch.zeros(1, 1, 8, 8), {"pool": "2", "flat": "3"})
    {'pool': (Span(start=-2, step=2, size=6), Span(start=-2, step=2, size=6)), 'flat': None}
    """
    seen: dict[str, Field] = {}
    layers: dict[str, Layer] = {name: {"": path} for name, path in layer.items()}
    with torch.no_grad(), _Fields(x[:1]) as fields:

        def keep(_net: str, name: str, activation: Tensor) -> None:
            seen[name] = fields.of(activation)

        with Capture({"": net}, layers, keep) as capture:
            capture.begin()
            net(fields.image)
    return seen


class _Fields(TorchFunctionMode):
    """While open, every function of torch hands the fields of its arguments on to its result."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self.image = image
        self._known: dict[int, tuple[Tensor, Field]] = {id(image): (image, _IMAGE)}  # holds tensors: ids stay theirs

    def of(self, x: Tensor) -> Field:
        """The field of a result; the whole image if it is not known to come of the image."""
        field = self._known.get(id(x), (x, None))[1]
        return field if x.ndim == 4 else None

    def __torch_function__(self, function: Callable[..., Any], _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        fields = [self._known[id(x)][1] for x in _tensors((args, kwargs)) if id(x) in self._known]
        if fields:  # else it does not come of the image
            field = _behind(function.__name__, fields, args, kwargs) if result is not None else None
            for x in _tensors(args[0] if result is None and args else result):
                self._known[id(x)] = (x, field)
        return result


def _behind(name: str, fields: list[Field], args: Any, kwargs: Any) -> Field:
    """The field of a function's result, given those of its arguments; None for a function that is not known."""
    joined = fields[0]
    for field in fields[1:]:
        joined = _joined(joined, field)
    if joined is None or name in _POSITIONWISE:
        return joined
    if name in _ALONG_AXIS:
        at = _ALONG_AXIS[name]
        axis = args[at] if len(args) > at else kwargs.get("dim", 0)
        return joined if axis in (0, 1, -3, -4) else None
    window = _WINDOWS.get(name)
    return window(joined, *args, **kwargs) if window else None


def _joined(one: Field, other: Field) -> Field:
    if one is None or other is None:
        return None
    down, across = (a.joined(b) for a, b in zip(one, other))
    return None if down is None or across is None else (down, across)


def _slid(field: tuple[Span, Span], kernel: Any, stride: Any, padding: Any, dilation: Any) -> Field:
    sizes = [value if isinstance(value, (tuple, list)) else (value,) for value in (kernel, stride, padding, dilation)]
    down, across = (span.window(*(int(size[axis % len(size)]) for size in sizes)) for axis, span in enumerate(field))
    return down, across


def _convolved(
    field: tuple[Span, Span], _x: Tensor, weight: Tensor, _bias: Any = None, stride: Any = 1, padding: Any = 0,
    dilation: Any = 1, *_groups: int, **_more: Any,
) -> Field:  # fmt: skip
    kernel = tuple(weight.shape[2:])
    if isinstance(padding, str):
        each = dilation if isinstance(dilation, (tuple, list)) else (dilation,)
        same = [each[axis % len(each)] * (size - 1) // 2 for axis, size in enumerate(kernel)]
        padding = same if padding == "same" else 0
    return _slid(field, kernel, stride, padding, dilation)


def _pooled(
    field: tuple[Span, Span], _x: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
    **_more: Any,
) -> Field:  # fmt: skip
    return _slid(field, kernel_size, stride or kernel_size, padding, dilation)


def _averaged(
    field: tuple[Span, Span], _x: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, *_options: Any,
    **_more: Any,
) -> Field:  # fmt: skip
    return _slid(field, kernel_size, stride or kernel_size, padding, 1)


def _padded(
    field: tuple[Span, Span], _x: Tensor, pad: Any, mode: str = "constant", _value: Any = None, **_: Any
) -> Field:
    if mode != "constant" or len(pad) > 4:  # copies of positions inside see what those see
        return None
    left, top = pad[0], pad[2] if len(pad) > 2 else 0
    return _slid(field, 1, 1, (top, left), 1)


_WINDOWS: dict[str, Callable[..., Field]] = {
    "conv2d": _convolved, "max_pool2d": _pooled, "_max_pool2d": _pooled, "avg_pool2d": _averaged, "pad": _padded,
}  # fmt: skip

# Functions whose result at a position needs their arguments at that position only, over any number of channels.
_NAMES = (
    "relu relu_ relu6 leaky_relu leaky_relu_ elu elu_ selu selu_ celu gelu silu mish hardswish hardsigmoid hardtanh "
    "hardtanh_ softplus softsign sigmoid sigmoid_ tanh tanh_ threshold prelu clamp clamp_ clip abs neg exp log sqrt square "
    "pow dropout dropout2d feature_dropout alpha_dropout batch_norm local_response_norm add add_ sub sub_ mul mul_ div div_ "
    "__add__ __radd__ __iadd__ __sub__ __rsub__ __isub__ __mul__ __rmul__ __imul__ __truediv__ __itruediv__ maximum minimum "
    "contiguous clone detach to float double half bfloat16 type"
)
_POSITIONWISE = frozenset(_NAMES.split())

# Functions that are so along the axis of channels: the place of that argument.
_ALONG_AXIS = {"cat": 1, "concat": 1, "chunk": 2, "split": 2}


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for inner in value:
            yield from _tensors(inner)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
