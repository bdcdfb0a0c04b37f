"""What stays of an alignment: maps, tables and one summary of it all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from math import comb
from pathlib import Path
from typing import Any

from torch import Tensor

from convergent.analysis.across import across, rows_of_found_in, universal
from convergent.analysis.by_layer import by_layer
from convergent.analysis.null_pairs import best_by_chance, rotated_nets
from convergent.analysis.reports import Report, rows_by_table
from convergent.analysis.results import Result
from convergent.cli.align_job import AlignJob
from convergent.cli.common import Common
from convergent.cli.measured import load_rotations
from convergent.cli.measurement import Measurement
from convergent.cli.versions import versions
from convergent.core.alignment import Alignment
from convergent.core.layer_moments import LayerMoments
from convergent.core.sparse_layer_moments import SparseLayerMoments
from convergent.storage.csv_files import write_rows
from convergent.storage.files import atomic, write_json
from convergent.storage.tensors import opened, save_tensors
from convergent.streaming.rotated_pass import RotatedMoments
from convergent.training.runs import Run


@dataclass(frozen=True)
class Aligned:
    """What a job has made, in every layer, pair of nets and direction.

    Attributes:
        figures: that were drawn, PNG files.
        pictured: rows of units with their pictures, for a dashboard.
    """

    results: list[Result] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    figures: list[Path] = field(default_factory=list)
    pictured: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def joined(cls, parts: Sequence[Aligned]) -> Aligned:
        """What several parts of a job have made, in their order."""
        return cls(*([x for part in parts for x in getattr(part, kind.name)] for kind in fields(cls)))

    def summaries(self) -> list[dict[str, Any]]:
        """A row of numbers for each pair, with the scalars of its reports, those of a null by its name as an ending."""
        scalars: dict[tuple[str, str, str], dict[str, float]] = {}
        for report in self.reports:
            end = f"_{report.null}" if report.null else ""
            of_pair = scalars.setdefault((report.layer, report.a, report.b), {})
            of_pair |= {f"{name}{end}": value for name, value in report.scalars.items()}
        return [result.summary() | scalars.get((result.layer, result.a, result.b), {}) for result in self.results]

    def of_layer(self, layer: str) -> list[Result]:
        """The results of one layer."""
        return [result for result in self.results if result.layer == layer]

    def of_epoch(self, epoch: int, epochs: Mapping[str, int]) -> Aligned:
        """What was made of the nets after one epoch, given the epoch of each net."""
        results = [result for result in self.results if epochs[result.a] == epoch]
        return replace(self, results=results, reports=[report for report in self.reports if epochs[report.a] == epoch])


def summary_of(job: AlignJob, measurement: Measurement, summaries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The numbers of a result: over all pairs, layer by layer, and pair by pair; and what it was made of."""
    modules = [(net.config.net.module if isinstance(net, Run) else net.module)["_target_"] for net in job.nets]
    return {
        "method": job.label,
        "images": summaries[0]["images"],
        "noun": measurement.data.noun,
        "layers": by_layer(summaries),
        "pairs": summaries,
        "moments": str(measurement.folder.relative_to(job.config.root)),
        "nets": job.names,
        "command": job.command,
        "versions": versions(),
        "caffenet": all(str(module).endswith(".CaffeNet") for module in modules),
    }


def write(job: AlignJob, measurement: Measurement, aligned: Aligned, summary: dict[str, Any], common: Common) -> None:
    """Write summary.json, which gets what is said over all nets, and the tables; mark the folder as done."""
    folder, together = job.folder, []
    for layer, rotations in zip(measurement.load(), load_rotations(measurement)):
        every = len(layer.nets) > 2 and len(layer.pairs) == comb(len(layer.nets), 2)
        if every and not isinstance(layer, SparseLayerMoments):
            results = aligned.of_layer(layer.layer)
            scalars, rows = common.get(layer.layer, partial(_across, layer, results, rotations))
            together.append((layer.layer, scalars | universal(results), rows))
    summary["across"] = {layer: scalars for layer, scalars, _ in together}
    shares = [row for layer, scalars, _ in together for row in rows_of_found_in(layer, scalars)]
    if shares and any(result.chance for result in aligned.results):  # a partner is one above chance
        write_rows(folder / "found_in.csv", shares)
    if groups := [row for _, _, rows in together for row in rows]:
        write_rows(folder / "groups.csv", groups)
    write_json(folder / "summary.json", summary)
    write_rows(folder / "scores.csv", [row for result in aligned.results for row in result.rows()])
    for name, rows in rows_by_table(aligned.reports).items():
        write_rows(folder / f"{name}.csv", rows)
    (folder / "done").touch()


def _across(
    layer: LayerMoments, results: Sequence[Result], rotations: RotatedMoments | None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    return across(layer, results, rotated_nets(rotations), best_by_chance(rotations))


def along_training(summaries: Sequence[dict[str, Any]], epochs: Mapping[str, int]) -> dict[int, list[dict[str, Any]]]:
    """The summaries of each epoch, where nets are compared along their training."""
    rows: dict[int, list[dict[str, Any]]] = {epoch: [] for epoch in sorted(set(epochs.values()))}
    for summary in summaries if epochs else ():
        if epochs[summary["a"]] == epochs[summary["b"]]:
            rows[epochs[summary["a"]]].append(summary)
    return {epoch: of_epoch for epoch, of_epoch in rows.items() if of_epoch}


def question_of(folder: Path, results: Sequence[Result]) -> str:
    """Which of `workspace.QUESTIONS` a method answers, by its alignments: clusters, one partner for each unit, or few."""
    with opened(folder / "alignments" / f"{results[0].layer}.safetensors") as saved:
        if any(name.endswith("labels_b") for name in saved.keys()):  # noqa: SIM118  (no mapping)
            return "many"
    return "one" if max(result.predictors_b.max() for result in results) <= 1 else "few"


def tensors_of(alignment: Alignment, reports: Sequence[Report]) -> dict[str, Tensor]:
    """What is saved of an alignment: its map's nonzero entries, (unit of a, unit of b) and weight, and its shape.

    They are named "A to B/index_ab" (2, nonzero), "A to B/weight" (nonzero,), "A to B/shape" (2,) and, where the method
    clusters, "A to B/labels_a", "A to B/labels_b", or where a tree is made of its map "A to B/tree_a", "A to B/tree_b".
    """
    sparse, labels = alignment.map_ab.to_sparse().coalesce(), (alignment.labels_a, alignment.labels_b)
    tensors = {"index_ab": sparse.indices(), "weight": sparse.values()}
    tensors["shape"] = sparse.indices().new_tensor(sparse.shape)
    for kind, both in (("labels", labels), *(("tree", report.tree or ()) for report in reports)):
        tensors |= {f"{kind}_{side}": label_u for side, label_u in zip("ab", both) if label_u is not None}
    return {f"{alignment.pair.name_a} to {alignment.pair.name_b}/{name}": value for name, value in tensors.items()}


def save_alignments(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Save one layer's alignments, see `tensors_of`."""
    with atomic(file) as partial:
        save_tensors(tensors, partial)
