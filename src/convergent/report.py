"""One table and one chart over all finished methods of an experiment."""

from __future__ import annotations

import csv
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
_NULLS = ("rotated", "permuted")
_MARK = "<!-- results: written by `make readme` -->"
_ACROSS_MARK = "<!-- across: written by `make readme` -->"
_CONTROLS_MARK = "<!-- controls: written by `make readme` -->"
_TABLE_1_MARK = "<!-- table 1: written by `make readme` -->"

# The paper's own figures, Net1 to Net2 of CaffeNet on ImageNet: mean r by matching, share of units on which semi-matching
# agrees, share of units whose best r is below 0.5. Source: Li et al. 2016, section 3, from the authors' logs.
_PAPER = {
    "conv1": (0.663, 0.729, 0.17),
    "conv2": (0.507, 0.578, 0.37),
    "conv3": (0.446, 0.617, 0.63),
    "conv4": (0.342, 0.581, 0.92),
    "conv5": (0.385, 0.645, 0.75),
}


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
    show([_headings(), *rows_of(found)], f"{config.name}: net b's units accounted for from net a's", 2)
    charted = {f"{_method(name)}, {summary['images']:,} images": summary["pairs"] for name, summary in found.items()}
    chart = save(comparison(charted), folder, "comparison")
    table, controlled = markdown([_headings(), *rows_of(found)]), markdown(controls(found))
    show(controls(found), "mean correlation with the partner, and what chance gives", 2)
    together = across(found)
    if len(together) > 1:
        show(together, "units with a partner above chance in so many other nets, and what all share", 1)
    few = table_1(aligned, found)
    if few:
        show(few, "loss (1 - R²) / 2 of held-out images, and units used, by alpha", 1)
    with atomic(folder / "table.md") as file:
        file.write_text("\n".join([table, controlled, markdown(together), *([markdown(few)] if few else [])]))
    print(f"table and chart in {folder}, figures of each method in {aligned}/METHOD/figures")
    if config.readme:
        others = (root / "outputs" / "align" / "dynamics").glob("*/figures/dynamics.png")
        tables = {_MARK: table, _CONTROLS_MARK: controlled, _ACROSS_MARK: markdown(together)}
        methods = [name for name in sorted(found, reverse=True) if "," not in name and name != "matching"]
        # of figures of one name the last is shown: matching's, and sparse's before sparse_path's
        folders = [aligned / name / "figures" for name in (*methods, "matching")]
        write_readme(
            root,
            tables | ({_TABLE_1_MARK: markdown(few)} if few else {}),
            [chart, *(figure for figures in folders for figure in sorted(figures.glob("*.png"))), *others],
        )


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


def controls(found: dict[str, dict[str, Any]]) -> list[list[str]]:
    """The table of mean correlations with interval, agreement and nulls: headings, then a row per layer and result."""
    caffenet = any(summary.get("caffenet") for summary in found.values())
    rows = [["layer", "method", "images", "r, 95 %", *_NULLS, "above", "agree", "<0.5"]]
    rows[0] += ["paper: mean r", "agree", "r < 0.5"] if caffenet else []
    for layer in dict.fromkeys(layer for summary in found.values() for layer in summary["layers"]):
        for name, summary in found.items():
            figures = summary["layers"].get(layer)
            if not figures or "mean_r" not in figures:
                continue
            over = "mean_r_nets" if "mean_r_nets_low" in figures else "mean_r"
            ends = [figures.get(f"{over}_{end}") for end in ("low", "high")]
            row = [layer, _method(name), f"{summary['images']:,}"]
            row += ["-" if None in ends else f"{ends[0]:.2f}-{ends[1]:.2f}"]
            row += [_share(figures, f"mean_r_{null}", "{:.2f}") for null in _NULLS]
            row += [_share(figures, key) for key in ("above_rotated", "agreement", "best_r_below_half")]
            if caffenet:
                mean_r, agree, below = _PAPER.get(layer, ("-",) * 3)
                row += ["-"] * 3 if mean_r == "-" else [f"{mean_r:.3f}", f"{agree:.0%}", f"{below:.0%}"]
            rows.append(row)
    return rows


def across(found: dict[str, dict[str, Any]]) -> list[list[str]]:
    """The table over all nets at once, by the first result that has it: headings, then a row per layer."""
    layers: dict[str, Any] = next((summary["across"] for summary in found.values() if summary.get("across")), {})
    nets = max((len(figures["found_in"]) for figures in layers.values()), default=0)
    rows = [["layer", *(f"in {m}" for m in range(nets)), "mutual", "cliques", "cycles", "(chance)", "consensus r"]]
    for layer, figures in layers.items():
        shares = [
            *figures["found_in"],
            *(figures[key] for key in ("mutual_best", "cliques", "cycles", "cycles_chance")),
        ]
        rows.append([layer, *(f"{share:.0%}" for share in shares), f"{figures['consensus_r']:.2f}"])
    return rows


def table_1(aligned: Path, found: dict[str, dict[str, Any]]) -> list[list[str]]:
    """The paper's table 1 by the first result that has a path of penalties: headings, then a row per layer.

    A cell is the mean loss over the pairs of nets and, in brackets, the units used; beside them one unit, all units, and the
    shares of units whose code is local, slightly distributed and distributed, with their 95 % over nets.
    """
    name = next((name for name in found if (aligned / name / "path.csv").exists()), None)
    if name is None:
        return []
    with (aligned / name / "path.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    alphas = sorted({float(row["alpha"]) for row in rows}, reverse=True)
    table = [
        ["layer", "one unit", *(f"{alpha:g}" for alpha in alphas), "all units", "local", "slightly", "distributed"]
    ]
    for layer, figures in found[name]["layers"].items():
        cells = []
        for alpha in alphas:
            of_alpha = [row for row in rows if row["layer"] == layer and float(row["alpha"]) == alpha]
            loss, used = (
                sum(float(row[key]) for row in of_alpha) / max(1, len(of_alpha))
                for key in ("loss_held_out", "units_used")
            )
            cells.append(f"{loss:.3f} ({used:.1f})" if of_alpha else "-")
        codes = [_share_over_nets(figures, code) for code in ("local", "slightly_distributed", "distributed")]
        ends = [_share(figures, f"loss_{which}", "{:.3f}") for which in ("one_unit", "least_squares")]
        table.append([layer, ends[0], *cells, ends[1], *codes])
    return table


def show(rows: list[list[str]], title: str, text_columns: int) -> None:
    """Print a table: headings, then rows, the first few columns being text."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for number, heading in enumerate(rows[0]):
        table.add_column(heading, justify="left" if number < text_columns else "right", no_wrap=True)
    last = ""
    for row in rows[1:]:
        if last and row[0] != last:
            table.add_section()
        table.add_row(row[0] if row[0] != last else "", *row[1:])
        last = row[0]
    Console().print(table)


def markdown(rows: list[list[str]]) -> str:
    """A table in Markdown: headings, then rows; all but layer and method are numbers."""
    rule = ["---" if heading in ("layer", "method") else "---:" for heading in rows[0]]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (rows[0], rule, *rows[1:]))


def write_readme(root: Path, tables: dict[str, str], figures: list[Path]) -> None:
    """Put each table between its marks of the README, and the figures that it shows into docs/.

    Raises:
        InputError: if the README has no marks.
    """
    readme = root / "README.md"
    text = readme.read_text()
    for mark, table in tables.items():
        parts = text.split(mark)
        if len(parts) != 3:
            raise InputError(f"{readme} needs the line {mark} twice, but has it {len(parts) - 1} times.")
        text = f"{parts[0]}{mark}\n{table}{mark}{parts[2]}"
    with atomic(readme) as file:
        file.write_text(text)
    (root / "docs").mkdir(exist_ok=True)
    for figure in figures:
        if f"(docs/{figure.name})" in text:
            shutil.copyfile(figure, root / "docs" / figure.name)
    print(f"results written into {readme}")


def _headings() -> list[str]:
    return ["layer", "method", "images", *(heading for heading, _ in _COLUMNS)]


def _cell(figures: dict[str, Any], key: str) -> str:
    if key not in figures:
        return "-"
    return f"{figures[key]:.2f}" if key == "units_used" else f"{figures[key]:.2f} ± {figures[key + '_sd']:.2f}"


def _share(figures: dict[str, Any], key: str, how: str = "{:.0%}") -> str:
    return how.format(figures[key]) if key in figures else "-"


def _share_over_nets(figures: dict[str, Any], key: str) -> str:
    low, high = (figures.get(f"{key}_nets_{end}") for end in ("low", "high"))
    share = _share(figures, key)
    return share if low is None or high is None else f"{share} ({max(0.0, low):.0%}-{min(1.0, high):.0%})"


def _method(name: str) -> str:
    """The name of a result without its images, which have a column of their own."""
    return name.split(",images=")[0]
