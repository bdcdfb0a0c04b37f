"""Nets whose weights are about to be loaded are built without drawing first ones, which takes seconds for large nets."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_DRAWS = (Tensor.normal_, Tensor.uniform_)


class SkipInit(TorchFunctionMode):
    """While it is entered, torch.nn.init and random draws leave parameters as they come; buffers are filled as ever.

    >>> with SkipInit():
    ...     layer = nn.Linear(3, 2)
    >>> _ = layer.load_state_dict(nn.Linear(3, 2).state_dict())  # has them all
    """

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Give a parameter back that was to be filled; do all else."""
        given = dict(kwargs or {})
        into = args[0] if args else given.get("tensor")
        fills = func in _DRAWS or getattr(func, "__module__", "") == nn.init.__name__
        return into if fills and isinstance(into, nn.Parameter) else func(*args, **given)
