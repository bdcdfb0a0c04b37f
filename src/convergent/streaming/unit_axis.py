"""Which axis of a layer's activation its units are, as far as the type of the module says it."""

from collections.abc import Sequence
from typing import TypeGuard

from torch import nn
from torch.nn.modules import activation, batchnorm, conv, dropout, instancenorm, pooling

from convergent.streaming.layers import JOINED, module_and_call
from convergent.streaming.net_modules import modules_of

# Units are axis 1 of what these give, whatever comes behind it.
_CHANNEL = (
    conv._ConvNd, batchnorm._NormBase, instancenorm._InstanceNorm, nn.GroupNorm, nn.LocalResponseNorm,
    pooling._MaxPoolNd, pooling._MaxUnpoolNd, pooling._AvgPoolNd, pooling._LPPoolNd, pooling._AdaptiveMaxPoolNd,
    pooling._AdaptiveAvgPoolNd, nn.FractionalMaxPool2d, nn.FractionalMaxPool3d,
    nn.Upsample, nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle,
)  # fmt: skip
# And the last axis of what these give.
_LAST = (
    nn.Linear, nn.Bilinear, nn.LayerNorm, nn.RMSNorm, nn.Embedding, nn.MultiheadAttention,
    nn.TransformerEncoderLayer, nn.TransformerDecoderLayer, nn.TransformerEncoder, nn.TransformerDecoder,
)  # fmt: skip
# These leave the axes as they come.
_TRANSPARENT = (
    *(kind for name in activation.__all__ if name != "MultiheadAttention" and (kind := getattr(activation, name))),
    dropout._DropoutNd,
    nn.Identity,
)
_AS_BEFORE = "as before"


def axis_by_type(net: nn.Module, path: str) -> str | None:
    """Where the units of a layer are by the type of its module: "channel" (axis 1), "last", or None where that does not say.

    Of an `nn.Sequential` its last module decides, of an activation or dropout inside of one the module before it. Other
    modules of modules are what all their parts are: "pictures" where these have axis 1, so that only activations of four or
    more axes are to be taken for that, since vectors and tokens may be made of pictures inside.

    >>> net = nn.Sequential(nn.Conv1d(1, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(240, 9))
    >>> [axis_by_type(net, path) for path in ("0", "1", "2", "3")]
    ['channel', 'channel', None, 'last']
    """
    path, _ = module_and_call(path.split(JOINED)[0])
    modules = {"": net, **modules_of(net)}
    axis = _of(modules[path])
    while axis == _AS_BEFORE and path:
        path, _, name = path.rpartition(".")
        parent = modules[path]
        parts = {part: it for part, it in parent.named_modules(remove_duplicate=False) if part and "." not in part}
        if not _is_sequence(parent) or name not in parts:
            return None
        axis = _of_last([parts[before] for before in list(parts)[: list(parts).index(name)]])
    return None if axis == _AS_BEFORE else axis


def _of(module: nn.Module | None) -> str | None:
    if isinstance(module, _TRANSPARENT):
        return _AS_BEFORE
    if isinstance(module, _CHANNEL):
        return "channel"
    if isinstance(module, _LAST):
        return "last" if _as_torch_has_it(module) else None
    if _is_sequence(module):
        return _of_last(list(module.children()))
    parts = module.modules() if module is not None else ()
    axes = {_of(part) for part in parts if isinstance(part, (*_CHANNEL, *_LAST))}
    only = axes.pop() if len(axes) == 1 else None
    return "pictures" if only == "channel" else only


def _of_last(modules: Sequence[nn.Module | None]) -> str | None:
    """What the last module says that does not leave the axes as they come."""
    return next((axis for module in reversed(modules) if (axis := _of(module)) != _AS_BEFORE), _AS_BEFORE)


def _is_sequence(module: nn.Module | None) -> TypeGuard[nn.Sequential]:
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def _as_torch_has_it(module: nn.Module) -> bool:
    """Whether it computes what torch's own class does: torchvision's LayerNorm2d, a LayerNorm, moves the axes about."""
    if isinstance(module, nn.LayerNorm) and len(module.normalized_shape) > 1:
        return False
    return any(type(module).forward is kind.forward for kind in _LAST)
