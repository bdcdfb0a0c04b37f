"""What stays of an alignment: maps, tables and one summary of it all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import comb
from pathlib import Path
from typing import Any

from convergent.analysis.across import across
from convergent.analysis.findings import Findings, rows_by_table
from convergent.analysis.null_pairs import best_by_chance, rotated_nets
from convergent.analysis.results import Result, by_layer
from convergent.cli.align_job import AlignJob
from convergent.cli.measured import load_rotations
from convergent.cli.measurement import Measurement
from convergent.cli.versions import versions
from convergent.core.alignment import Alignment
from convergent.storage.csv_files import write_rows
from convergent.storage.files import atomic, write_json
from convergent.storage.tensors import opened, save_tensors
from convergent.training.runs import Run


@dataclass(frozen=True)
class Aligned:
    """What a method found, in every layer, pair of nets and direction.

    Attributes:
        results: of every pair.
        told: what the method tells more.
        figures: that were drawn, PNG files.
        pictured: rows of units with their pictures, for a dashboard.
    """

    results: list[Result] = field(default_factory=list)
    told: list[Findings] = field(default_factory=list)
    figures: list[Path] = field(default_factory=list)
    pictured: list[dict[str, Any]] = field(default_factory=list)

    def summaries(self) -> list[dict[str, Any]]:
        """A row of numbers for each pair, with those of the method itself."""
        return [result.summary() | findings_of(self.told, result) for result in self.results]

    def of_layer(self, layer: str) -> list[Result]:
        """The results of one layer."""
        return [result for result in self.results if result.layer == layer]

    def of_epoch(self, epoch: int, epochs: Mapping[str, int]) -> Aligned:
        """What was found of the nets after one epoch, given the epoch of each net."""
        results = [result for result in self.results if epochs[result.a] == epoch]
        return replace(self, results=results, told=[of for of in self.told if epochs[of.a] == epoch])


def summary_of(job: AlignJob, measurement: Measurement, summaries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The numbers of a result: over all pairs, layer by layer, and pair by pair; and what it was made of."""
    modules = [
        net.config.net.module["_target_"] if isinstance(net, Run) else net.module["_target_"] for net in job.nets
    ]
    return {
        "method": job.label,
        "images": summaries[0]["images"],
        "layers": by_layer(summaries),
        "pairs": summaries,
        "moments": str(measurement.folder.relative_to(job.config.root)),
        "nets": job.names,
        "command": job.command,
        "versions": versions(),
        "caffenet": all(str(module).endswith(".CaffeNet") for module in modules),
    }


def keep(job: AlignJob, measurement: Measurement, found: Aligned, summary: dict[str, Any]) -> dict[str, Any]:
    """Write summary.json and the tables, and mark the folder as done; returns what the method's own tables hold."""
    folder = job.folder
    together = [
        (layer.layer, *across(layer, found.of_layer(layer.layer), rotated_nets(rotations), best_by_chance(rotations)))
        for layer, rotations in zip(measurement.load(), load_rotations(measurement))
        if len(layer.nets) > 2 and len(layer.pairs) == comb(len(layer.nets), 2)
    ]
    summary["across"] = {layer: figures for layer, figures, _ in together}
    if groups := [row for _, _, rows in together for row in rows]:
        write_rows(folder / "groups.csv", groups)
    write_json(folder / "summary.json", summary)
    write_rows(folder / "scores.csv", [row for result in found.results for row in result.rows()])
    tables = rows_by_table(found.told)
    for name, rows in tables.items():
        write_rows(folder / f"{name}.csv", rows)
    (folder / "done").touch()
    return tables


def findings_of(told: Sequence[Findings], result: Result) -> dict[str, float]:
    """The numbers that the method itself tells of a result's pair, and of chance in it."""
    figures: dict[str, float] = {}
    for of in told:
        if (of.layer, of.a, of.b) == (result.layer, result.a, result.b):
            figures |= {f"{name}_{of.null}" if of.null else name: value for name, value in of.figures.items()}
    return figures


def scalars(figures: Mapping[str, Any]) -> dict[str, float]:
    """Figures over all nets one by one, for a dashboard."""
    found: dict[str, float] = {}
    for name, value in figures.items():
        many = (
            {f"{name}_{m}_others": share for m, share in enumerate(value)} if isinstance(value, list) else {name: value}
        )
        found |= many
    return found


def along_training(summaries: Sequence[dict[str, Any]], epochs: Mapping[str, int]) -> dict[int, list[dict[str, Any]]]:
    """The summaries of each epoch, where nets are compared along their training."""
    found: dict[int, list[dict[str, Any]]] = {epoch: [] for epoch in sorted(set(epochs.values()))}
    for summary in summaries if epochs else ():
        if epochs[summary["a"]] == epochs[summary["b"]]:
            found[epochs[summary["a"]]].append(summary)
    return {epoch: rows for epoch, rows in found.items() if rows}


def question_of(folder: Path, results: Sequence[Result]) -> str:
    """Which of `workspace.QUESTIONS` a method answers, by what it found: clusters, one partner for each unit, or few."""
    with opened(folder / "alignments" / f"{results[0].layer}.safetensors") as saved:
        if any(name.endswith("labels_b") for name in saved.keys()):  # noqa: SIM118  (no mapping)
            return "many"
    return "one" if max(result.predictors_b.max() for result in results) <= 1 else "few"


def save_alignments(file: Path, alignments: Mapping[str, Alignment], told: Sequence[Findings] = ()) -> None:
    """Save one layer's alignments: of each map its nonzero entries, (unit of a, unit of b) and weight, and its shape.

    Tensors are named "A to B/index_ab" (2, nonzero), "A to B/weight" (nonzero,), "A to B/shape" (2,) and, where the method
    clusters, "A to B/labels_a", "A to B/labels_b", or where it makes a tree of its map "A to B/tree_a", "A to B/tree_b".
    """
    tensors = {}
    for name, alignment in alignments.items():
        sparse = alignment.map_ab.to_sparse().coalesce()
        tensors[f"{name}/index_ab"], tensors[f"{name}/weight"] = sparse.indices(), sparse.values()
        tensors[f"{name}/shape"] = sparse.indices().new_tensor(sparse.shape)
        for side in ("labels_a", "labels_b"):
            if (labels := getattr(alignment, side)) is not None:
                tensors[f"{name}/{side}"] = labels
    for of in told:
        if of.tree and not of.null:
            tensors[f"{of.a} to {of.b}/tree_a"], tensors[f"{of.a} to {of.b}/tree_b"] = of.tree
    with atomic(file) as partial:
        save_tensors(tensors, partial)
