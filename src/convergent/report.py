"""One table and one chart over all finished methods of an experiment."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from convergent.errors import InputError
from convergent.figures.comparison import comparison
from convergent.figures.style import save
from convergent.folders import atomic

# The columns of the table: heading, figure of summary.json.
_COLUMNS = (
    ("mean r", "mean_r"),
    ("R² fitted", "explained_in_sample"),
    ("R² held out", "explained_held_out"),
    ("used", "units_used"),
)
_MARK = "<!-- results: written by `make readme` -->"


def report(config: DictConfig) -> None:
    """Print and keep the table and the chart of every finished method, in outputs/report/NAME.

    Raises:
        InputError: if no method is finished.
    """
    root = Path(config.root)
    folder, aligned = root / "outputs" / "report" / config.name, root / "outputs" / "align" / config.name
    found = {
        done.parent.name: json.loads((done.parent / "summary.json").read_text()) for done in aligned.glob("*/done")
    }
    if not found:
        raise InputError(f"No finished alignment in {aligned}; make one with: python src/align.py method=matching")
    found = dict(sorted(found.items(), key=lambda item: (-item[1]["images"], item[0])))
    show(found, config.name)
    charted = {f"{_method(name)}, {summary['images']:,} images": summary["pairs"] for name, summary in found.items()}
    chart = save(comparison(charted), folder, "comparison")
    table = markdown(found)
    with atomic(folder / "table.md") as file:
        file.write_text(table)
    print(f"table and chart in {folder}, figures of each method in {aligned}/METHOD/figures")
    if config.readme:
        others = (root / "outputs" / "align" / "dynamics").glob("*/figures/dynamics.png")
        write_readme(root, table, [chart, *sorted((aligned / "matching" / "figures").glob("*.png")), *others])


def rows_of(found: dict[str, dict[str, Any]]) -> list[list[str]]:
    """The table's cells, one row per layer and result, means and deviations over the ordered pairs of nets."""
    layers = dict.fromkeys(layer for summary in found.values() for layer in summary["layers"])
    rows = []
    for layer in layers:
        for name, summary in found.items():
            if figures := summary["layers"].get(layer):
                cells = [_cell(figures, key) for _, key in _COLUMNS]
                rows.append([layer, _method(name), f"{summary['images']:,}", *cells])
    return rows


def show(found: dict[str, dict[str, Any]], name: str) -> None:
    """Print the table."""
    title = f"{name}: net b's units accounted for from net a's"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)  # fits into 80 columns
    for heading in _headings():
        table.add_column(heading, justify="left" if heading in ("layer", "method") else "right", no_wrap=True)
    last = ""
    for row in rows_of(found):
        if last and row[0] != last:
            table.add_section()
        table.add_row(row[0] if row[0] != last else "", *row[1:])
        last = row[0]
    Console().print(table)


def markdown(found: dict[str, dict[str, Any]]) -> str:
    """The table in Markdown."""
    headings = _headings()
    rule = ["---" if heading in ("layer", "method") else "---:" for heading in headings]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (headings, rule, *rows_of(found)))


def write_readme(root: Path, table: str, figures: list[Path]) -> None:
    """Put the table between the README's marks, and the figures that it shows into docs/.

    Raises:
        InputError: if the README has no marks.
    """
    readme = root / "README.md"
    parts = readme.read_text().split(_MARK)
    if len(parts) != 3:
        raise InputError(f"{readme} needs the line {_MARK} twice, but has it {len(parts) - 1} times.")
    with atomic(readme) as file:
        file.write_text(f"{parts[0]}{_MARK}\n{table}{_MARK}{parts[2]}")
    (root / "docs").mkdir(exist_ok=True)
    for figure in figures:
        if f"(docs/{figure.name})" in parts[0] + parts[2]:
            shutil.copyfile(figure, root / "docs" / figure.name)
    print(f"results written into {readme}")


def _headings() -> list[str]:
    return ["layer", "method", "images", *(heading for heading, _ in _COLUMNS)]


def _cell(figures: dict[str, Any], key: str) -> str:
    if key not in figures:
        return "-"
    return f"{figures[key]:.2f}" if key == "units_used" else f"{figures[key]:.2f} ± {figures[key + '_sd']:.2f}"


def _method(name: str) -> str:
    """The name of a result without its images, which have a column of their own."""
    return name.split(",images=")[0]
