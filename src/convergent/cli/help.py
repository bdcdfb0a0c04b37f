"""What the commands say of themselves: at once, for Hydra takes longer to list the choices than people like to wait.

Options are listed with the comments that their YAML files have on them, and a method's also with its class's docstring.
"""

import ast
import re
import textwrap
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from convergent.cli.place import as_typed, conf
from convergent.cli.schema import ALIGNMENT

OVERVIEW = """\
Do different neural networks learn the same representations?

  convergent train -m seed=0,1,2,3    trains nets: four on scikit-learn's digits, or on the images of your choice
  convergent align method=matching    aligns them, every layer and pair of nets, by one method or several
  convergent merge                    averages their weights, units aligned over the whole net
  convergent report                   all finished methods in one table and one page to look at
  convergent prepare ...              decodes a data set once, from which nets are then fed faster

Each says more with --help, as convergent train --help. Results are in outputs/ of the current folder (of the project's
folder in a checkout), or where root=FOLDER says. In Python: import convergent as cv; cv.compare(...).
"""

_OPTION = re.compile(r"(?P<indent> *)(?P<name>\w+): *(?P<value>.*?)(?: +# *(?P<comment>.*))?")
_COLUMN, _WIDTH = 34, 125


def help_of(command: str, arguments: Sequence[str] = ()) -> str:
    """The help text of conf/hydra/help/COMMAND.yaml, with the choices and the options there are."""
    import yaml

    folders = _folders(arguments)
    page = yaml.safe_load((conf() / "hydra" / "help" / f"{command}.yaml").read_text())
    text: str = page["template"].replace("${hydra.help.header}", page["header"])
    files = [
        conf() / f"{command}.yaml",
        *([conf() / "defaults.yaml"] if command in ("train", "align", "merge") else []),
    ]
    options = [line for file in files for line in _options(file)]
    chosen = {"method": "matching"} if command in ("align", "merge") else {}
    chosen |= dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    for group, word in chosen.items():
        for file in (folder / group / f"{word}.yaml" for folder in folders):
            if file.is_file():
                options += ["", f"  Options of {group}={word}:", *_options(file, f"{group}.")]
    text = text.replace("$OPTIONS", "\n".join(options))
    return as_typed(text.replace("$CHOICES", _choices(folders, command)))


def choices_of(group: str, arguments: Sequence[str]) -> list[str]:
    """The words that a group of choices has."""
    return sorted(file.stem for folder in _folders(arguments) for file in folder.glob(f"{group}/*.yaml"))


def _folders(arguments: Sequence[str]) -> list[Path]:
    """The folders of configuration: ours, and those that a command line names."""
    return [conf(), *map(Path, re.findall(r"(?:--config-dir|-cd)[= ](\S+)", " ".join(arguments)))]


def _options(file: Path, group: str = "") -> Iterator[str]:
    """A line, or several, for each option of a file of conf/, with what its comment or its class's docstring says."""
    path: list[str] = []
    text = file.read_text()
    target = re.search(r"^_target_: (\S+)", text, re.MULTILINE)
    described = _attributes(target[1]) if target else {}
    for option in map(_OPTION.fullmatch, text.splitlines()):
        if not option or (option["name"] in ("defaults", "hydra", "_target_") and not option["indent"]):
            path = path if option is None else ["hydra"]
            continue
        path = [*path[: len(option["indent"]) // 2], option["name"]]
        if path[0] == "hydra" or "_target_" in (option["name"], *option["value"].split(":")):
            continue
        says = option["comment"] or described.get(option["name"], "")
        if option["value"] or says:
            head = f"    {group}{'.'.join(path)}={option['value'] or '...'}"
            line = head + (" " * max(2, _COLUMN - len(head)) if says else "") + says
            yield textwrap.fill(line, _WIDTH, subsequent_indent=" " * _COLUMN, break_on_hyphens=False)


def _attributes(target: str) -> dict[str, str]:
    """What a class's docstring says of its attributes, read without importing what the class needs."""
    module, _, name = target.rpartition(".")
    try:
        spec = find_spec(module)
    except ImportError:
        spec = None
    tree = ast.parse(Path(spec.origin).read_text() if spec and spec.origin else "")
    classes = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    document = next(map(ast.get_docstring, classes), None) or ""
    entries = re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", document, re.MULTILINE)
    return {attribute: " ".join(says.split()) for attribute, says in entries}


def _choices(folders: Sequence[Path], command: str) -> str:
    """A line for each folder of choices, with the names of its files."""
    words: dict[str, set[str]] = {}
    for file in (file for folder in folders for file in folder.glob("*/*.yaml")):
        words.setdefault(file.parent.name, set()).add(file.stem)
    shown = sorted(set(words) - {"hydra"} - (set() if command == "align" else set(ALIGNMENT)))
    lines = [f"  {group:<16}{', '.join(sorted(words[group]))}" for group in shown]
    return "\n".join(textwrap.fill(line, _WIDTH, subsequent_indent=" " * 18) for line in lines)
