"""Run folders: what train hands over to align. A configuration and weights without pickles, readable by anybody.

A folder holds config.yaml (resolved), weights.safetensors, metrics.json, last.ckpt (Lightning's, to resume from) and,
once the training is finished, an empty file named done.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from convergent.errors import InputError
from convergent.folders import atomic, write_json

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Run:
    """One trained net on disk.

    Attributes:
        folder: the run folder.
    """

    folder: Path

    @property
    def name(self) -> str:
        """What the net is called in tables and figures: its folder's name."""
        return self.folder.name

    @property
    def weights(self) -> Path:
        """The file of its weights."""
        return self.folder / "weights.safetensors"

    @property
    def checkpoint(self) -> Path:
        """Where Lightning keeps the last finished epoch."""
        return self.folder / "last.ckpt"

    @property
    def finished(self) -> bool:
        """Whether the training ended."""
        return (self.folder / "done").exists()

    @cached_property
    def config(self) -> DictConfig:
        """The resolved configuration of the training.

        Raises:
            InputError: if it is missing or unreadable.
        """
        try:
            config = OmegaConf.load(self.folder / "config.yaml")
            assert isinstance(config, DictConfig)
        except Exception as error:
            raise InputError(
                f"{self.folder} is no run folder: its config.yaml cannot be read ({type(error).__name__}); "
                "train the net again with force=true or leave the folder out of runs."
            ) from None
        return config

    def told(self) -> str:
        """The finished training's accuracies in one line."""
        metrics = json.loads((self.folder / "metrics.json").read_text())
        return ", ".join(f"{name} {value:.4f}" for name, value in sorted(metrics.items()) if name.startswith("val/acc"))

    def net(self) -> nn.Module:
        """The trained net, in evaluation mode.

        Raises:
            InputError: if its weights are missing, corrupt, or of another architecture.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_model

        net = build_net(self.config)
        try:
            load_model(net, self.weights)
        except (SafetensorError, RuntimeError, OSError) as error:
            raise InputError(
                f"{self.weights} cannot be read ({str(error).splitlines()[0]}); train the net again with force=true."
            ) from None
        return net.eval()

    def content(self) -> str:
        """A key of the net itself: its architecture and the bytes of its weights.

        Raises:
            InputError: if its weights are missing.
        """
        try:
            with self.weights.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256")
        except OSError:
            raise InputError(f"{self.weights} is missing; train the net again with force=true.") from None
        digest.update(json.dumps(OmegaConf.to_container(self.config.net.module, resolve=True), sort_keys=True).encode())
        return digest.hexdigest()

    def finish(self, net: nn.Module, metrics: dict[str, float]) -> None:
        """Write weights and metrics, each whole or not at all, and mark the run as done."""
        from safetensors.torch import save_model

        with atomic(self.weights) as file:
            save_model(net, str(file))
        write_json(self.folder / "metrics.json", metrics)
        (self.folder / "done").touch()


def build_net(config: DictConfig) -> nn.Module:
    """A new net as configured, with the weights that torch's random state gives it.

    Raises:
        InputError: if what `net.module` names is not an nn.Module.
    """
    from torch import nn

    net = instantiate(config.net.module, _convert_="all")
    if not isinstance(net, nn.Module):
        raise InputError(f"net.module needs to be an nn.Module, but {config.net.module._target_} is not.")
    return net


def find_runs(runs: str | list[str]) -> list[Run]:
    """The finished runs of a folder of run folders, or of a list of run folders, in the order of their names.

    Raises:
        InputError: if there are fewer than two, or they do not go together.
    """
    # this module imports torch only where nets are made: what is done already is to be said at once
    if isinstance(runs, str):
        folders = sorted((f for f in Path(runs).glob("*") if (f / "config.yaml").exists()), key=_natural)
        command = f"python src/train.py -m seed=0,1,2,3{_overrides(Path(runs).name)}"
    else:
        folders, command = [Path(folder) for folder in runs], "python src/train.py -m seed=0,1,2,3"
        for folder in folders:
            if not (folder / "done").exists():
                raise InputError(f"{folder} holds no finished run; train it to the end or leave it out of runs.")
    found = [run for run in map(Run, folders) if run.finished]
    if len(found) < 2:
        raise InputError(
            f"Aligning needs at least two finished nets, but {runs} has {len(found)}; make them with: {command}"
        )
    first = found[0]
    for run in found[1:]:
        for key in ("name", "classes", "channels", "size"):
            if run.config.data[key] != first.config.data[key]:
                raise InputError(
                    f"Nets to be aligned need the same images, but data.{key} is {first.config.data[key]} in "
                    f"{first.folder} and {run.config.data[key]} in {run.folder}; name runs of one data set."
                )
    return found


def names_of(runs: Sequence[Run]) -> list[str]:
    """What the nets are called: their folders' names, with the experiment's in front where those are not distinct.

    Raises:
        InputError: if a run is named twice.
    """
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        names = [f"{run.folder.parent.name}/{run.name}" for run in runs]
    if len(set(names)) < len(names):
        raise InputError(f"Each net needs a name of its own, but these folders are called alike: {', '.join(names)}.")
    return names


def _natural(folder: Path) -> tuple[Any, ...]:
    """Sorts seed=10 after seed=2."""
    return tuple(int(part) if part.isdigit() else part for part in re.split(r"(\d+)", folder.name))


def _overrides(name: str) -> str:
    data, _, net = name.partition("-")
    return "" if name == "digits-convnet" else f" data={data} net={net}" if net else f" experiment={name}"
