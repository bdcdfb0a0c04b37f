"""Aligns trained nets by one method: every layer, every pair, both directions."""

from __future__ import annotations

import time
from functools import partial

from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning import Callback, Trainer

from convergent.analysis.by_layer import by_layer
from convergent.analysis.depth import reports_of_depth
from convergent.cli.align_job import AlignJob
from convergent.cli.common import Common
from convergent.cli.dashboard import log_alignment, start_logger
from convergent.cli.folders import abandon, claim
from convergent.cli.judging import Judging
from convergent.cli.layer_pairs import compare_layers
from convergent.cli.measured import (
    after_stop,
    load_pairs,
    measurements_of,
    patches_of,
    widths_of,
    without_constant,
)
from convergent.cli.measurement import Measurement
from convergent.cli.pairs import Pairs, Parts
from convergent.cli.processes import first_process, leave_group
from convergent.cli.texts import reports_of_contexts
from convergent.cli.train import build_trainer, stoppable
from convergent.cli.writing import along_training, question_of, summary_of, write
from convergent.errors import InputError
from convergent.figures.grid import save
from convergent.figures.registry import drawn
from convergent.progress import took
from convergent.storage.csv_files import write_rows


def align(job: AlignJob) -> None:
    """Align every pair of the job's nets, in both directions, and keep the result in its folder.

    Raises:
        InputError: for whatever the user can mend.
        OSError: if the disk is full or otherwise not to be written to.
    """
    config, folder, began = job.config, job.folder, time.monotonic()
    parts = Parts(*(instantiate(config[group]) for group in ("method", "analysis", "similarity", "figure")))
    measurement, shuffled = measurements_of(job, parts.method, parts.measures.values())
    trainer = partial(_trainer, config)
    if config.function:
        _check_held_out(job, measurement)
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
        layers = list(load_pairs(measurement, shuffled, job.evaluation))
        common = Common.of(job, measurement)
        aligned = Pairs(job, parts, measurement, patches, judging, layers, common).align()
        layer_pairs = compare_layers(job, parts, measurement, alone=judging is not None)
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
    write(job, measurement, aligned, summary, common)
    files = [folder / "summary.json", *sorted(folder.glob("*.csv")), *sorted((folder / "alignments").iterdir())]
    question = question_of(folder, aligned.results)
    log_alignment(logger, f"{job.name}-{job.label}", aligned, summary, files, question)
    of_layers = summary["layers"].items()
    mean_r = ", ".join(f"{layer} {scalars['mean_r']:.2f}" for layer, scalars in of_layers if "mean_r" in scalars)
    print(f"{job.name} {job.label}: mean r {mean_r}, in {folder}, {took(began)}", flush=True)


def _check_held_out(job: AlignJob, measurement: Measurement) -> None:
    """Check that maps can be judged on images held out from them and from the nets' training, before anything is measured.

    Raises:
        InputError: if there are none.
    """
    if not job.evaluation.folds:
        raise InputError("Maps are judged on images that they were not fitted to; ask for evaluation.folds=2 or more.")
    measurement.data.untrained_on()


def _trainer(config: DictConfig, callbacks: list[Callback]) -> Trainer:
    return build_trainer(config, callbacks, logger=False)
