"""The layout of what results keep on disk: of which version a config.yaml is, and what it names by an earlier name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convergent.errors import InputError

# Raise it when columns or options change their names; a config.yaml without a number is of layout 1.
LAYOUT = 2

# Where a `_target_` of an earlier version is now.
MOVED = {
    "convergent.optimizers.": "convergent.training.optimizers.",
    "convergent.methods.spectral.Spectral": "convergent.methods.spectral.SpectralClustering",
    "convergent.methods.hierarchical_spectral.HierarchicalSpectral": (
        "convergent.methods.hierarchical_spectral.HierarchicalSpectralClustering"
    ),
}


# Options that came later, and what a result made before them is of.
LATER = {"tokens": "same"}


def modern(content: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """A result's config.yaml as it would be written today, without the number of its layout.

    Raises:
        InputError: if a later version wrote it; the message names its file.
    """
    if (layout := content.get("layout", 1)) != LAYOUT and layout != 1:
        raise InputError(
            f"{file} is of layout {layout}, but this version reads {LAYOUT}; use the version that wrote it."
        )
    return {str(name): _moved(value) for name, value in content.items() if name != "layout"}


def outdated(content: Mapping[str, Any], folder: Path) -> str:
    """A sentence for a result whose tables have not the columns of today, given its config.yaml; empty for others."""
    if content.get("layout", 1) == LAYOUT:
        return ""
    return (
        f"{folder} holds a result of another version, whose tables have other columns; make it again with force=true "
        "(what was measured is read), or delete that folder."
    )


def _moved(value: Any) -> Any:
    """A value with its targets by the names of today."""
    if isinstance(value, Mapping):
        return {name: _moved(_target(inner) if name == "_target_" else inner) for name, inner in value.items()}
    return [_moved(inner) for inner in value] if isinstance(value, list) else value


def _target(name: Any) -> Any:
    for old, new in MOVED.items() if isinstance(name, str) else ():
        if name == old or (old.endswith(".") and name.startswith(old)):
            return new + name.removeprefix(old)
    return name
