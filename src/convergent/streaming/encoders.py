"""Modules on layers of a net, such as encoders of sparse autoencoders: what they give is compared as a layer is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from convergent.data.opening import first_line
from convergent.errors import InputError
from convergent.streaming.capture import tensor_of
from convergent.streaming.layers import find_layer, of_input
from convergent.streaming.net_modules import ENCODERS
from convergent.streaming.pre_activations import PreActivations

_HOOKS = "_convergent_encoder_hooks"  # of a net, by the encoder's name


def with_encoders(net: nn.Module, /, **encoders: tuple[str, nn.Module]) -> nn.Module:
    """The net itself, with encoders that are run on what its layers give and are layers of these names to all that compares.

    What they give goes nowhere: the net computes what it did, and its weights are what they were. Encoders follow their
    layer to its device; one of a name that there is replaces it.

    Args:
        net: any module.
        encoders: by name: the path of a layer, or PATH:input for what it is given, and the module that is to read it.

    Raises:
        InputError: if there is no such layer, or the net has something else of that name.

    >>> net = with_encoders(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), code=("1", nn.Linear(3, 16)))
    >>> find_layer(net, "code", "net")
    Linear(in_features=3, out_features=16, bias=True)
    """
    there, hooks = net.__dict__.setdefault(ENCODERS, {}), net.__dict__.setdefault(_HOOKS, {})
    for name, (path, encoder) in encoders.items():
        layer = find_layer(net, path, type(net).__name__)
        if name in hooks:
            hooks.pop(name).remove()
        elif hasattr(net, name) or not name.isidentifier():
            raise InputError(f"An encoder needs a name that is a word and nothing of the net's, not {name!r}.")
        there[name] = encoder.eval()
        if of_input(path):
            hooks[name] = layer.register_forward_pre_hook(partial(_encode_input, encoder, path), with_kwargs=True)
        else:
            hooks[name] = layer.register_forward_hook(partial(_encode, encoder, path))
    return net


def _encode(encoder: nn.Module, path: str, _module: nn.Module, _args: object, output: object) -> None:
    x = tensor_of(output, None, f"Layer {path}").detach()
    try:
        with PreActivations.apart():
            encoder.to(x.device)(x)
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise InputError(
            f"The encoder on layer {path} cannot read what that gives, of shape {tuple(x.shape)} ({first_line(error)}); "
            "its options need to fit the layer's units."
        ) from error


def _encode_input(
    encoder: nn.Module, path: str, module: nn.Module, args: Sequence[Any], named: Mapping[str, Any]
) -> None:
    _encode(encoder, path, module, args, next(iter([*args, *named.values()]), None))
