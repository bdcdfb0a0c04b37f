"""Finished merges of an experiment: a table, and what the page shows of them."""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from convergent.figures.merging import look_of_alignment
from convergent.report.tables import Table
from convergent.storage.csv_files import read_rows

_HEADINGS = (
    "alignment", "barrier", "accuracy in the middle", "barrier, repaired", "accuracy, repaired", "all nets in one",
    "all, repaired",
)  # fmt: skip
_COLUMNS = {
    "barrier": ".3f", "middle_accuracy": ".3f", "barrier_repair": ".3f", "middle_accuracy_repair": ".3f",
    "all_accuracy": ".3f", "all_accuracy_repair": ".3f",
}  # fmt: skip


def find_merges(root: Path, name: str) -> list[Path]:
    """The folders of an experiment's finished merges, that of matching with nothing changed first."""
    folders = [done.parent for done in (root / "outputs" / "merge" / name).glob("*/done")]
    return sorted(folders, key=lambda folder: (folder.name != "matching", len(folder.name), folder.name))


def merging_table(folder: Path) -> Table:
    """A row per alignment: mean barriers and accuracies over the pairs of nets, then those of all nets averaged."""
    alignments = json.loads((folder / "summary.json").read_text())["alignments"]
    cells = [
        [
            look_of_alignment(name).words,
            *(f"{of[key]:{style}}" if key in of else "-" for key, style in _COLUMNS.items()),
        ]
        for name, of in alignments.items()
    ]
    return [list(_HEADINGS), *cells]


def merging_parts(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """What the page shows of each merge: its table, and means over the pairs of nets along the line."""
    parts = []
    for folder in folders:
        lines: dict[tuple[str, int], dict[float, list[tuple[float, float]]]] = {}
        for row in read_rows(folder / "line.csv"):
            line = lines.setdefault((row["alignment"], int(row["repair"])), {})
            line.setdefault(float(row["share_b"]), []).append((float(row["loss"]), float(row["accuracy"])))
        curves = [
            {
                "words": look_of_alignment(alignment).words,
                "colour": look_of_alignment(alignment).colour,
                "repair": repair,
                "share": list(line),
                "loss": [fmean(loss for loss, _ in of) for of in line.values()],
                "accuracy": [fmean(accuracy for _, accuracy in of) for of in line.values()],
            }
            for (alignment, repair), line in lines.items()
        ]
        headings, *rows = merging_table(folder)
        parts.append({"label": folder.name, "headings": headings, "rows": rows, "curves": curves})
    return parts
