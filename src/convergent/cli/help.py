"""What the commands say of themselves: at once, for Hydra takes longer to list the choices than people like to wait."""

from __future__ import annotations

from pathlib import Path

from convergent.cli.place import as_typed, conf

OVERVIEW = """\
Do different neural networks learn the same representations?

  convergent train -m seed=0,1,2,3    trains nets: four on scikit-learn's digits, or on the images of your choice
  convergent align method=matching    aligns them, every layer and pair of nets, by one method or several
  convergent report                   all finished methods in one table and one page to look at
  convergent prepare ...              decodes a data set once, from which nets are then fed faster

Each says more with --help, as convergent train --help. Results are in outputs/ of the current folder (of the project's
folder in a checkout), or where root=FOLDER says. In Python: import convergent as cv; cv.compare(...).
"""


def help_of(command: str) -> str:
    """The help text of conf/hydra/help/COMMAND.yaml, with the choices there are."""
    import yaml

    page = yaml.safe_load((conf() / "hydra" / "help" / f"{command}.yaml").read_text())
    text: str = page["template"].replace("${hydra.help.header}", page["header"])
    return as_typed(text.replace("$APP_CONFIG_GROUPS", _choices(with_methods="method=" in text)))


def _choices(*, with_methods: bool) -> str:
    """A line for each folder of choices, with the names of its files."""
    groups = sorted(folder for folder in conf().iterdir() if folder.is_dir() and folder.name != "hydra")
    shown = [folder for folder in groups if folder.name != "method" or with_methods]
    return "\n".join(f"  {folder.name:<16}{', '.join(_names(folder))}" for folder in shown)


def _names(folder: Path) -> list[str]:
    return sorted(file.stem for file in folder.glob("*.yaml"))
