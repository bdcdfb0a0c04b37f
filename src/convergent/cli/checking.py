"""Checks every option of a command before anything starts, against what convergent.cli.schema declares."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Collection, Iterator, Mapping, Set
from pkgutil import resolve_name
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, MissingMandatoryValue

from convergent.cli.command import given_options
from convergent.cli.foreign import TARGET, foreign
from convergent.cli.schema import IMAGES, OPTIONS, TEXTS, Options, renaming
from convergent.errors import InputError
from convergent.options import FINITE, FLAG, TEXT, Kind, check, kinds_of, listed, shown, word

_MISSING = "???"
_OTHERS = {"train": ("align", "merge"), "align": ("train", "merge"), "merge": ("train", "align")}
_OF_HYDRA = {
    "_target_": TEXT,
    "_partial_": FLAG,
    "_recursive_": FLAG,
    "_convert_": word("none", "partial", "object", "all"),
    "_args_": listed(FINITE, 0),
}


def check_options(command: str, config: DictConfig) -> None:
    """Check the values of an unresolved configuration, without importing what its objects are made of (`check_objects`).

    Raises:
        InputError: if a value is none that its option can have, an option is unknown, or options do not go together.
    """
    check_values(command, resolved(config), set(re.findall(r"\$\{([\w.]+)", OmegaConf.to_yaml(config))))


def check_values(command: str, values: Mapping[str, Any], referred: Set[str] = frozenset()) -> None:
    """Check resolved values, in which what has none is ???; a key that is `referred` to by another may be unknown here.

    Raises:
        InputError: as `check_options`.
    """
    options = OPTIONS[command]
    if others := _OTHERS.get(command):  # an experiment's file holds the options of all, a command line its own
        if sentence := next(filter(None, (_of_other(command, name) for name in given_options())), ""):
            raise InputError(sentence)
        of_others = {name: kind for other in others for name, kind in OPTIONS[other].items()}
        options = {f"{name}?": kind for name, kind in of_others.items() if name not in options} | dict(options)
    _check_group("", values, options, referred)
    if missing := [path for path, value in _leaves("", values) if value == _MISSING]:
        needed = missing if command == "train" else [path for path in missing if path in options]
        if needed:
            raise InputError(f"{needed[0]} has no value; set it on the command line, as {needed[0]}=...")
    for path, node in targets(values):
        if sentence := renaming(command, [f"{path}.{name}" for name in node]):
            raise InputError(sentence)
        _check_arguments(path, node, foreign(node["_target_"]))
    _check_together(command, values)


def unknown(command: str, full: str, siblings: Mapping[str, Any]) -> str:
    """A sentence on an option that a configuration has not, where it has `siblings`: how to add it, or what is near."""
    group, _, name = full.rpartition(".")
    declared: Any = OPTIONS[command]
    for part in group.split(".") if group else ():
        declared = declared.get(part, {}) if isinstance(declared, Mapping) else {}
    declared = declared if isinstance(declared, Mapping) else {}
    takes: Collection[str] = [key.rstrip("?") for key in declared if key.endswith("?")]
    if TARGET.fits(siblings):
        try:
            takes = inspect.signature(resolve_name(siblings["_target_"])).parameters
        except Exception:  # whatever a module of the user's own does when it is imported
            takes = ()
    if name in takes:
        return f"{full} is not in conf/; +{full}=... adds it."
    known = {*_names(OPTIONS[command]), *(f"{group}.{key}".strip(".") for key in (*siblings, *takes))}
    return renaming(command, [full]) or _of_other(command, full) or f"There is no option {full}{_near(full, known)}"


def _of_other(command: str, full: str) -> str:
    """A sentence on an option that another of the commands on an experiment has; nothing if it is none."""
    name = full.split(".")[0]
    there = [other for other in _OTHERS.get(command, ()) if name in OPTIONS[other] and name not in OPTIONS[command]]
    return f"{command} has no option {name}; it is one of src/{there[0]}.py." if there else ""


def check_objects(values: Mapping[str, Any]) -> None:
    """Check the arguments of every object of resolved values by its signature; imports what they are made of.

    Raises:
        InputError: if there is no such object, it takes no such argument, or not such a value.
    """
    for path, node in targets(values):
        name = node["_target_"]
        if name == _MISSING:
            continue
        try:
            target = resolve_name(name)
        except Exception as error:  # whatever a module of the user's own does when it is imported
            raise InputError(f"{path} cannot be {name} ({' '.join(str(error).split())}).") from None
        try:
            takes = inspect.signature(target).parameters
        except (ValueError, TypeError):  # of something built in, or no function at all
            continue
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in takes.values()):
            for unknown in (argument for argument in node if argument not in (*takes, *_OF_HYDRA)):
                raise InputError(f"{path} is a {name}, which takes no {unknown}{_near(unknown, takes)}")
        declared = {**kinds_of(target), **foreign(name)}
        as_given = {key: value for key, value in node.items() if key not in takes or value is not takes[key].default}
        _check_arguments(path, as_given, declared)
        for key, of in takes.items() if path.startswith("data.sources.") else ():  # which are called as they are
            if of.default is of.empty and of.kind is of.POSITIONAL_OR_KEYWORD and key not in node:
                raise InputError(f"{path} is a {name}, which needs {key}; set it as {path}.{key}=...")


def check_launcher(config: DictConfig) -> None:
    """Check what a sweep is run by.

    Raises:
        InputError: if an option cannot be what it is.
    """
    launcher = resolved(config.hydra.launcher)
    _check_arguments("hydra.launcher", launcher, foreign(launcher["_target_"]))


def _check_group(path: str, values: Any, options: Options, referred: Set[str]) -> None:
    # nothing that is not declared, unless another value refers to it
    if not isinstance(values, Mapping):
        raise InputError(f"{path} needs to be a group of options, as in conf/, not {shown(values)}.")
    for name, value in values.items():
        full = f"{path}.{name}" if path else str(name)
        wanted = options.get(name, options.get(f"{name}?"))
        if wanted is None and full not in referred:
            unknown = f"There is no option {full}{_near(full, _names(options, path))}"
            raise InputError(renaming("align", [full]) or unknown)
        if isinstance(wanted, Mapping):
            _check_group(full, value, wanted, referred)
        elif value != _MISSING:
            _check_kind(full, value, wanted)
    for name in options:
        if not name.endswith("?") and name not in values:
            full = f"{path}.{name}" if path else name
            raise InputError(f"{full} is missing; leave ~{full} out.")


def _check_kind(path: str, value: Any, kind: Kind | None) -> None:
    """Check a value; what is not declared may be anything but a number that is not finite."""
    for full, leaf in [(path, value)] if kind else _leaves(path, value):
        check(full, leaf, kind or FINITE)


def _check_arguments(path: str, node: Mapping[str, Any], kinds: Mapping[str, Kind]) -> None:
    for name, value in node.items():
        if value != _MISSING and not TARGET.fits(value):
            _check_kind(f"{path}.{name}", value, _OF_HYDRA.get(name) or kinds.get(name))


def _check_together(command: str, values: Mapping[str, Any]) -> None:
    data = values.get("data", {})
    of_kind, of_other = (TEXTS, IMAGES) if "context" in data else (IMAGES, TEXTS)
    for name in of_kind if data else ():
        if not name.endswith("?") and name not in data:
            raise InputError(f"data.{name} is missing; leave ~data.{name} out.")
    if strange := [name for name in data if name in {of.rstrip("?") for of in of_other}]:
        raise InputError(f"data={data['name']} has no option data.{strange[0]}; leave it out.")
    for name in ("mean", "std"):
        if name in data and data["channels"] != _MISSING and len(data[name]) not in (1, data["channels"]):
            raise InputError(
                f"data.{name} needs one value, or one for each of {data['channels']} channels, not {data[name]}."
            )
    if command != "train":
        return
    if late := [epoch for epoch in values["keep_epochs"] if epoch > values["epochs"]]:
        raise InputError(
            f"keep_epochs names epoch {late[0]}, but there are {values['epochs']}; raise epochs or leave it out."
        )
    several = len(values["seeds"] or ()) > 1
    if several and values["order_seed"] is None:
        raise InputError("seeds=[...] reads one stream of images for all nets; set order_seed to a number.")
    if several and values["precision"] == "16-mixed":
        raise InputError(
            "16-mixed scales all nets' losses alike; use bf16-mixed or train them one by one, -m seed=0,1."
        )


def resolved(config: Any) -> Any:
    """The resolved values, in which what has none is ???."""
    if isinstance(config, DictConfig):
        return {str(name): resolved(_child(config, name)) for name in config}
    if isinstance(config, ListConfig):
        return [resolved(_child(config, place)) for place in range(len(config))]
    return config


def _child(config: Any, name: Any) -> Any:
    try:
        return config[name]
    except (MissingMandatoryValue, InterpolationToMissingValueError):
        return _MISSING


def targets(values: Any) -> list[tuple[str, dict[str, Any]]]:
    """Every dictionary with a `_target_`, by path."""
    return [(path, node) for path, node in _nodes("", values) if TARGET.fits(node)]


def _leaves(path: str, value: Any) -> list[tuple[str, Any]]:
    """Whatever is no dictionary and no list, by path."""
    return [(full, node) for full, node in _nodes(path, value) if not isinstance(node, Mapping | list)]


def _nodes(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """A value and everything inside of it, by path."""
    yield path, value
    inside = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in inside:
        yield from _nodes(f"{path}.{name}" if path else str(name), inner)


def _names(options: Options, path: str = "") -> list[str]:
    """The full names of all options of a group."""
    full = {f"{path}.{name}".strip(".?"): kind for name, kind in options.items()}
    inner = [name for outer, kind in full.items() if isinstance(kind, Mapping) for name in _names(kind, outer)]
    return [*full, *inner]


def _near(name: str, known: Collection[str]) -> str:
    """The end of a sentence: the known names that are called almost like this one, those of its own group first."""
    group, _, last = name.rpartition(".")
    near = difflib.get_close_matches(last, sorted({full.rpartition(".")[2] for full in known}), n=2)
    full_names = sorted(full for full in known if full.rpartition(".")[2] in near)
    full_names = [full for full in full_names if full.rpartition(".")[0] == group] or full_names
    return f"; did you mean {' or '.join(full_names[:2])}?" if full_names else "."
