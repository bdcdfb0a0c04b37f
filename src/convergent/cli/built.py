"""Nets that are not trained here: any importable module, with weights from a file or random ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from convergent.errors import InputError
from convergent.training.runs import build, load_weights

if TYPE_CHECKING:
    from torch import nn

# What there is to say of a net that is built from its `module`.
_KEYS = ("module", "name", "weights", "seed", "layers", "channels", "prepare", "mean", "std")
_OF_HUB = ("hf", "revision", "name", "layers")
_PRETRAINED = "convergent.nets.decoder.pretrained"

# How a net wants its images; what is not said is as the measured images are prepared.
VIEW = ("channels", "prepare", "mean", "std")


@dataclass(frozen=True)
class Built:
    """A net that is not trained here.

    Attributes:
        module: what it is built from, with a `_target_`.
        weights: file of its weights (.safetensors, or .pt and .pth with nothing but tensors in it); None for random ones.
        layers: that are compared unless layers= names others.
        view: how it wants its images, some of `VIEW`.
    """

    name: str
    module: dict[str, Any]
    weights: Path | None = None
    seed: int = 0
    layers: tuple[str, ...] = ()
    view: DictConfig | None = None

    @classmethod
    def of(cls, given: Mapping[str, Any], number: int) -> Built:
        """The net of an entry of `nets`: {_target_: ..., arguments} or {module: {_target_: ...}, weights: FILE, ...}.

        Or {hf: FOLDER or name on a hub, revision: ...}, a trained decoder of transformers.

        Its number in that list is the seed of random weights unless it has a seed.

        Raises:
            InputError: if something else is said of it.
        """
        if "hf" in given:
            return cls._of_hub(given)
        entry: dict[str, Any] = {"module": given} if "_target_" in given else dict(given)
        if unknown := sorted(set(entry) - set(_KEYS)):
            raise InputError(f"A net of nets has no {unknown[0]!r}; what can be said is {', '.join(_KEYS)}.")
        if "_target_" not in (entry.get("module") or {}):
            raise InputError(f"A net needs to be a run folder or {{_target_: MODULE, ...}}, not {dict(given)}.")
        weights = entry.get("weights")
        if weights is not None and not Path(weights).is_file():
            raise InputError(f"There is no file of weights {weights}.")
        view = {key: entry[key] for key in VIEW if entry.get(key) is not None}
        return cls(
            name=entry.get("name") or str(entry["module"]["_target_"]).rpartition(".")[2].lower(),
            module=dict(entry["module"]),
            weights=None if weights is None else Path(weights),
            seed=number if entry.get("seed") is None else entry["seed"],
            layers=tuple(entry.get("layers") or ()),
            view=OmegaConf.create(view) if view else None,
        )

    @classmethod
    def _of_hub(cls, given: Mapping[str, Any]) -> Built:
        if unknown := sorted(set(given) - set(_OF_HUB)):
            raise InputError(f"A net of a hub has no {unknown[0]!r}; what can be said is {', '.join(_OF_HUB)}.")
        path, revision = str(given["hf"]), given.get("revision")
        name = Path(path).name if revision is None else f"{Path(path).name}@{revision}"
        layers = tuple(given.get("layers") or ())
        if not layers:
            from convergent.nets.decoder import mlp_units

            layers = mlp_units(path, revision)
        module = {"_target_": _PRETRAINED, "path": path, "revision": revision}
        return cls(given.get("name") or name, module, layers=layers)

    @property
    def tokenizer(self) -> Path | None:
        """The file of the vocabulary of a trained decoder; None of other nets."""
        if self.module["_target_"] != _PRETRAINED:
            return None
        from convergent.nets.decoder import vocabulary_of

        return vocabulary_of(self.module["path"], self.module.get("revision"))

    @property
    def group(self) -> str:
        """What its experiment is called: itself."""
        return self.name

    @cached_property
    def _net(self) -> nn.Module:
        net = build(self.module, self.seed)
        if self.weights is not None:
            load_weights(net, self.weights)
        return net.eval()

    def net(self) -> nn.Module:
        """The net, in evaluation mode.

        Raises:
            InputError: if it cannot be built, or its weights are of another architecture.
        """
        return self._net

    def content(self) -> str:
        """A key of the net itself: what it is built from and the bytes of its weights.

        Raises:
            InputError: as `net`.
        """
        import torch

        digest = hashlib.sha256(json.dumps(self.module, sort_keys=True, default=str).encode())
        for name, tensor in self._net.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()
