"""The data dictionary: what every column means, printed into docs/data_dictionary.md and shown on the page.

`python -m convergent.report.dictionary` in the project's folder fills the page anew.
"""

from collections.abc import Iterable
from pathlib import Path

from convergent.analysis.columns import HEAD, LAYER, MORE, NULL, PAIR, SIMILARITY, UNIT, Column
from convergent.analysis.line_columns import BARRIER, PLACE
from convergent.figures.style import NULL_MEANINGS
from convergent.report.readme import fill
from convergent.report.tables import markdown
from convergent.similarity.every import invariances

_TABLES = {
    "columns head": HEAD,
    "columns unit": UNIT,
    "columns pair": PAIR,
    "columns null": NULL,
    "columns similarity": SIMILARITY,
    "columns more": MORE,
    "columns layer": LAYER,
    "columns place": PLACE,
    "columns barrier": BARRIER,
}


def dictionary() -> dict[str, str]:
    """The dictionary's tables in Markdown, by the names of their marks."""
    return {name: _table(columns) for name, columns in _TABLES.items()} | {"invariances": markdown(invariances())}


def meanings() -> dict[str, str]:
    """What each column means, by its name; of a row per unit where a row per pair has a column of that name too."""
    columns = (*BARRIER, *PLACE, *LAYER, *MORE, *SIMILARITY, *PAIR, *UNIT, *HEAD)
    of_nulls = {
        column.name.replace("NULL", null): column.meaning.replace("the null", f"the null {null}")
        for column in NULL
        for null in NULL_MEANINGS
    }
    ends = {
        column.name.removeprefix("NAME"): column.meaning for column in SIMILARITY if column.name.startswith("NAME_")
    }
    of_measures = {
        f"{column.name}{end}": f"{column.name}: {meaning}" for column in SIMILARITY for end, meaning in ends.items()
    }
    return {column.name: column.meaning for column in columns} | of_nulls | of_measures


def _table(columns: Iterable[Column]) -> str:
    rows = [(f"`{column.name}`", column.meaning.replace("|", "\\|"), column.unit) for column in columns]
    return markdown([("column", "meaning", "range"), *rows])


if __name__ == "__main__":
    fill(Path.cwd(), dictionary())
