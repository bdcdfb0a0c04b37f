"""Tables as CSV files: written whole or not at all, safe to open in a spreadsheet, read back as they were."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from convergent.errors import InputError
from convergent.storage.files import atomic

# What spreadsheets take for a formula and run, and what is put before it. Source: OWASP, "CSV Injection".
_GUARDED = ("=", "+", "-", "@", "\t", "\r", "'")


def write_rows(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows with the same columns as CSV; a text that a spreadsheet would run begins with an apostrophe."""
    with atomic(file) as partial, partial.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(map(_guarded, rows[0]))
        writer.writerows([_guarded(row[column]) for column in rows[0]] for row in rows)


def read_rows(file: Path) -> Iterator[dict[str, str]]:
    """The rows of a table that `write_rows` wrote, cells as text."""
    with file.open(newline="") as stream:
        rows = ([cell.removeprefix("'") for cell in cells] for cells in csv.reader(stream))
        columns = next(rows)
        yield from (dict(zip(columns, cells)) for cells in rows)


def check_rows(file: Path) -> None:
    """Find out whether a table is whole.

    Raises:
        InputError: if it has no headings, a row of more or fewer cells than these, or zeros where a disk lost its bytes.
    """
    with file.open(newline="") as stream:
        rows = list(csv.reader(stream, strict=True))
    if len({len(cells) for cells in rows}) != 1 or any("\0" in cell for cells in rows for cell in cells):
        raise InputError(f"{file} is no table that this program wrote; delete it, what made it makes it again.")


def _guarded(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_GUARDED) else cell
