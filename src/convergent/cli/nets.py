"""The nets that a command is given: run folders, epochs of runs, and any importable module."""

import contextlib
import difflib
import itertools
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from convergent.cli.built import Built
from convergent.cli.checking import resolved, targets
from convergent.cli.folders import differences
from convergent.cli.place import conf
from convergent.cli.schema import OPTIONS, identifying
from convergent.errors import InputError
from convergent.storage.layout import modern
from convergent.training.runs import Run

# What may differ between the trainings of one experiment, beside what changes no result.
_OF_ONE_NET = ("name", "seed", "order_seed", "augment_seed", "keep_epochs", "channels_last")

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
    nets: list[GivenNet]
    if isinstance(given, str):
        folders = sorted((f for f in Path(given).glob("*") if (f / "config.yaml").exists()), key=_natural)
        runs = [run for run in (Run(folder, trust=trust) for folder in folders) if run.finished]
        _check_alike(runs if len(runs) > 1 else [])
        nets = [*runs]
        where, overrides = f"{given}{_near(Path(given))}", _overrides(Path(given).name)
    else:
        nets = [_given(entry, number, trust) for number, entry in enumerate(given)]
        where, overrides = "nets", ""
    if at_epochs is not None:
        nets = [net for run in nets for net in _at_epochs(run, at_epochs)]
    if len(nets) < 2:
        raise InputError(
            f"Aligning needs at least two finished nets, but {where} has {len(nets)}; make them with: "
            f"python src/train.py -m seed=0,1,2,3{overrides}"
        )
    _check_images([run for run in nets if isinstance(run, Run)])
    return _distinct(nets)


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
        there = ", ".join(map(str, run.epochs())) if epoch and run.epochs() else ""
        raise InputError(
            f"{folder} has kept no epoch {epoch}, only {there}; train it with keep_epochs=[{epoch}] to keep it."
            if there
            else f"{folder} holds no finished run; train it to the end or leave it out of nets."
        )
    return run


def _at_epochs(run: GivenNet, epochs: str | Sequence[int]) -> list[GivenNet]:
    if isinstance(run, Built):
        raise InputError(f"at_epochs needs run folders, but {run.name} is a module.")
    there = run.epochs()
    wanted = there if epochs == "kept" else epochs
    missing = [wanted] if isinstance(wanted, str) else [epoch for epoch in wanted if epoch not in (0, *there)]
    if missing or not wanted:
        raise InputError(
            f"at_epochs needs to be kept or a list of epochs that {run.folder} has kept "
            f"({', '.join(map(str, there)) or 'none'}), not {epochs}; train with keep_epochs=[...] to keep others."
        )
    return [replace(run, epoch=int(epoch)) for epoch in wanted]


def _check_alike(runs: Sequence[Run]) -> None:
    settings = [_setting(OmegaConf.to_container(run.config)) for run in runs]
    texts = [json.dumps(setting, sort_keys=True, default=str) for setting in settings]
    usual = texts.index(Counter(texts).most_common(1)[0][0]) if texts else 0
    for run, setting in zip(runs, settings):
        if different := differences(settings[usual], setting, "{} is {here}, not {there}"):
            raise InputError(
                f"{run.folder} is of another training than {runs[usual].name} beside it ({different}); name the nets to be "
                "compared as nets=[...], or train it under another name=."
            )


def difference_beside(run: Run) -> str:
    """In what a net's training is another than that of a net beside it, in words; empty if in nothing."""
    settings = {}
    for file in [run.folder / "config.yaml", *sorted(run.folder.parent.glob("*/config.yaml"))]:
        with contextlib.suppress(Exception):  # whatever a damaged file makes of a parser: align says so
            settings[file.parent.name] = _setting(modern(OmegaConf.to_container(OmegaConf.load(file)), file))  # type: ignore[arg-type]
    here = settings.pop(run.name, {})
    different = {name: differences(there, here) for name, there in settings.items() if here}
    return next((f"{name} beside it is of another training ({text})" for name, text in different.items() if text), "")


def _setting(config: Any) -> dict[str, Any]:
    """What is the same for all nets of one training."""
    return identifying({name: value for name, value in config.items() if name not in _OF_ONE_NET}, OPTIONS["train"])


def trusted(config: DictConfig) -> tuple[str, ...]:
    """The classes that run folders may name beside the known ones: what the command and its own conf/ name themselves."""
    named = [node["_target_"] for _, node in targets({name: resolved(config[name]) for name in ("net", "data")})]
    for source in HydraConfig.get().runtime.config_sources if HydraConfig.initialized() else ():
        for group in ("net", "data", "experiment") if source.schema == "file" else ():
            for file in (Path(source.path) / group).rglob("*.yaml"):
                named += re.findall(r"""_target_:\s*["']?([\w.]+)""", file.read_text())
    return (*config.trust, *named)


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
    counts = Counter(net.name for net in nets if isinstance(net, Built))
    numbers = {name: itertools.count() for name, count in counts.items() if count > 1}
    return [
        replace(net, name=f"{net.name}-{next(numbers[net.name])}")
        if isinstance(net, Built) and net.name in numbers
        else net
        for net in nets
    ]


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
