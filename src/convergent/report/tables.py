"""Tables over all finished methods of an experiment: headings, then rows of cells.

A result is what summary.json holds; results come by the names of their folders.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from convergent.storage.csv_files import read_rows

# The columns of the table: heading, figure of summary.json.
_COLUMNS = (
    ("mean r", "mean_r"),
    ("R² fitted", "r2_in_sample"),
    ("R² held out", "r2_held_out"),
    ("median", "r2_held_out_median"),
    ("used", "predictors"),
)
_NULLS = ("rotated", "shuffled")

# The paper's own figures, Net1 to Net2 of CaffeNet on ImageNet: mean r by method, share of units on which matching and
# semi-matching agree, share of units whose best r is below 0.5. Source: Li et al. 2016, section 3, from the authors' logs.
_PAPER_R = {
    "matching": {"conv1": 0.663, "conv2": 0.507, "conv3": 0.446, "conv4": 0.342, "conv5": 0.385},
    "semimatching": {"conv1": 0.703, "conv2": 0.556, "conv3": 0.478, "conv4": 0.369, "conv5": 0.416},
}
_PAPER_UNITS = {
    "conv1": (0.729, 0.17),
    "conv2": (0.578, 0.37),
    "conv3": (0.617, 0.63),
    "conv4": (0.581, 0.92),
    "conv5": (0.645, 0.75),
}

Results = Mapping[str, dict[str, Any]]


def overview(found: Results) -> list[list[str]]:
    """The table of all results: headings, then a row per layer and result, means and deviations over the pairs of nets."""
    layers = dict.fromkeys(layer for summary in found.values() for layer in summary["layers"])
    there = {key for summary in found.values() for figures in summary["layers"].values() for key in figures}
    columns = [(heading, key) for heading, key in _COLUMNS if key in there]
    rows = [["layer", "method", "images", *(heading for heading, _ in columns)]]
    for layer in layers:
        for name, summary in found.items():
            if figures := summary["layers"].get(layer):
                cells = [_cell(figures, key) for _, key in columns]
                rows.append([layer, _method(name), f"{summary['images']:,}", *cells])
    return rows


def explained(found: Results) -> list[list[str]]:
    """The table of variance explained on held-out images, with the predictors per unit: headings, then a row per result.

    Methods that use fewer units come first.
    """
    layers = list(dict.fromkeys(layer for summary in found.values() for layer in summary["layers"]))
    rows = [["method", "images", *layers]]

    def used(name: str) -> tuple[float, float]:
        figures = found[name]["layers"].values()
        return -found[name]["images"], sum(of_layer.get("predictors", 0.0) for of_layer in figures)

    for name in sorted(found, key=used):
        cells = []
        for layer in layers:
            figures = found[name]["layers"].get(layer, {})
            score, units = _cell(figures, "r2_held_out"), _cell(figures, "predictors", "{:.1f}")
            cells.append("-" if score == "-" else f"{score} ({units})")
        if set(cells) != {"-"}:
            rows.append([_method(name), f"{found[name]['images']:,}", *cells])
    return rows


def controls(found: Results) -> list[list[str]]:
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
                mean_r = _PAPER_R.get(_method(name), {}).get(layer)
                row += ["-" if mean_r is None else f"{mean_r:.3f}"]
                row += [f"{share:.0%}" for share in _PAPER_UNITS.get(layer, ())] or ["-", "-"]
            rows.append(row)
    return rows


def across(found: Results) -> list[list[str]]:
    """The table over all nets at once, by the first result that has it: headings, then a row per layer.

    In brackets, where there are random rotations, the least and the greatest of them, every net on axes of its own.
    """
    layers: dict[str, Any] = next((summary["across"] for summary in found.values() if summary.get("across")), {})
    nets = max((len(figures["found_in"]) for figures in layers.values()), default=0)
    rows = [["layer", *(f"in {m}" for m in range(nets)), "mutual best", "cliques", "cycles", "consensus r"]]
    for layer, figures in layers.items():
        ends = [figures.get(f"found_in_rotated_{end}", [None] * nets) for end in ("low", "high")]
        cells = [_beside(share, low, high) for share, low, high in zip(figures["found_in"], *ends)]
        for key, how in (
            ("mutual_best", "{:.0%}"),
            ("cliques", "{:.0%}"),
            ("cycles", "{:.0%}"),
            ("consensus_r", "{:.2f}"),
        ):
            low, high = (figures.get(f"{key}_rotated_{end}") for end in ("low", "high"))
            cells.append(_beside(figures[key], low, high, how) if key in figures else "-")
        rows.append([layer, *cells])
    return rows


def _beside(value: float, low: float | None, high: float | None, how: str = "{:.0%}") -> str:
    """A figure with the range that its null has.

    >>> _beside(0.25, 0.16, 0.18), _beside(0.6, 0.5, 0.5, "{:.2f}"), _beside(0.25, None, None)
    ('25% (16-18%)', '0.60 (0.50)', '25%')
    """
    if low is None or high is None:
        return how.format(value)
    least, most = how.format(low), how.format(high)
    over = most if least == most else f"{least.removesuffix('%')}-{most}"
    return f"{how.format(value)} ({over})"


def table_1(aligned: Path, found: Results) -> list[list[str]]:
    """The paper's table 1 by the first result that has a path of penalties: headings, then a row per layer.

    A cell is the mean loss over the pairs of nets and, in brackets, the predictors per unit; beside them one unit, all
    units, and the shares of units whose code is local, slightly distributed and distributed, with their 95 % over nets.
    """
    name = next((name for name in found if (aligned / name / "path.csv").exists()), None)
    if name is None:
        return []
    rows = list(read_rows(aligned / name / "path.csv"))
    if not rows or "loss_held_out" not in rows[0]:  # with folds=0
        return []
    alphas = sorted({float(row["alpha"]) for row in rows}, reverse=True)
    table = [
        [
            "layer",
            "one unit",
            *(f"{alpha:g}" for alpha in alphas),
            "all units",
            "local",
            "slightly",
            "distributed",
            "undecided",
        ]
    ]
    for layer, figures in found[name]["layers"].items():
        cells = []
        for alpha in alphas:
            of_alpha = [row for row in rows if row["layer"] == layer and float(row["alpha"]) == alpha]
            loss, used = (
                sum(float(row[key]) for row in of_alpha) / max(1, len(of_alpha))
                for key in ("loss_held_out", "predictors")
            )
            cells.append(f"{loss:.3f} ({used:.1f})" if of_alpha else "-")
        codes = [
            _share_over_nets(figures, code) for code in ("local", "slightly_distributed", "distributed", "undecided")
        ]
        ends = [_share(figures, f"loss_{which}", "{:.3f}") for which in ("one_unit", "least_squares")]
        table.append([layer, ends[0], *cells, ends[1], *codes])
    return table


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown: headings, then rows; all but layer and method are numbers."""
    rule = ["---" if heading in ("layer", "method", "and") else "---:" for heading in rows[0]]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (rows[0], rule, *rows[1:]))


def _cell(figures: dict[str, Any], key: str, how: str = "{:.2f}") -> str:
    if key not in figures:
        return "-"
    return how.format(figures[key]) + ("" if key == "predictors" else f" ± {figures[key + '_sd']:.2f}")


def _share(figures: dict[str, Any], key: str, how: str = "{:.0%}") -> str:
    return how.format(figures[key]) if key in figures else "-"


def _share_over_nets(figures: dict[str, Any], key: str) -> str:
    """A share with its interval over nets, and what it is where net b is randomly rotated."""
    low, high = (figures.get(f"{key}_nets_{end}") for end in ("low", "high"))
    share = _share(figures, key)
    over = "" if low is None or high is None else f" ({max(0.0, low):.0%}-{min(1.0, high):.0%})"
    return f"{share}{over}" + (f", rotated {_share(figures, f'{key}_rotated')}" if f"{key}_rotated" in figures else "")


def _method(name: str) -> str:
    """The name of a result without its images, which have a column of their own."""
    return re.sub(r",images=[^,]*", "", name)
