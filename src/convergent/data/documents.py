"""Where documents come from: docstrings of installed packages, files of a folder, a data set of `datasets`."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Protocol

from convergent.data.opening import shown
from convergent.errors import InputError
from convergent.options import TEXT, Kind, table

_TESTS = ("test", "tests", "testing", "_testing")
_VERSIONS = Kind("a dictionary of versions, as {numpy: 2.4.6}", table(TEXT).fits)


class Documents(Protocol):
    """Texts, in an order that is always the same."""

    def __iter__(self) -> Iterator[str]: ...

    def content(self) -> list[str]:
        """What identifies them without reading them all."""


class Docstrings:
    """The docstrings of installed packages, sorted, each once, without those of tests.

    Args:
        packages: {name of the distribution: its version}.

    Raises:
        InputError: if another version is installed, or none.
    """

    def __init__(self, packages: Annotated[Mapping[str, str], _VERSIONS]) -> None:
        self.packages = dict(packages)
        for name, version in self.packages.items():
            if (here := installed(name)) != version:
                raise InputError(
                    f"These documents are the docstrings of {name} {version}, but {here or 'none'} is installed; install "
                    f"{name}=={version}, or train again with name=... of its own."
                )

    def __iter__(self) -> Iterator[str]:
        yield from sorted({text for name in self.packages for file in _modules(name) for text in _docstrings(file)})

    def content(self) -> list[str]:
        """The versions."""
        return [f"{name} {version}" for name, version in self.packages.items()]


class TextFolder:
    """The documents of a folder and those in it: a .txt file is one, and so is each line of a .jsonl file.

    Args:
        folder: of the files.
        column: of a line that is an object the key of its text; a line may also be a text.

    Raises:
        InputError: if there is no such file in it, or a file is no text in UTF-8 or no JSON.
    """

    def __init__(self, folder: Annotated[str, TEXT], column: Annotated[str, TEXT] = "text") -> None:
        self.folder, self.column = Path(folder), column
        self.files = sorted(
            file for end in ("txt", "jsonl") for file in self.folder.rglob(f"*.{end}") if file.is_file()
        )
        if not self.files:
            raise InputError(f"{shown(folder)} holds no text (.txt or .jsonl); set data.folder to a folder that does.")

    def __iter__(self) -> Iterator[str]:
        for file in self.files:
            try:
                text = file.read_text(encoding="utf-8")
                if file.suffix == ".txt":
                    yield text
                    continue
                for line in text.splitlines():
                    if line.strip():
                        value = json.loads(line)
                        yield value if isinstance(value, str) else str(value[self.column])
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise InputError(
                    f"{shown(file)} cannot be read ({type(error).__name__}: {shown(error)}); it needs to be UTF-8, and each "
                    f'line of a .jsonl file a text or an object with "{self.column}" (data.documents.column).'
                ) from None

    def content(self) -> list[str]:
        """The files by path and the digest of their bytes."""
        from convergent.data.content import content_of

        class _Files:
            samples: Sequence[Any] = [(file,) for file in self.files]

        return [*content_of(_Files()), self.column]  # type: ignore[arg-type]


class HubDataset:
    """A column of a data set that the package `datasets` loads by its name, from a hub or from disk; no code of its is run.

    Raises:
        InputError: if that package is not installed, or the data set cannot be loaded.
    """

    def __init__(
        self,
        path: Annotated[str, TEXT],
        split: Annotated[str, TEXT] = "train",
        column: Annotated[str, TEXT] = "text",
        name: str | None = None,
        revision: str | None = None,
    ) -> None:
        self.about = [path, split, column, str(name), str(revision)]
        try:
            from datasets import load_dataset
        except ImportError:
            raise InputError(
                "Data sets by name need the package datasets; install it (pip install datasets), or set data=text "
                "data.folder=..."
            ) from None
        try:
            self.column = load_dataset(path, name, split=split, revision=revision)[column]
        except Exception as error:  # whatever a loader, a network or a missing column raises
            raise InputError(f"The data set {path} cannot be loaded ({shown(error)[:300]}).") from None

    def __iter__(self) -> Iterator[str]:
        yield from map(str, self.column)

    def content(self) -> list[str]:
        """Its name, and how many texts it has."""
        return [*self.about, str(len(self.column))]


def installed(name: str) -> str:
    """The version of a distribution that is installed; empty where there is none."""
    try:
        return metadata.version(name).partition("+")[0]  # torch's says for which GPUs it was built
    except metadata.PackageNotFoundError:
        return ""


def _modules(name: str) -> Iterator[Path]:
    distribution = metadata.distribution(name)
    for file in sorted(distribution.files or ()):
        parts = file.parts
        if file.suffix == ".py" and not any(part in _TESTS or part.startswith("test_") for part in parts):
            yield Path(str(distribution.locate_file(file)))


def _docstrings(file: Path) -> Iterator[str]:
    """The docstrings of a module, of its classes and of functions, as the interpreter would have them."""
    try:
        nodes: list[Any] = [ast.parse(file.read_text(encoding="utf-8"))]
    except (OSError, ValueError, SyntaxError):  # templates, and what is of another version of the language
        return
    while nodes:
        node = nodes.pop()
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and (
            text := ast.get_docstring(node)
        ):
            yield text
        for inner in ("body", "orelse", "handlers", "finalbody"):
            nodes += [child for child in getattr(node, inner, ()) if isinstance(child, ast.stmt | ast.excepthandler)]
