"""Aligns trained nets by one method: every layer, every pair, both directions."""

from __future__ import annotations

import csv
from itertools import permutations
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from rich.console import Console
from rich.progress import track
from safetensors.torch import save_file

from convergent.alignment import Alignment
from convergent.dashboard import log_alignment, start_logger
from convergent.figures.correlations import correlations
from convergent.figures.curves import curves
from convergent.figures.means import means
from convergent.figures.style import save
from convergent.folders import atomic, claim, first_process, write_json
from convergent.jobs import AlignJob
from convergent.measure import LayerMoments, Measurement
from convergent.report import show
from convergent.results import Result, by_layer, compare
from convergent.train import build_data, build_trainer


def align(job: AlignJob) -> None:
    """Align every pair of the job's nets, in both directions, and keep the result in its folder.

    Raises:
        InputError: for whatever the user can mend.
    """
    config, folder = job.config, job.folder
    method = instantiate(config.method)
    data = build_data(job.runs[0].config, measure=job.record.images)
    cache = Path(config.root) / "outputs" / "moments"
    measurement = Measurement(job.runs, data, config.sample, config.blocks, config.block_memory * 1e9, cache)
    measured = measurement.layers(job.layers, lambda callbacks: build_trainer(config, callbacks, logger=False))
    if not first_process():
        list(measured)
        return
    first = next(measured)  # whatever is wrong with nets, layers or images shows before a folder is made
    claim(folder, job.record, force=config.force, other="label=")
    logger = start_logger(config.logger, job.record, folder, job.name, job.label, "align")

    results: list[Result] = []
    figures: list[Path] = []
    for layer in _and_rest(first, measured, len(job.layers), f"aligning by {job.label}"):
        alignments = {}
        for a, b in permutations(range(len(job.runs)), 2):
            pair = layer.pair(a, b)
            alignment, result = compare(method, pair, layer.images, config.folds)
            results.append(result)
            alignments[f"{pair.name_a} to {pair.name_b}"] = alignment
            if (a, b) == (0, 1):
                figures.append(save(correlations(pair, alignment), folder / "figures", f"correlations-{layer.layer}"))
        save_alignments(folder / "alignments" / f"{layer.layer}.safetensors", alignments)

    summaries = [result.summary() for result in results]
    kind = config.method._target_.rpartition(".")[0].rpartition(".")[2]
    figures += [save(curves(results, kind), folder / "figures", "curves")]
    figures += [save(means(summaries, kind), folder / "figures", "means")]
    table = by_layer(summaries)
    summary = {"method": job.label, "images": first.images, "layers": table, "pairs": summaries}
    write_json(folder / "summary.json", summary)
    write_rows(folder / "scores.csv", [row for result in results for row in result.rows()])
    (folder / "done").touch()
    files = [folder / "summary.json", folder / "scores.csv", *sorted((folder / "alignments").iterdir())]
    log_alignment(logger, table, results, figures, files, f"{job.name}-{job.label}")
    show({job.label: summary}, job.name)
    print(f"figures and tables in {folder}")


def save_alignments(file: Path, alignments: dict[str, Alignment]) -> None:
    """Save one layer's alignments: of each map its nonzero entries, (unit of a, unit of b) and weight, and its shape.

    Tensors are named "A to B/index_ab" (2, nonzero), "A to B/weight" (nonzero,), "A to B/shape" (2,) and, where the method
    clusters, "A to B/labels_a", "A to B/labels_b".
    """
    tensors = {}
    for name, alignment in alignments.items():
        sparse = alignment.map_ab.to_sparse().coalesce()
        tensors[f"{name}/index_ab"], tensors[f"{name}/weight"] = sparse.indices(), sparse.values()
        tensors[f"{name}/shape"] = sparse.indices().new_tensor(sparse.shape)
        for side in ("labels_a", "labels_b"):
            if (labels := getattr(alignment, side)) is not None:
                tensors[f"{name}/{side}"] = labels
    with atomic(file) as partial:
        save_file(tensors, partial)


def write_rows(file: Path, rows: list[dict[str, Any]]) -> None:
    """Write a table as CSV, whole or not at all."""
    with atomic(file) as partial, partial.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _and_rest(first: LayerMoments, rest: Any, total: int, title: str) -> Any:
    """All layers, with a progress bar where there is a terminal."""

    def chain() -> Any:
        yield first
        yield from rest

    console = Console()
    return track(chain(), title, total, console=console, disable=not console.is_terminal, transient=True)
