"""All finished methods of an experiment in one place: tables, charts, and a page to look at."""

from __future__ import annotations

import time
from pathlib import Path

from omegaconf import DictConfig
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from convergent.cli.checking import check_options
from convergent.cli.folders import component
from convergent.cli.page import look
from convergent.cli.workspace import save_workspace
from convergent.errors import InputError
from convergent.figures.comparison import comparison
from convergent.figures.methods import methods
from convergent.figures.penalties import penalties, swept
from convergent.figures.style import save
from convergent.progress import silenced, took
from convergent.report.loading import Finished, agreement, clusters, comparable, find
from convergent.report.opening import opening
from convergent.report.readme import fill, shown_figures
from convergent.report.tables import across, controls, explained, markdown, overview, table_1
from convergent.storage.files import atomic

# What is on the terminal, and what all tables are called.
_COMPACT = "R² on held-out images, ± over pairs of nets (predictors per unit)"
_TITLES = {
    "overview": "net b's units predicted from net a's",
    "controls": "mean correlation with the partner, and what chance gives",
    "across": "units with a partner above chance in so many other nets, and what all share",
    "table 1": "loss (1 - R²) / 2 of held-out images, and predictors per unit, by alpha",
    "clusters": "clusters of both nets' units, their similarity, and the variance that they explain as subspaces",
    "agreement": "how far clusters agree: adjusted Rand index",
}
_SPREAD = "± is the standard deviation over the ordered pairs of nets, which share nets: no standard error."
_HELD_OUT = (
    "R² held out and its median are over net b's active units, each unit's errors summed over all folds of the images; no "
    "score is clipped, so where images are few one unit may decide the mean."
)
# What table.md says under a table.
_NOTES = {
    "overview": _SPREAD,
    "table 1": "Means over the ordered pairs of nets and over net b's active units; no score is clipped.",
    "clusters": "Means over the ordered pairs of nets, which share nets.",
    "agreement": _SPREAD,
}
_ONE_TO_ONE = ("matching", "semimatching")  # what the documents' table of controls is about
_ROWS = 8  # of the README's only table


def report(config: DictConfig) -> None:
    """Print and keep the tables, the charts and the page of every finished method, in outputs/report/NAME.

    Raises:
        InputError: if an option cannot be, or no method is finished.
    """
    began = time.monotonic()
    check_options("report", config)
    root, config.name = Path(config.root), component(config.name, "name")
    folder, aligned = root / "outputs" / "report" / config.name, root / "outputs" / "align" / config.name
    results = find(aligned)
    if not results:
        raise InputError(f"No finished alignment in {aligned}; make one with: python src/align.py method=matching")
    found = {result.folder.name: result.summary for result in results}
    tables = {
        "overview": overview(found),
        "controls": controls(found),
        "across": across(found),
        "table 1": table_1(aligned, found),
        "clusters": clusters(results),
        "agreement": agreement(results),
    }
    tables = {name: rows for name, rows in tables.items() if len(rows) > 1}
    if not silenced():
        compact = explained(found)
        rows, title = (compact, _COMPACT) if len(compact) > 1 else (tables["overview"], _TITLES["overview"])
        show(rows, f"{config.name}: {title}", sum(heading in ("layer", "method") for heading in rows[0]))
    with atomic(folder / "table.md") as file:
        file.write_text("\n".join(markdown(rows) + _note(name, rows) for name, rows in tables.items()))
    charts = draw(comparable([result for result in results if result.holds_out]), folder)
    print(f"tables in {folder}/table.md: {'; '.join(_TITLES[name] for name in tables)}")
    print(f"charts in {folder}, figures of each method in {aligned}/METHOD/figures")
    page = look(root, config.name, found, config.picture_megabytes * 1e6)
    print(f"look at everything in a browser: {page} ({page.stat().st_size / 1e6:.1f} MB, {took(began)})")
    if config.workspace:
        layers = list(next(iter(found.values()))["layers"])
        print(f"W&B workspace: {save_workspace(config.workspace, config.name, layers)}")
    if config.readme:
        others = (root / "outputs" / "align" / "dynamics").glob("*/figures/dynamics.png")
        one_to_one = controls({name: found[name] for name in found if name in _ONE_TO_ONE})
        as_given = [result for result in results if result.name == result.method]  # a sweep would fill the page
        every = {result.folder.name: result.summary for result in as_given}
        all_images = {label: summary for label, summary in every.items() if summary["images"] == results[0].images}
        tables |= {
            "demo": explained(all_images)[: _ROWS + 1],
            "results": explained(every),
            "controls": one_to_one,
            "agreement": agreement(as_given),
        }
        texts = {name: markdown(rows) for name, rows in tables.items()} | {"opening": f"{opening(found)}\n"}
        for file in fill(root, texts, [*charts, *shown_figures(aligned), *others]):
            print(f"results written into {file}")


def _note(name: str, rows: list[list[str]]) -> str:
    """What is to be said under a table, a paragraph of its own."""
    notes = [*filter(None, [_NOTES.get(name)]), *([_HELD_OUT] if "R² held out" in rows[0] else [])]
    return f"\n{' '.join(notes)}\n" if notes else ""


def draw(sets: list[dict[str, list[Finished]]], folder: Path) -> list[Path]:
    """The best setting of each method layer by layer, and per set of results all methods and their sweeps of penalties."""
    if not sets:  # nothing was held out
        return []
    charts = []
    for number, by_method in enumerate(sets, 1):
        every = {method: [result.summary["pairs"] for result in results] for method, results in by_method.items()}
        of_set = "" if number == 1 else f"-{number}"
        charts.append(save(methods(every), folder, f"methods{of_set}"))
        for method, results in by_method.items():
            layers = [result.summary["layers"] for result in results]
            if swept(layers):
                charts.append(save(penalties(layers), folder, f"penalties-{method}{of_set}"))
    best = [max(results, key=Finished.explained) for results in sets[0].values()]
    charted = {result.name: result.summary["pairs"] for result in best}
    return [save(comparison(charted), folder, "comparison"), *charts]


def show(rows: list[list[str]], title: str, text_columns: int) -> None:
    """Print a table: headings, then rows, the first few columns being text."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for number, heading in enumerate(rows[0]):
        table.add_column(heading, justify="left" if number < text_columns else "right", no_wrap=True)
    last, grouped = "", len({row[0] for row in rows}) < len(rows)
    for row in rows[1:]:
        if grouped and last and row[0] != last:
            table.add_section()
        table.add_row(row[0] if row[0] != last else "", *row[1:])
        last = row[0]
    console = Console(markup=False)
    wide = Measurement.get(
        console, console.options.update_width(1000), table
    ).maximum  # lines may wrap, words are not cut
    Console(width=max(console.width, wide), markup=False).print(table)
