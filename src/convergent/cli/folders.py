"""Result folders: made once, read again, never half written, and nothing removed that is not ours.

Light to import, so that what is done is said at once.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from convergent.cli.schema import identifying
from convergent.errors import InputError
from convergent.options import COMPONENT, LONGEST_NAME, check
from convergent.storage.files import atomic
from convergent.storage.layout import LATER, LAYOUT, modern, outdated

# What makes a folder worth keeping: the mark of a finished result, and what an unfinished training resumes from.
_RESULTS = ("done", "last.ckpt")

# All that a result folder has from us, the mark of a finished result first and what tells that it is ours last: removing it
# may be interrupted anywhere. Whatever else lies there stays.
_OURS = (
    "done", "summary.json", "metrics.json", "*.csv", "*.ckpt", "weights.safetensors", "merged.safetensors",
    "tokenizer.json", "command.txt", "wandb-id", "epochs/*.safetensors", "alignments/*.safetensors", "figures/*.png",
    "figures/*.pdf", "csv/version_*/metrics.csv", "csv/version_*/hparams.yaml", "*/.*.[0-9]*", ".*.[0-9]*", "config.yaml",
)  # fmt: skip
_KINDS = {
    "train": {"data", "net", "seed"},
    "align": {"method", "nets", "images"},
    "merge": {"method", "nets", "beside"},
}  # what our configurations say


def component(name: object, what: str) -> str:
    """A name, or a whole number that the command line makes of one like 2026, that becomes one folder.

    Raises:
        InputError: if it has separators or control characters, is empty, "." or "..", or takes more than 100 bytes.
    """
    check(what, name, COMPONENT)
    return str(name)


def shortened(name: str) -> str:
    """A name that is made of many parts, cut to what `component` allows, with a key of what was cut."""
    name = name.replace("/", "_").replace("\\", "_")
    if len(name.encode()) <= LONGEST_NAME:
        return name
    key = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name.encode()[: LONGEST_NAME - 9].decode(errors='ignore')}~{key}"


def check_ours(folder: Path, other: str) -> None:
    """Find out whether a result may be written to a folder; `other` is the option that names another one.

    Raises:
        InputError: if it holds other things, or nobody can tell, for its config.yaml is missing or damaged.
    """
    if folder.is_dir() and not _is_ours(folder) and (there := sorted(path.name for path in folder.iterdir())):
        raise InputError(
            f"{folder} holds {', '.join(there[:3])} but no config.yaml that this program wrote and can read, so nothing in "
            f"it is touched; choose another {other} or remove that folder yourself."
        )


def remove_result(folder: Path) -> None:
    """Remove a result, outputs/KIND/NAME/LABEL: nothing but our own files, of a folder with a configuration of ours.

    This is the only place where results are removed. Folders that are left empty go, too, up to the experiment's.

    Raises:
        InputError: if the folder holds no result, or is reached through a link.
    """
    if not _is_ours(folder):
        raise InputError(f"{folder} holds no result of this program, so nothing in it is removed.")
    if folder.is_symlink() or folder.parent.is_symlink():
        raise InputError(f"{folder} is reached through a link, so nothing in it is removed; do so yourself.")
    for pattern in _OURS:
        for file in sorted(folder.glob(pattern)):
            if _lies_in(folder, file) and (file.is_symlink() or not file.is_dir()):
                file.unlink(missing_ok=True)
    emptied = [path for pattern in _OURS if "/" in pattern for path in folder.glob(str(Path(pattern).parent))]
    deepest_first = sorted({*emptied, *(path.parent for path in emptied)}, key=lambda path: -len(path.parts))
    for path in [*(path for path in deepest_first if _lies_in(folder, path)), folder, folder.parent]:
        with contextlib.suppress(OSError):  # something else is there
            path.rmdir()


def abandon(folder: Path) -> None:
    """Remove what a job that failed has made, unless it is finished or there is something to resume from."""
    if folder.exists() and not _is_kept(folder):
        with contextlib.suppress(InputError):  # the job's own error is what is to be read
            remove_result(folder)


def _is_kept(folder: Path) -> bool:
    return any((folder / name).exists() for name in _RESULTS)


def _is_ours(folder: Path) -> bool:
    """Whether a folder lies where results do, and its configuration is one of those."""
    kind = _KINDS.get(folder.parent.parent.name)
    if kind is None or folder.parents[2].name != "outputs":
        return False
    try:
        return kind <= set(OmegaConf.load(folder / "config.yaml"))
    except Exception:  # whatever a damaged file makes of a parser
        return False


def _lies_in(folder: Path, path: Path) -> bool:
    """Whether a path inside a folder is not one that a link leads away to."""
    return path != folder and path.parent.resolve() == folder.resolve() / path.parent.relative_to(folder)


def claim(
    folder: Path, config: DictConfig, *, force: bool, other: str = "name=", options: Mapping[str, Any] | None = None
) -> None:
    """Make a result folder ours: new, or of the very configuration that is asked for.

    Args:
        folder: of the result.
        config: resolved, to be written there as config.yaml.
        force: remove the result that is there.
        other: the option that names another folder.
        options: declared for it, of which some change no result; None for a record of nothing but what does, beside tables
            that are to be of today.

    Raises:
        InputError: if the folder holds the result of another configuration, or something that is no result of ours.
    """
    ours: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    check_ours(folder, other)
    if force and _is_ours(folder):
        remove_result(folder)
    record = folder / "config.yaml"
    if not _is_kept(folder):
        with atomic(record) as file:
            OmegaConf.save(OmegaConf.create({"layout": LAYOUT, **ours}), file)
        return
    there: Any = OmegaConf.to_container(OmegaConf.load(record))
    if options is None and (sentence := outdated(there, folder)):
        raise InputError(sentence)
    before, now = identifying(modern(there, record), options or {}), identifying(ours, options or {})
    before = {name: value for name, value in LATER.items() if name in now} | before
    if different := differences(before, now):
        raise InputError(
            f"{folder} holds the result of another configuration ({different}); replace it with force=true or keep both "
            f"with another {other}."
        )


def differences(
    there: Mapping[str, Any], here: Mapping[str, Any], words: str = "{} is {there} there and {here} here"
) -> str:
    """The first three options that differ, in these words; empty where none does."""
    names = [name for name in {**there, **here} if there.get(name) != here.get(name)]
    return ", ".join(words.format(name, there=there.get(name), here=here.get(name)) for name in names[:3])
