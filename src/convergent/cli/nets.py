"""The nets that a command is given: run folders, epochs of runs, and any importable module."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from convergent.cli.folders import IRRELEVANT, flat
from convergent.cli.place import conf
from convergent.errors import InputError
from convergent.training.runs import Run, build, load_weights

if TYPE_CHECKING:
    from torch import nn

# What may be said of a net that is built from its `module`.
_KEYS = ("module", "name", "weights", "seed", "layers", "channels", "prepare", "mean", "std")

# What may differ between the trainings of one experiment, beside what changes no result.
_OF_ONE_NET = ("name", "seed", "order_seed", "augment_seed", "keep_epochs", "channels_last")

# How a net wants its images; what is not said is as the measured images are prepared.
VIEW = ("channels", "prepare", "mean", "std")


@dataclass(frozen=True)
class Built:
    """A net that is not trained here.

    Attributes:
        name: what it is called.
        module: what it is built from, with a `_target_`.
        weights: file of its weights (.safetensors, or .pt and .pth with nothing but tensors in it); None for random ones.
        seed: of random weights.
        layers: that are compared unless told otherwise.
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

        Args:
            given: the entry.
            number: of the entry in its list, the seed of random weights unless said otherwise.

        Raises:
            InputError: if something else is said of it.
        """
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


# What can be compared.
GivenNet = Run | Built


def find_nets(
    given: str | Sequence[Any], at_epochs: str | Sequence[int] | None = None, trust: tuple[str, ...] = ()
) -> list[GivenNet]:
    """The nets of a folder of run folders (in the order of their names), or of a list of run folders and modules.

    Args:
        given: a folder; or a list of run folders (FOLDER, FOLDER@epoch=3) and dictionaries, see `Built.of`.
        at_epochs: instead of the trained nets take those of these epochs, or of all that were "kept".
        trust: classes that run folders may name beside the known ones, see `check_trusted`.

    Raises:
        InputError: if there are fewer than two, or they do not go together.
    """
    found: list[GivenNet]
    if isinstance(given, str):
        folders = sorted((f for f in Path(given).glob("*") if (f / "config.yaml").exists()), key=_natural)
        runs = [run for run in (Run(folder, trust=trust) for folder in folders) if run.finished]
        _check_alike(runs if len(runs) > 1 else [])
        found = [*runs]
        where, overrides = f"{given}{_near(Path(given))}", _overrides(Path(given).name)
    else:
        found = [_given(entry, number, trust) for number, entry in enumerate(given)]
        where, overrides = "nets", ""
    if at_epochs is not None:
        found = [net for run in found for net in _at_epochs(run, at_epochs)]
    if len(found) < 2:
        raise InputError(
            f"Aligning needs at least two finished nets, but {where} has {len(found)}; make them with: "
            f"python src/train.py -m seed=0,1,2,3{overrides}"
        )
    _check_images([run for run in found if isinstance(run, Run)])
    return _distinct(found)


def names_of(nets: Sequence[GivenNet]) -> list[str]:
    """What the nets are called: their folders' names, with the experiment's in front where those are not distinct.

    Raises:
        InputError: if a run is named twice.
    """
    names = [net.name for net in nets]
    if len(set(names)) < len(names):
        names = [net.name if isinstance(net, Built) else f"{net.group}/{net.name}" for net in nets]
    if len(set(names)) < len(names):
        raise InputError(f"Each net needs a name of its own, but these folders are called alike: {', '.join(names)}.")
    return names


def _given(entry: Any, number: int, trust: tuple[str, ...]) -> GivenNet:
    if isinstance(entry, Mapping):
        return Built.of(entry, number)
    folder, _, epoch = str(entry).partition("@epoch=")
    if epoch and not epoch.isdigit():
        raise InputError(f"{entry} names no epoch; write FOLDER@epoch=3.")
    run = Run(Path(folder), int(epoch) if epoch else None, trust)
    if not run.finished:
        kept = ", ".join(map(str, run.epochs())) if epoch and run.epochs() else ""
        raise InputError(
            f"{folder} has kept no epoch {epoch}, only {kept}; train it with keep_epochs=[{epoch}] to keep it."
            if kept
            else f"{folder} holds no finished run; train it to the end or leave it out of nets."
        )
    return run


def _at_epochs(run: GivenNet, epochs: str | Sequence[int]) -> list[GivenNet]:
    if isinstance(run, Built):
        raise InputError(f"at_epochs needs run folders, but {run.name} is a module.")
    kept = run.epochs()
    wanted = kept if epochs == "kept" else epochs
    missing = [wanted] if isinstance(wanted, str) else [epoch for epoch in wanted if epoch not in (0, *kept)]
    if missing or not wanted:
        raise InputError(
            f"at_epochs needs to be kept or a list of epochs that {run.folder} has kept "
            f"({', '.join(map(str, kept)) or 'none'}), not {epochs}; train with keep_epochs=[...] to keep others."
        )
    return [replace(run, epoch=int(epoch)) for epoch in wanted]


def _check_alike(runs: Sequence[Run]) -> None:
    """Find out whether the runs of one folder differ in their seeds alone.

    Raises:
        InputError: naming one that differs from most, and in what.
    """
    settings = [flat(OmegaConf.to_container(run.config), (*IRRELEVANT, *_OF_ONE_NET)) for run in runs]
    texts = [json.dumps(setting, sort_keys=True, default=str) for setting in settings]
    usual = texts.index(Counter(texts).most_common(1)[0][0]) if texts else 0
    for run, setting in zip(runs, settings):
        if differing := [key for key in {**settings[usual], **setting} if settings[usual].get(key) != setting.get(key)]:
            shown = ", ".join(f"{key} is {setting.get(key)}, not {settings[usual].get(key)}" for key in differing[:3])
            raise InputError(
                f"{run.folder} is of another training than {runs[usual].name} beside it ({shown}); name the nets to be "
                "compared as nets=[...], or train it under another name=."
            )


def _check_images(runs: Sequence[Run]) -> None:
    for run in runs[1:]:
        first = runs[0]
        if run.config.data.name != first.config.data.name:
            raise InputError(
                f"Nets to be aligned need the same images, but data.name is {first.config.data.name} in "
                f"{first.folder} and {run.config.data.name} in {run.folder}; name runs of one data set."
            )


def _distinct(nets: list[GivenNet]) -> list[GivenNet]:
    """Modules of one name get numbers."""
    counts, seen = Counter(net.name for net in nets if isinstance(net, Built)), Counter[str]()
    distinct: list[GivenNet] = []
    for net in nets:
        if isinstance(net, Built) and counts[net.name] > 1:
            seen[net.name] += 1
            distinct.append(replace(net, name=f"{net.name}-{seen[net.name] - 1}"))
        else:
            distinct.append(net)
    return distinct


def _natural(folder: Path) -> tuple[Any, ...]:
    """Sorts seed=10 after seed=2."""
    return tuple(int(part) if part.isdigit() else part for part in re.split(r"(\d+)", folder.name))


def _overrides(name: str) -> str:
    """What makes the command line of training write to the folder of a name."""
    data, _, net = name.partition("-")
    if name == "digits-convnet":
        return ""
    if (conf() / "experiment" / f"{name}.yaml").is_file():
        return f" experiment={name}"
    if (conf() / "data" / f"{data}.yaml").is_file() and (conf() / "net" / f"{net}.yaml").is_file():
        return f" data={data} net={net}"
    return f" name={name}"


def _near(folder: Path) -> str:
    """The experiments beside a folder that is not there, those of a similar name if there are any."""
    names = [] if folder.exists() else sorted({path.parents[1].name for path in folder.parent.glob("*/*/done")})
    near = difflib.get_close_matches(folder.name, names, n=3) or names[:5]
    return f" (there is no such folder, but {', '.join(near)} beside it)" if near else ""
