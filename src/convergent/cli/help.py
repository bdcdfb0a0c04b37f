"""What a command says of itself: at once, for Hydra takes longer to list the choices than people like to wait."""

from __future__ import annotations

import sys
from pathlib import Path

CONF = Path(__file__).parents[3] / "conf"

# What every command's --help stands in for; the rest of Hydra's help is there with --hydra-help.
_ASKED = {"--help", "-h"}


def answered(command: str) -> bool:
    """Print a command's help if it is asked for on the command line; whether it was."""
    if not _ASKED & set(sys.argv[1:]):
        return False
    print(help_of(command), end="")
    return True


def help_of(command: str) -> str:
    """The help text of conf/hydra/help/COMMAND.yaml, with the choices there are."""
    import yaml

    told = yaml.safe_load((CONF / "hydra" / "help" / f"{command}.yaml").read_text())
    text: str = told["template"].replace("${hydra.help.header}", told["header"])
    return text.replace("$APP_CONFIG_GROUPS", _choices(text))


def _choices(text: str) -> str:
    """A line for each folder of choices, with the names of its files, as far as the command has them."""
    groups = sorted(folder for folder in CONF.iterdir() if folder.is_dir() and folder.name != "hydra")
    shown = [folder for folder in groups if folder.name != "method" or "method=" in text]
    return "\n".join(f"  {folder.name:<16}{', '.join(_names(folder))}" for folder in shown)


def _names(folder: Path) -> list[str]:
    return sorted(file.stem for file in folder.glob("*.yaml"))
