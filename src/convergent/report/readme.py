"""The README's own results: tables between their marks, and the figures that it shows."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from convergent.errors import InputError
from convergent.report.tables import markdown
from convergent.storage.files import atomic

_MARK = "<!-- {}: written by `make readme` -->"


def write_readme(root: Path, tables: Mapping[str, Sequence[Sequence[str]]], figures: Iterable[Path]) -> None:
    """Put each table between its marks of the README, and the figures that it shows into docs/.

    Args:
        root: of the project.
        tables: by the name in their marks, see `tables`.
        figures: PNG files; those that the README shows as docs/NAME.png are copied, of equal names the last one.

    Raises:
        InputError: if the README has no marks.
    """
    readme = root / "README.md"
    text = readme.read_text()
    for name, table in tables.items():
        mark = _MARK.format(name)
        parts = text.split(mark)
        if len(parts) != 3:
            raise InputError(f"{readme} needs the line {mark} twice, but has it {len(parts) - 1} times.")
        text = f"{parts[0]}{mark}\n{markdown(table)}{mark}{parts[2]}"
    with atomic(readme) as file:
        file.write_text(text)
    (root / "docs").mkdir(exist_ok=True)
    for figure in figures:
        if f"(docs/{figure.name})" in text:
            shutil.copyfile(figure, root / "docs" / figure.name)
    print(f"results written into {readme}")


def shown_figures(aligned: Path) -> list[Path]:
    """The methods' figures that the README may show: of equal names matching's, else that of the shortest folder's name."""
    folders = [path.parent for path in aligned.glob("*/done")]
    folders.sort(key=lambda folder: (folder.name != "matching", len(folder.name), folder.name))
    figures = [figure for folder in folders for figure in sorted((folder / "figures").glob("*.png"))]
    return list({figure.name: figure for figure in reversed(figures)}.values())
