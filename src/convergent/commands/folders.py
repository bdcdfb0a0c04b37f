"""Result folders: made once, found again, never half written. Light to import, so that what is done is said at once."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from convergent.errors import InputError
from convergent.files import atomic

# What makes a folder worth keeping: the mark of a finished result, and what an unfinished training resumes from.
RESULTS = ("done", "last.ckpt")

# What may differ between two jobs of one configuration without changing its result.
_IRRELEVANT = (
    "force", "root", "logger", "snapshot_minutes", "data.folder", "data.store", "data.download", "data.workers",
    "trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy",
)  # fmt: skip


def claim(folder: Path, config: DictConfig, *, force: bool, other: str = "name=") -> None:
    """Make a result folder ours: new, or of the very configuration that is asked for.

    Args:
        folder: of the result.
        config: resolved, to be kept there as config.yaml.
        force: delete what is there.
        other: the option that names another folder, for the message.

    Raises:
        InputError: if the folder holds the result of another configuration.
    """
    ours = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    if force and folder.exists():
        shutil.rmtree(folder)
    kept = folder / "config.yaml"
    if not any((folder / name).exists() for name in RESULTS):
        with atomic(kept) as file:
            OmegaConf.save(OmegaConf.create(ours), file)
        return
    before, now = flat(OmegaConf.to_container(OmegaConf.load(kept)), _IRRELEVANT), flat(ours, _IRRELEVANT)
    if differing := [key for key in {**before, **now} if before.get(key) != now.get(key)]:
        shown = ", ".join(f"{key} is {before.get(key)} there and {now.get(key)} here" for key in differing[:3])
        raise InputError(
            f"{folder} holds the result of another configuration ({shown}); replace it with force=true or keep both "
            f"with another {other}."
        )


def flat(value: Any, without: Sequence[str] = (), key: str = "") -> dict[str, Any]:
    """The leaves of nested dictionaries by their dotted keys, leaving out the branches `without`."""
    if key in without:
        return {}
    if not isinstance(value, dict):
        return {key: value}
    leaves = {}
    for name, inner in value.items():
        leaves.update(flat(inner, without, f"{key}.{name}" if key else str(name)))
    return leaves
