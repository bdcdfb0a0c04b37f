"""The documents' own results: what stands between the marks of README.md and docs/*.md, and the figures that they show."""

import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from convergent.errors import InputError
from convergent.storage.files import atomic

# A line of its own before and after what is filled in: <!-- NAME: written by COMMAND -->
_MARK = re.compile(r"^(<!-- ([\w ]+): written by .+ -->\n)", re.MULTILINE)
_SHOWN = re.compile(r"\]\(([^)\s]+\.png)\)")


def documents(root: Path) -> list[Path]:
    """README.md and the pages of docs/."""
    return [file for file in (root / "README.md", *sorted((root / "docs").glob("**/*.md"))) if file.is_file()]


def fill(root: Path, texts: Mapping[str, str], figures: Iterable[Path] = (), experiment: str = "") -> list[Path]:
    """Put each text between its marks, in whichever documents have them, and copy the figures that these show.

    Texts are Markdown by the name in their marks; what is between other names' marks stays. Figures, PNG files, are copied
    to where a document shows one of that name in docs/, of equal names the last. Those of an experiment that shares the
    documents go by its name as well: between marks "EXPERIMENT NAME", to "EXPERIMENT-FIGURE.png". The documents that were
    written anew.

    Raises:
        InputError: if a mark has no second one.
    """
    texts = {f"{experiment} {name}".strip(): text for name, text in texts.items()}
    by_name = {f"{experiment}-{figure.name}".lstrip("-"): figure for figure in figures}
    written = []
    for file in documents(root):
        text = file.read_text()
        before, *pieces = _MARK.split(text)
        marks, names, rests = pieces[::3], pieces[1::3], pieces[2::3]
        for mark, first, second in zip(marks[::2], names[::2], [*names[1::2], ""]):
            if first != second:
                raise InputError(f"{file} needs the line {mark.strip()} twice, before and after what is filled in.")
        for number in range(0, len(names), 2):
            rests[number] = texts.get(names[number], rests[number])
        filled = before + "".join(mark + rest for mark, rest in zip(marks, rests))
        if filled != text:
            with atomic(file) as partial:
                partial.write_text(filled)
            written.append(file)
        for shown in _SHOWN.findall(filled):
            place = (file.parent / shown).resolve()
            if place.name in by_name and place.is_relative_to((root / "docs").resolve()):
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(by_name[place.name], place)
    return written


def shown_figures(aligned: Path) -> list[Path]:
    """The methods' figures that documents may show: of equal names matching's, else that of the shortest folder's name."""
    folders = [path.parent for path in aligned.glob("*/done")]
    folders.sort(key=lambda folder: (folder.name != "matching", len(folder.name), folder.name), reverse=True)
    return [figure for folder in folders for figure in sorted((folder / "figures").glob("*.png"))]
