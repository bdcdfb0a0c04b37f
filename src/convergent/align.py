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

from convergent.alignment import Alignment, Method
from convergent.dashboard import log_alignment, start_logger
from convergent.figures.correlations import correlations
from convergent.figures.curves import curves
from convergent.figures.means import means
from convergent.figures.style import save
from convergent.folders import atomic, claim, first_process, write_json
from convergent.jobs import AlignJob
from convergent.results import Result, by_layer, compare
from convergent.saved_moments import Measurement
from convergent.train import build_data, build_trainer, stoppable


def align(job: AlignJob) -> None:
    """Align every pair of the job's nets, in both directions, and keep the result in its folder.

    Raises:
        InputError: for whatever the user can mend.
    """
    config, folder = job.config, job.folder
    measurement = Measurement(
        runs=job.runs,
        data=build_data(job.runs[0].config, measure=job.record.images),
        sample=config.sample,
        blocks=config.blocks,
        block_memory=config.block_memory * 1e9,
        products=config.products,
        cache=Path(config.root) / "outputs" / "moments",
    )
    method = instantiate(config.method)
    with stoppable():
        measurement.ensure(job.layers, lambda callbacks: build_trainer(config, callbacks, logger=False))
    if not first_process():
        return
    claim(folder, job.record, force=config.force, other="label=")
    logger = start_logger(config.logger, job.record, folder, job.name, job.label, "align")
    results, figures = _align_pairs(job, method, measurement)
    summaries = [result.summary() for result in results]
    kind = type(method).__name__.lower()
    figures += [save(curves(results, kind), folder / "figures", "curves")]
    figures += [save(means(summaries, kind), folder / "figures", "means")]
    layers = by_layer(summaries)
    summary = {"method": job.label, "images": results[0].images, "layers": layers, "pairs": summaries}
    write_json(folder / "summary.json", summary)
    write_rows(folder / "scores.csv", [row for result in results for row in result.rows()])
    (folder / "done").touch()
    files = [folder / "summary.json", folder / "scores.csv", *sorted((folder / "alignments").iterdir())]
    log_alignment(logger, layers, results, figures, files, f"{job.name}-{job.label}")
    mean_r = ", ".join(f"{layer} {found['mean_r']:.2f}" for layer, found in layers.items() if "mean_r" in found)
    print(f"{job.name} {job.label}: mean r {mean_r}, in {folder}", flush=True)


def _align_pairs(job: AlignJob, method: Method, measurement: Measurement) -> tuple[list[Result], list[Path]]:
    """Align every ordered pair of nets, layer by layer; maps go to disk as they come, for they may be large."""
    results: list[Result] = []
    figures: list[Path] = []
    console = Console()
    hidden = not console.is_terminal
    for layer in track(
        measurement.load(job.layers),
        f"aligning by {job.label}",
        len(job.layers),
        console=console,
        transient=True,
        disable=hidden,
    ):
        alignments = {}
        for a, b in permutations(range(len(job.runs)), 2):
            pair = layer.pair(a, b)
            alignment, result = compare(method, pair, layer.images, job.config.folds)
            results.append(result)
            alignments[f"{pair.name_a} to {pair.name_b}"] = alignment
            if (a, b) == (0, 1):
                figure = correlations(pair, alignment)
                figures.append(save(figure, job.folder / "figures", f"correlations-{layer.layer}"))
        save_alignments(job.folder / "alignments" / f"{layer.layer}.safetensors", alignments)
    return results, figures


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
