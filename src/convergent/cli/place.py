"""Where this package lies, in a checkout or installed, and what its commands are called there. Light to import."""

from __future__ import annotations

import re
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def checkout() -> Path | None:
    """The project's folder where the package is used in place; None where it is installed."""
    folder = _PACKAGE.parents[1]
    return folder if (folder / "conf" / "train.yaml").is_file() else None


def conf() -> Path:
    """The folder of the configuration, which a wheel holds inside the package."""
    return (checkout() or _PACKAGE) / "conf"


def register_root() -> None:
    """Let the configuration say ${project_root:}: the checkout, whatever folder one stands in, or the current folder.

    And ${installed:NAME}: the version of a distribution; empty where there is none.
    """
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver("installed", _installed, replace=True)
    OmegaConf.register_new_resolver("project_root", lambda: str(checkout() or Path.cwd()), replace=True)


def _installed(name: str) -> str:
    from convergent.data.documents import installed

    return installed(name)


def as_typed(text: str) -> str:
    """A text with commands of the checkout in it, as the user of this installation types them."""
    return text if checkout() else re.sub(r"python src/(\w+)\.py", r"convergent \1", text)
