"""Tables over all finished methods of an experiment: headings, then rows of cells."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import combinations, product
from statistics import fmean, pstdev
from typing import Any

from convergent.analysis.cluster_agreement import adjusted_rand
from convergent.report.loading import Finished
from convergent.storage.csv_files import read_rows

Table = list[list[str]]

# Columns: heading, cells. A cell shows scalars of summary.json, by the first text whose scalars are all there.
_Columns = Sequence[tuple[str, ...]]
_SUMMARY: _Columns = (
    ("mean r", "{mean_r:.2f} ± {mean_r_sd:.2f}"),
    ("R² fitted", "{r2_in_sample:.2f} ± {r2_in_sample_sd:.2f}"),
    ("R² held out", "{r2_held_out:.2f} ± {r2_held_out_sd:.2f}"),
    ("median", "{r2_held_out_median:.2f} ± {r2_held_out_median_sd:.2f}"),
    ("predictors", "{predictors:.2f}"),
)
_CONTROLS: _Columns = (
    ("r, 95%", "{mean_r_nets_low:.2f}-{mean_r_nets_high:.2f}", "{mean_r_low:.2f}-{mean_r_high:.2f}"),
    ("rotated", "{mean_r_rotated:.2f}"),
    ("shuffled", "{mean_r_shuffled:.2f}"),
    ("above", "{above_rotated:.0%}"),
    ("agree", "{agreement:.0%}"),
    ("<0.5", "{best_r_below_half:.0%}"),
)
_CLUSTERS: _Columns = (
    ("clusters", "{solver_clusters:.1f}"),
    ("unassigned", "{solver_isolated:.1f}"),
    ("unequal sizes", "{unequal:.0%}"),
    ("similarity", "{similarity_between:.2f}"),
    ("(rotated)", "{similarity_between_rotated:.2f}"),
    ("ARI", "{rand:.2f}"),
    ("subspace R²", "{subspace_span_explained:.2f}"),
    ("(rotated)", "{subspace_span_explained_rotated:.2f}"),
    ("unit r²", "{subspace_matched_explained:.2f}"),
    ("(rotated)", "{subspace_matched_explained_rotated:.2f}"),
    ("within-cluster rotation", "{subspace_rotated_within_explained:.2f}"),
    ("random", "{subspace_random_explained:.2f}"),
)
_ABOVE = "same_decision_above_rotated"
_FUNCTION: _Columns = (
    ("kept", "{kept:.0%}"),
    (
        "restored",
        "{kept_restored:.0%} ({kept_restored_nets_low:.0%}-{kept_restored_nets_high:.0%})",
        "{kept_restored:.0%}",
    ),
    ("rotated", "{kept_rotated_restored:.0%}"),
    ("untrained", "{kept_untrained_restored:.0%}"),
    ("permuted", "{kept_permuted_restored:.0%}"),
    ("same decision", "{same_decision_restored:.1%}"),
    ("above rotated", f"{{{_ABOVE}:.2f}} ({{{_ABOVE}_nets_low:.2f}}-{{{_ABOVE}_nets_high:.2f}})", f"{{{_ABOVE}:.2f}}"),
)
_CODES = {
    "local": "local", "slightly": "slightly_distributed", "distributed": "distributed", "undecided": "undecided"
}  # fmt: skip
_ACROSS = {
    "mutual best": "mutual_best", "cliques": "cliques", "cycles": "cycles", "consensus r": "consensus_r", "GCCA": "gcca",
}  # fmt: skip
_TEXT = (
    "layer",
    "method",
    "alignment",
    "and",
    "column",
    "meaning",
    "range",
    "measure",
)  # headings of what is no number

# The paper's own figures, Net1 to Net2 of CaffeNet on ImageNet: mean r by method, share of units on which matching and
# semi-matching agree, share of units whose best r is below 0.5. Source: Li et al. 2016, section 3, from the authors' logs.
_PAPER_R = {
    "matching": {"conv1": 0.663, "conv2": 0.507, "conv3": 0.446, "conv4": 0.342, "conv5": 0.385},
    "semimatching": {"conv1": 0.703, "conv2": 0.556, "conv3": 0.478, "conv4": 0.369, "conv5": 0.416},
}
_PAPER_UNITS = {
    "conv1": (0.729, 0.17), "conv2": (0.578, 0.37), "conv3": (0.617, 0.63), "conv4": (0.581, 0.92), "conv5": (0.645, 0.75),
}  # fmt: skip


def summary(results: Sequence[Finished]) -> Table:
    """The table of all results: a row per layer and result, means and deviations over the pairs of nets."""
    rows = _by_layer(results, _SUMMARY)
    some = [place for place in range(len(rows[0])) if place < 3 or any(row[place] != "-" for row in rows[1:])]
    return [[row[place] for place in some] for row in rows]


def explained(results: Sequence[Finished]) -> Table:
    """The table of variance explained on held-out images, with the predictors per unit: a row per result.

    Methods of fewer predictors come first.
    """
    layers = _layers(results)
    rows = [["method", "images", *layers]]

    def predictors(result: Finished) -> tuple[int, float]:
        return -result.images, sum(scalars.get("predictors", 0.0) for scalars in result.layers.values())

    for result in sorted(results, key=predictors):
        text = "{r2_held_out:.2f} ± {r2_held_out_sd:.2f} ({predictors:.1f})"
        cells = [_cell(result.layers.get(layer, {}), text) for layer in layers]
        if set(cells) != {"-"}:
            rows.append([result.name, f"{result.images:,}", *cells])
    return rows


def controls(results: Sequence[Finished]) -> Table:
    """The table of mean correlations with interval, agreement and nulls: a row per layer and result."""
    rows = _by_layer(results, _CONTROLS, "mean_r")
    if any(result.summary.get("caffenet") for result in results):
        rows[0] += ["paper: mean r", "agree", "r < 0.5"]
        for row in rows[1:]:
            mean_r = _PAPER_R.get(row[1], {}).get(row[0])
            row += ["-" if mean_r is None else f"{mean_r:.3f}"]
            row += [f"{share:.0%}" for share in _PAPER_UNITS.get(row[0], ())] or ["-", "-"]
    return rows


def clusters(results: Sequence[Finished]) -> Table:
    """The table of clusterings: a row per layer and result, means over the ordered pairs of nets."""
    return _by_layer(results, _CLUSTERS, "similarity_between")


def function(results: Sequence[Finished]) -> Table:
    """The table of what is left of decisions with a layer predicted from another net's: a row per layer and result."""
    return _by_layer(results, _FUNCTION, "kept_restored")


def across(results: Sequence[Finished]) -> Table:
    """The table over all nets at once, by the first result that has it: a row per layer.

    In brackets, where there are random rotations, the least and the greatest of them, every net on axes of its own.
    """
    layers: dict[str, Any] = next(filter(None, (result.summary.get("across") for result in results)), {})
    nets = max((len(scalars["found_in"]) for scalars in layers.values()), default=0)
    rows = [["layer", *(f"in {m}" for m in range(nets)), *_ACROSS]]
    for layer, scalars in layers.items():
        ends = [scalars.get(f"found_in_rotated_{end}", [None] * nets) for end in ("low", "high")]
        cells = [beside(share, low, high) for share, low, high in zip(scalars["found_in"], *ends)]
        for name in _ACROSS.values():
            low, high = (scalars.get(f"{name}_rotated_{end}") for end in ("low", "high"))
            style = ".2f" if name in ("consensus_r", "gcca") else ".0%"
            cells.append(beside(scalars[name], low, high, style) if name in scalars else "-")
        rows.append([layer, *cells])
    return rows


def beside(value: float, low: float | None, high: float | None, style: str = ".0%") -> str:
    """A figure with the range that its null has.

    >>> beside(0.25, 0.16, 0.18), beside(0.6, 0.5, 0.5, ".2f"), beside(0.25, None, None)
    ('25% (16-18%)', '0.60 (0.50)', '25%')
    """
    if low is None or high is None:
        return f"{value:{style}}"
    least, most = f"{low:{style}}", f"{high:{style}}"
    ends = most if least == most else f"{least.removesuffix('%')}-{most}"
    return f"{value:{style}} ({ends})"


def table_1(results: Sequence[Finished]) -> Table:
    """The paper's table 1 by the first result that has a path of penalties: a row per layer.

    A cell is the mean loss over the pairs of nets and, in brackets, the predictors per unit; beside them one unit, all
    units, and the shares of units whose code is local, slightly distributed and distributed, with their 95% over nets.
    """
    result = next((result for result in results if (result.folder / "path.csv").exists()), None)
    rows = list(read_rows(result.folder / "path.csv")) if result else []
    if not result or not rows or "loss_held_out" not in rows[0]:  # with folds=0
        return []
    alphas = sorted({float(row["alpha"]) for row in rows}, reverse=True)
    table = [["layer", "one unit", *(f"{alpha:g}" for alpha in alphas), "all units", *_CODES]]
    for layer, scalars in result.layers.items():
        cells = []
        for alpha in alphas:
            at = [row for row in rows if row["layer"] == layer and float(row["alpha"]) == alpha]
            means = [fmean(float(row[key]) for row in at) for key in ("loss_held_out", "predictors") if at]
            cells.append("{:.3f} ({:.1f})".format(*means) if at else "-")
        single, every = (_cell(scalars, f"{{loss_{which}:.3f}}") for which in ("one_unit", "least_squares"))
        table.append([layer, single, *cells, every, *(_code(scalars, code) for code in _CODES.values())])
    return table


def agreement(results: Sequence[Finished]) -> Table:
    """The table of how far two clusterings agree, one of which may be a tree's: a row per layer and two.

    Adjusted Rand index over the units that both put into a cluster, whose share stands beside it, for a tree clusters only
    some: mean and deviation over the ordered pairs of nets.
    """
    rows = [["layer", "method", "and", "images", "units", "adjusted Rand"]]
    for layer in _layers(results):
        there = [result for result in results if layer in result.layers]
        labelled = [(result, result.name, result.labels(layer)) for result in there]
        trees = [(result, f"tree of {result.name}", result.labels(layer, "tree")) for result in there]
        for (first, name, label), (second, other, label_2) in [*combinations(labelled, 2), *product(trees, labelled)]:
            pairs = [pair for pair in label if pair in label_2] if first.setting == second.setting else []
            if pairs:
                indices = [adjusted_rand(label[pair], label_2[pair]) for pair in pairs]
                both = fmean(float(((label[pair] >= 0) & (label_2[pair] >= 0)).double().mean()) for pair in pairs)
                index = f"{fmean(indices):.2f} ± {pstdev(indices):.2f}"
                rows.append([layer, name, other, f"{first.images:,}", f"{both:.0%}", index])
    return rows


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown: headings, then rows."""
    rule = ["---" if heading in _TEXT else "---:" for heading in rows[0]]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (rows[0], rule, *rows[1:]))


def text_columns(rows: Table) -> int:
    """How many columns, at the beginning, are no numbers."""
    return sum(heading in _TEXT for heading in rows[0])


def _by_layer(results: Sequence[Finished], columns: _Columns, needed: str = "") -> Table:
    """A row per layer and result, of those that have a scalar."""
    rows = [["layer", "method", "images", *(heading for heading, *_ in columns)]]
    for layer, result in ((layer, result) for layer in _layers(results) for result in results):
        scalars = result.layers.get(layer)
        if scalars and (not needed or needed in scalars):
            cells = [_cell(scalars, *texts) for _, *texts in columns]
            rows.append([layer, result.name, f"{result.images:,}", *cells])
    return rows


def _layers(results: Sequence[Finished]) -> list[str]:
    return list(dict.fromkeys(layer for result in results for layer in result.layers))


def _cell(scalars: Mapping[str, Any], *texts: str) -> str:
    """The first text whose scalars are all there."""
    for text in texts:
        with suppress(KeyError):
            return text.format_map(scalars)
    return "-"


def _code(scalars: Mapping[str, Any], code: str) -> str:
    """A share with its interval over nets, and what it is where net b is randomly rotated."""
    with_ends = f"{{{code}:.0%}} ({{{code}_nets_low:.0%}}-{{{code}_nets_high:.0%}})"
    share, rotated = _cell(scalars, with_ends, f"{{{code}:.0%}}"), f"{code}_rotated"
    return share + (f", rotated {scalars[rotated]:.0%}" if rotated in scalars else "")
