"""Aligns trained nets by one method: every layer, every pair, both directions."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning import Callback, Trainer
from torch import Tensor

from convergent.analysis.all_layers import pairs_of_layers, rows_of_layers
from convergent.analysis.by_layer import by_layer
from convergent.analysis.depth import reports_of_depth
from convergent.analysis.measures import measured
from convergent.analysis.reports import Analysis, null_reports, reports_of
from convergent.analysis.results import compare
from convergent.cli.align_job import AlignJob
from convergent.cli.dashboard import log_alignment, start_logger
from convergent.cli.folders import abandon, claim
from convergent.cli.judging import Judging
from convergent.cli.measured import (
    after_stop,
    load_all_layers,
    load_pairs,
    measurements_of,
    patches_of,
    widths_of,
    without_constant,
)
from convergent.cli.measurement import Measurement
from convergent.cli.processes import first_process, leave_group
from convergent.cli.texts import contexts_of, reports_of_contexts
from convergent.cli.train import build_trainer, stoppable
from convergent.cli.writing import Aligned, along_training, question_of, save_alignments, summary_of, tensors_of, write
from convergent.core.alignment import Alignment, Method
from convergent.errors import InputError
from convergent.figures.grid import save
from convergent.figures.registry import Draw, drawn
from convergent.progress import took, track
from convergent.report.unit_pictures import contexts_of_pair, drawings_of, filters_of, pictured_rows
from convergent.similarity.measure import Measure
from convergent.storage.csv_files import write_rows
from convergent.streaming.patches import Patches


@dataclass(frozen=True)
class _Parts:
    """What a job is made of, by the names in its configuration: a method, and what says something of its alignments."""

    method: Method
    analyses: Mapping[str, Analysis]
    measures: Mapping[str, Measure]
    figures: Mapping[str, Draw]


def align(job: AlignJob) -> None:
    """Align every pair of the job's nets, in both directions, and keep the result in its folder.

    Raises:
        InputError: for whatever the user can mend.
        OSError: if the disk is full or otherwise not to be written to.
    """
    config, folder, began = job.config, job.folder, time.monotonic()
    parts = _Parts(*(instantiate(config[group]) for group in ("method", "analysis", "similarity", "figure")))
    measurement, shuffled = measurements_of(job, parts.method, parts.measures.values())
    trainer = partial(_trainer, config)
    with stoppable(lambda: after_stop(measurement, shuffled)):
        for each in [measurement, shuffled] if shuffled else [measurement]:
            each.ensure(trainer)
        judging = Judging.begin(job, measurement, trainer, parts.measures) if config.function else None
        if judging is None:
            leave_group()
        elif not first_process():
            judging.assist()
    if not first_process():
        return
    measurement, shuffled = without_constant(measurement, shuffled)
    patches = patches_of(measurement, config.pictures)
    claim(folder, job.record, force=job.anew, other="label=")
    logger = start_logger(config.logger, job.record, folder, job.name, job.label, "align")
    try:
        aligned = _align_pairs(job, parts, measurement, shuffled, patches, judging)
        layer_pairs = _compare_layers(job, parts, measurement)
    except (InputError, OSError):  # a method that cannot do what it was asked for with these nets, a full disk
        abandon(folder)
        raise
    aligned.reports.extend(reports_of_contexts(measurement, aligned.results))
    aligned.reports.extend(reports_of_depth(aligned.results, widths_of(measurement)))
    summaries = aligned.summaries()
    along = along_training(summaries, job.epochs)
    if along:  # all but one figure, and the tables, show the last epoch
        aligned, summaries = aligned.of_epoch(max(along), job.epochs), along[max(along)]
    figures = drawn(
        parts.figures, results=aligned.results, reports=aligned.reports, summaries=summaries, method=job.method,
        layers=list(measurement.load()), epochs=along, layer_pairs=layer_pairs,
    )  # fmt: skip
    aligned.figures.extend(save(figure, folder / "figures", name) for name, figure in figures)
    summary = summary_of(job, measurement, summaries)
    if along:
        summary["epochs"] = {str(epoch): by_layer(rows) for epoch, rows in along.items()}
    if layer_pairs:
        write_rows(folder / "layers.csv", layer_pairs)
    write(job, measurement, aligned, summary)
    files = [folder / "summary.json", *sorted(folder.glob("*.csv")), *sorted((folder / "alignments").iterdir())]
    question = question_of(folder, aligned.results)
    log_alignment(logger, f"{job.name}-{job.label}", aligned, summary, files, question)
    of_layers = summary["layers"].items()
    mean_r = ", ".join(f"{layer} {scalars['mean_r']:.2f}" for layer, scalars in of_layers if "mean_r" in scalars)
    print(f"{job.name} {job.label}: mean r {mean_r}, in {folder}, {took(began)}", flush=True)


def _trainer(config: DictConfig, callbacks: list[Callback]) -> Trainer:
    return build_trainer(config, callbacks, logger=False)


def _align_pairs(
    job: AlignJob,
    parts: _Parts,
    measurement: Measurement,
    shuffled: Measurement | None,
    patches: Sequence[Mapping[str, Mapping[str, Patches]]],
    judging: Judging | None,
) -> Aligned:
    """Align every pair of nets in both directions, layer by layer; maps, which may be large, go to disk as they come."""
    aligned = Aligned()
    layers = load_pairs(measurement, shuffled, job.evaluation)
    if judging is None:  # whose passes have bars of their own
        layers = track(layers, f"aligning by {job.label}", len(measurement.layers))
    for layer, pairs, nulls in layers:
        tensors: dict[str, Tensor] = {}
        first = len(aligned.results)
        for number, (a, b) in enumerate(layer.pairs):
            pair, evaluation = pairs(a, b), job.evaluation
            similarity = measured(
                parts.measures,
                pair,
                nulls.of(a, b),
                intervals=evaluation.measure_intervals,
                units=evaluation.measure_units,
            )
            for directed, of, values in ((pair, (a, b), similarity[0]), (pair.flip(), (b, a), similarity[1])):
                null_pairs = nulls.of(*of)
                alignment, result = compare(
                    parts.method, directed, layer.images, null_pairs, nulls.rotated_a(*of), values,
                    interval=evaluation.intervals,
                )  # fmt: skip
                reports = reports_of(parts.analyses, alignment)
                aligned.results.append(result)
                aligned.reports.extend([*reports, *null_reports(parts.analyses, alignment, null_pairs)])
                tensors |= tensors_of(alignment, reports)
                if judging:
                    judging.add(alignment, *of, nulls)
                if number == 0 and directed is pair and not pair.sparse:
                    _draw_pair(job, parts, aligned, alignment, [every[layer.layer] for every in patches], measurement)
        save_alignments(job.folder / "alignments" / f"{layer.layer}.safetensors", tensors)
        if judging:
            aligned.results[first:], reports = judging.judge_layer(layer, pairs, nulls, aligned.results[first:])
            aligned.reports.extend(reports)
    if judging:
        judging.end()
    return aligned


def _compare_layers(job: AlignJob, parts: _Parts, measurement: Measurement) -> list[dict[str, Any]]:
    """Compare every layer with every other, where that was asked for: a row each."""
    if (sites := load_all_layers(measurement)) is None:
        return []
    pairs = pairs_of_layers(sites, job.pairs, job.evaluation.folds)
    total = len(sites.nets) * (len(sites.nets) - 1) // 2
    pairs, units = track(pairs, "comparing all layers", total), job.evaluation.measure_units
    return rows_of_layers(pairs, sites.images, parts.measures, parts.method, units)


def _draw_pair(
    job: AlignJob,
    parts: _Parts,
    aligned: Aligned,
    alignment: Alignment,
    patches: Sequence[Mapping[str, Patches]],
    measurement: Measurement,
) -> None:
    """The figures of one pair of nets: those that the configuration names, and the units' pictures."""
    layer = alignment.pair.layer
    reports = [report for report in aligned.reports if report.layer == layer and not report.null]
    tables = {name: rows for report in reports for name, rows in report.tables.items()}
    pictures = drawings_of(alignment, patches, tables) | filters_of(alignment, measurement.modules(layer))
    pictures |= contexts_of_pair(alignment, contexts_of(measurement, layer))
    aligned.pictured.extend(pictured_rows(alignment, patches[0]) if patches else [])
    drawings = ((name, draw()) for name, draw in pictures.items())
    for name, figure in [*drawn(parts.figures, alignment=alignment, reports=reports), *drawings]:
        aligned.figures.append(save(figure, job.folder / "figures", f"{name}-{layer}"))
