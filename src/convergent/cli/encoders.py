"""Encoders that a command puts on layers of its nets, whose features are then compared as a layer's units are."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convergent.errors import InputError
from convergent.streaming.encoders import with_encoders
from convergent.training.runs import build, load_weights

if TYPE_CHECKING:
    from torch import nn


def encoders_of(given: Mapping[str, Any], nets: Sequence[str]) -> dict[str, dict[str, tuple[str, nn.Module]]]:
    """The encoders of every net, {net: {name: (path of a layer, module)}}, of the option `encoders`.

    An encoder is {layer: PATH, encoder: {_target_: ...}, weights: FILE}: one file for all nets, or {NET: FILE, ...}; without
    it each net's has random weights of its own.

    Raises:
        InputError: if one cannot be built, or a file of weights is not there or does not fit.
    """
    return {net: {name: _of(name, about, net, seed) for name, about in given.items()} for seed, net in enumerate(nets)}


def put_on(
    nets: Mapping[str, nn.Module], encoders: Mapping[str, Mapping[str, tuple[str, nn.Module]]]
) -> dict[str, nn.Module]:
    """The nets with their encoders."""
    return {name: with_encoders(net, **encoders.get(name, {})) for name, net in nets.items()}


def content(encoders: Mapping[str, Mapping[str, tuple[str, nn.Module]]]) -> list[list[str]]:
    """What encoders are, for the key of a measurement: net, name, layer, a digest of the module and its weights."""
    return [
        [net, name, path, _digest(encoder)]
        for net, of in encoders.items()
        for name, (path, encoder) in sorted(of.items())
    ]


def _of(name: str, about: Mapping[str, Any], net: str, seed: int) -> tuple[str, nn.Module]:
    weights = about.get("weights")
    if isinstance(weights, Mapping) and net not in weights:
        raise InputError(f"encoders.{name}.weights has no file for net {net}, only for {', '.join(weights)}; name one.")
    file = weights[net] if isinstance(weights, Mapping) else weights
    encoder = build(about["encoder"], seed)
    if file is not None:
        load_weights(encoder, Path(file), whole=False)
    return about["layer"], encoder.eval()


def _digest(encoder: nn.Module) -> str:
    import torch

    digest = hashlib.sha256(repr(encoder).encode())
    for name, tensor in encoder.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
