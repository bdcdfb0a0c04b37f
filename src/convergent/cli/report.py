"""All finished methods of an experiment in one place: tables, charts, and a page to look at."""

import json
import re
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

from omegaconf import DictConfig
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from convergent.cli.checking import check_options
from convergent.cli.folders import component
from convergent.cli.page import write
from convergent.cli.workspace import save_workspace
from convergent.errors import InputError
from convergent.figures.comparison import comparison
from convergent.figures.function import explained_and_kept
from convergent.figures.grid import save
from convergent.figures.measures import beside_methods
from convergent.figures.methods import methods
from convergent.figures.penalties import penalties, swept
from convergent.progress import silenced, took
from convergent.report import tables
from convergent.report.dictionary import dictionary
from convergent.report.function import in_short, sentences
from convergent.report.loading import Finished, comparable, find
from convergent.report.merging import find_merges, merging_table
from convergent.report.nouns import IMAGES, in_words, noun_of
from convergent.report.opening import opening, precision
from convergent.report.predicting import predicting
from convergent.report.readme import fill, shown_figures
from convergent.storage.files import atomic

# What is on the terminal.
_COMPACT = "R² on held-out images, ± over pairs of nets (predictors per unit)"
# Tables of table.md: what one is called, and what is said under it.
_SPREAD = "± is the standard deviation over the ordered pairs of nets, which share nets: no standard error."
_TABLES: dict[str, tuple[Callable[[Sequence[Finished]], tables.Table], str, str]] = {
    "summary": (tables.summary, "net b's units predicted from net a's", _SPREAD),
    "controls": (tables.controls, "mean correlation with the partner, and what chance gives", ""),
    "function": (
        tables.function,
        "decisions kept with net b's layer predicted from net a's: 1 - KL / KL of the mean-ablated layer",
        "Means over the ordered pairs of nets (95 % over nets), on images to which neither a map nor a net was fitted; from "
        "*restored* on units have their variance back. Rotated, untrained: the method from a randomly rotated net, from an "
        "untrained one; permuted: a random matching. Same decision: on so many images net b decides as it does unstitched.",
    ),
    "predicting": (
        predicting,
        "which measure predicts function: rank correlation with what matching keeps of decisions",
        "Spearman's correlation over layers and ordered pairs of nets (95 % from leaving out nets); distances are negative.",
    ),
    "across": (tables.across, "units with a partner above chance in so many other nets, and what all share", ""),
    "table 1": (
        tables.table_1,
        "loss (1 - R²) / 2 of held-out images, and predictors per unit, by alpha",
        "Means over the ordered pairs of nets and over net b's active units; no score is clipped.",
    ),
    "clusters": (
        tables.clusters,
        "clusters of both nets' units, their similarity, and the variance that they explain as subspaces",
        "Means over the ordered pairs of nets, which share nets. ARI: adjusted Rand index between clusterings with each "
        "fold of the images left out.",
    ),
    "agreement": (tables.agreement, "how far clusters agree: adjusted Rand index", _SPREAD),
}
_HELD_OUT = (
    "R² held out and its median are over net b's active units, each unit's errors summed over all folds of the images; no "
    "score is clipped, so where images are few one unit may decide the mean."
)
_ONE_TO_ONE = ("matching", "semimatching")  # what the documents' table of controls is about
_ROWS = 8  # of the README's table
_ASIDE = ("sparse_path",)  # of the short table: where nothing is to be gained by few units it is least squares
_MAIN = "digits-convnet"  # the experiment whose results are the documents' own


def report(config: DictConfig) -> None:
    """Print a table; keep all tables, the charts and the page of every finished method, in outputs/report/NAME.

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
    noun = noun_of([result.summary for result in results])

    def named(headings: Sequence[str]) -> list[str]:
        return [noun if heading == IMAGES else heading for heading in headings]

    if not silenced():
        rows, title = tables.explained(results), _COMPACT
        if len(rows) == 1:  # nothing is held out
            rows, title = tables.summary(results), _TABLES["summary"][1]
        show([named(rows[0]), *rows[1:]], f"{config.name}: {in_words(title, noun)}")
    text, titles = list[str](), list[str]()
    for make, title, note in _TABLES.values():
        if len(rows := make(results)) > 1:
            notes = [*filter(None, [note]), *([_HELD_OUT] if "R² held out" in rows[0] else [])]
            note = in_words(" ".join(notes), noun)
            text.append(tables.markdown([named(rows[0]), *rows[1:]]) + (f"\n{note}\n" if notes else ""))
            titles.append(in_words(title, noun))
    with atomic(folder / "table.md") as file:
        file.write_text("\n".join(text))
    charts = draw(comparable([result for result in results if result.holds_out]), folder)
    print(f"tables in {folder}/table.md: {'; '.join(titles)}")
    print(f"charts in {folder}, figures of each method in {aligned}/METHOD/figures")
    summaries = {result.folder.name: result.summary for result in results}
    page = write(root, config.name, summaries, config.picture_megabytes * 1e6)
    print(f"look at everything in a browser: {page} ({page.stat().st_size / 1e6:.1f} MB, {took(began)})")
    if config.workspace:
        print(f"W&B workspace: {save_workspace(config.workspace, config.name, list(results[0].layers))}")
    if config.readme:
        others = [*(root / "outputs").glob("align/dynamics/*/figures/dynamics.png")]
        texts = texts_of(results) | {"accuracies": accuracies(root / "outputs" / "train" / config.name)}
        for merge in find_merges(root, config.name)[:1]:
            texts["merging"] = tables.markdown(merging_table(merge))
            others.append(merge / "figures" / "merging.png")
        figures = [*charts, *shown_figures(aligned), *others]
        for document in fill(root, texts, figures, "" if config.name == _MAIN else config.name):
            print(f"results written into {document}")


def texts_of(results: Sequence[Finished]) -> dict[str, str]:
    """What `make readme` writes into the documents, by the names of their marks."""
    as_given = [result for result in results if result.name == result.method]  # a sweep would fill the page
    of = dict.fromkeys(_TABLES, results) | {
        "controls": [result for result in results if result.folder.name in _ONE_TO_ONE],
        "agreement": as_given,
    }
    made = {name: make(of[name]) for name, (make, *_) in _TABLES.items()}
    made["results"] = tables.explained(as_given)
    on_all = tables.explained([result for result in as_given if result.images == results[0].images])[: _ROWS + 1]
    made["demo"] = [[method, *layers] for method, _, *layers in on_all]
    texts = {name: tables.markdown(rows) for name, rows in made.items() if len(rows) > 1}
    summaries = {result.folder.name: result.summary for result in results}
    by_layer = [*zip(*(row for row in made["demo"] if row[0] not in _ASIDE))]
    short = [[re.sub(r" ± [\d.]+", "", cell) for cell in column] for column in by_layer[1:]]
    beside = f"\n{sentence}\n" if (sentence := precision(summaries)) else ""
    texts["short"] = tables.markdown([["layer", *by_layer[0][1:]], *short]) + beside
    swaps = "".join(f"- {sentence}\n" for sentence in sentences(summaries))
    return {
        "opening": f"{opening(summaries)}{in_short(summaries)}\n",
        "function sentences": swaps,
        **texts,
        **dictionary(),
    }


def accuracies(trained: Path) -> str:
    """The validation accuracy of each net in a folder of run folders, on one line."""
    metrics = {file.parent.name: json.loads(file.read_text()) for file in sorted(trained.glob("*/metrics.json"))}
    shares = {net: of["val/acc_top1"] for net, of in metrics.items() if "val/acc_top1" in of}
    return ", ".join(f"{share:.1%} ({net})" for net, share in shares.items()) + ".\n"


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
            layers = [result.layers for result in results]
            if swept(layers):
                charts.append(save(penalties(layers), folder, f"penalties-{method}{of_set}"))
    best = [max(results, key=Finished.explained) for results in sets[0].values()]
    charted = {result.name: result.summary["pairs"] for result in best}
    beside = beside_methods(charted)
    charts += [save(beside, folder, "measures")] if beside else []
    judged = [[of for of in results if (of.folder / "function.csv").exists()] for results in sets[0].values()]
    of_function = [max(results, key=Finished.explained) for results in judged if results]
    if of_function:
        rows = {of.name: of.rows("function") for of in of_function}
        charts.append(save(explained_and_kept(rows), folder, "explained_and_kept"))
    return [save(comparison(charted), folder, "comparison"), *charts]


def show(rows: tables.Table, title: str) -> None:
    """Print a table: headings, then rows."""
    table = Table(
        title=title, title_justify="left", box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0)
    )
    for number, heading in enumerate(rows[0]):
        table.add_column(heading, justify="left" if number < tables.text_columns(rows) else "right", no_wrap=True)
    last, grouped = "", any(row[0] == after[0] for row, after in pairwise(rows))
    for row in rows[1:]:
        if grouped and last and row[0] != last:
            table.add_section()
        table.add_row(row[0] if row[0] != last else "", *row[1:])
        last = row[0]
    console = Console(markup=False)
    # lines may wrap, words are not cut
    wide = Measurement.get(console, console.options.update_width(1000), table).maximum
    Console(width=max(console.width, wide), markup=False).print(table)
