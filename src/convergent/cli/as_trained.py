"""What a command line may say of trained nets: where and how their images are read; all else is as it was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from convergent.cli.checking import resolved
from convergent.cli.command import given_options
from convergent.cli.nets import GivenNet
from convergent.cli.schema import DATA
from convergent.errors import InputError
from convergent.options import shown
from convergent.training.runs import Run

# Options of data that change nothing of what a net sees; the first two say where the images are by now.
_PLACES = ("folder", "store")
_READING = {"batch_size", "skip_corrupt", *(name.rstrip("?") for name, kind in DATA.items() if not kind.identifies)}
_TRAINING = ("data", "net", "optimizer")


def read_as_given(nets: Sequence[GivenNet], config: DictConfig) -> None:
    """Let the command line's options of reading images take effect on trained nets, in place, and refuse what has none.

    Raises:
        InputError: if an option says otherwise than the training.
    """
    keys = [key for key in given_options() if key.split(".")[0] in _TRAINING]
    runs = [net for net in nets if isinstance(net, Run)]
    if not runs and (vain := [key for key in keys if key.split(".")[0] != "data" and key not in ("net", "net.name")]):
        raise InputError(f"{vain[0]} has no effect here, for nets= says what is compared; leave it out.")
    reading = [key.partition(".")[2] for key in keys if key.startswith("data.") and key.partition(".")[2] in _READING]
    for run in runs:
        for key in (f"{key}.name" if key in ("data", "net") else key for key in keys):
            here, there = (resolved(OmegaConf.select(of, key)) for of in (config, run.config))
            if key.partition(".")[2] not in reading and here != there:
                raise InputError(
                    f"{key} is {shown(there)} in {run.folder} and {shown(here)} here, but nets are compared as they were "
                    "trained; leave it out, or train others."
                )
        for name in reading:
            _read(run.config.data, name, config.data[name])


def _read(data: DictConfig, name: str, value: Any) -> None:
    """Set an option of reading in a resolved configuration, where other values were made of it."""
    if name in _PLACES and data.get(name):
        data.update(_moved(OmegaConf.to_container(data), str(data[name]), str(value)))
    for source in data.get("sources", {}).values():
        if name in source:
            source[name] = value
    data[name] = value


def _moved(value: Any, old: str, new: str) -> Any:
    """A value in which paths within one folder are within another one."""
    if isinstance(value, dict):
        return {key: _moved(inner, old, new) for key, inner in value.items()}
    if isinstance(value, list):
        return [_moved(inner, old, new) for inner in value]
    inside = isinstance(value, str) and (value == old or value.startswith(f"{old.rstrip('/')}/"))
    return new.rstrip("/") + value[len(old.rstrip("/")) :] if inside else value
