"""Aligns trained nets by one method: every layer, every pair, both directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.utils import instantiate

from convergent.analysis.findings import Findings, Telling, mean_curves
from convergent.analysis.results import by_layer, compare
from convergent.cli.align_job import AlignJob
from convergent.cli.dashboard import log_alignment, start_logger
from convergent.cli.folders import claim
from convergent.cli.measured import after_stop, load_pairs, measurements_of, patches_of, without_constant
from convergent.cli.measurement import Measurement
from convergent.cli.processes import first_process, part
from convergent.cli.train import build_trainer, stoppable
from convergent.cli.writing import Aligned, along_training, keep, question_of, save_alignments, scalars, summary_of
from convergent.core.alignment import Alignment, Method
from convergent.core.histogram_source import needs_histograms
from convergent.core.pairs import Pair
from convergent.errors import InputError
from convergent.figures.activity import activity
from convergent.figures.correlations import correlations
from convergent.figures.curves import curves
from convergent.figures.dynamics import dynamics
from convergent.figures.means import means
from convergent.figures.style import save
from convergent.progress import track
from convergent.report.unit_pictures import drawings_of, filters_of, pictured_rows
from convergent.streaming.patches import Patches


def align(job: AlignJob) -> None:
    """Align every pair of the job's nets, in both directions, and keep the result in its folder.

    Raises:
        InputError: for whatever the user can mend.
        OSError: if the disk is full or otherwise not to be written to.
    """
    config, folder = job.config, job.folder
    method = instantiate(config.method)
    measurement, shuffled = measurements_of(job, method)
    with stoppable(lambda: after_stop(measurement, shuffled)):
        for each in [measurement, shuffled] if shuffled else [measurement]:
            each.ensure(lambda callbacks: build_trainer(config, callbacks, logger=False))
        part()
    if not first_process():
        return
    measurement, shuffled = without_constant(measurement, shuffled)
    patches = patches_of(measurement, config.pictures)
    claim(folder, job.record, force=config.force, other="label=")
    logger = start_logger(config.logger, job.record, folder, job.name, job.label, "align")
    try:
        found = _align_pairs(job, method, measurement, shuffled, patches)
    except (InputError, OSError):  # a method that cannot do what it was asked for with these nets, a full disk
        job.abandon()
        raise
    summaries = found.summaries()
    along = along_training(summaries, job.epochs)
    if along:  # the other figures and the tables show the last epoch
        found.figures.append(save(dynamics(along), folder / "figures", "dynamics"))
        found, summaries = found.of_epoch(max(along), job.epochs), along[max(along)]
    found.figures.extend(_draw_overviews(job, method, measurement, found, summaries, folder / "figures"))
    summary = summary_of(job, measurement, summaries)
    if along:
        summary["epochs"] = {str(epoch): by_layer(rows) for epoch, rows in along.items()}
    tables = keep(job, measurement, found, summary)
    layers = {
        layer: {**figures, **scalars(summary["across"].get(layer, {}))} for layer, figures in summary["layers"].items()
    }
    files = [folder / "summary.json", *sorted(folder.glob("*.csv")), *sorted((folder / "alignments").iterdir())]
    log_alignment(
        logger, layers, found.results, found.figures, files, f"{job.name}-{job.label}", summary.get("epochs", {}),
        tables | {"pictures": found.pictured}, mean_curves(found.told), question_of(folder, found.results),
    )  # fmt: skip
    mean_r = ", ".join(f"{layer} {figures['mean_r']:.2f}" for layer, figures in layers.items() if "mean_r" in figures)
    print(f"{job.name} {job.label}: mean r {mean_r}, in {folder}", flush=True)


def _align_pairs(
    job: AlignJob,
    method: Method,
    measurement: Measurement,
    shuffled: Measurement | None,
    patches: Sequence[Mapping[str, Mapping[str, Patches]]],
) -> Aligned:
    """Align every pair of nets in both directions, layer by layer; maps go to disk as they come, for they may be large."""
    aligned = Aligned()
    layers = load_pairs(measurement, shuffled, job.evaluation)
    for layer, pairs, nulls in track(layers, f"aligning by {job.label}", len(measurement.layers)):
        alignments = {}
        for number, (a, b) in enumerate(layer.pairs):
            pair = pairs(a, b)
            for directed, of in ((pair, (a, b)), (pair.flip(), (b, a))):
                null_pairs, rotated_a = nulls.of(*of), nulls.rotated_a(*of)
                alignment, result = compare(
                    method,
                    directed,
                    layer.images,
                    null_pairs,
                    rotated_a,
                    interval=job.evaluation.intervals,
                )
                aligned.results.append(result)
                alignments[f"{directed.name_a} to {directed.name_b}"] = alignment
                found = method.tell(directed, alignment) if isinstance(method, Telling) else None
                aligned.told.extend([found] if found else [])
                aligned.told.extend(told_by_chance(method, null_pairs))
                if number == 0 and directed is pair:
                    of_layer = [every[layer.layer] for every in patches]
                    aligned.pictured.extend(pictured_rows(pair, alignment, of_layer[0]) if of_layer else [])
                    aligned.figures.extend(_draw_pair(job, measurement, pair, alignment, found, of_layer))
        told = [of for of in aligned.told if of.layer == layer.layer]
        save_alignments(job.folder / "alignments" / f"{layer.layer}.safetensors", alignments, told)
    return aligned


def _draw_pair(
    job: AlignJob,
    measurement: Measurement,
    pair: Pair,
    alignment: Alignment,
    found: Findings | None,
    patches: Sequence[Mapping[str, Patches]],
) -> list[Path]:
    """The figures of one pair of nets: matrices, the units' pictures, and what the method draws itself."""
    drawings = drawings_of(pair, alignment, patches, found.tables if found else None)
    drawings |= filters_of(pair, alignment, measurement.modules(pair.layer))
    drawings |= found.drawings if found else {}
    drawn = {"correlations": correlations(pair, alignment)} | {name: draw() for name, draw in drawings.items()}
    folder = job.folder / "figures"
    return [save(figure, folder, f"{name}-{pair.layer}") for name, figure in drawn.items()]


def _draw_overviews(
    job: AlignJob,
    method: Method,
    measurement: Measurement,
    found: Aligned,
    summaries: Sequence[dict[str, Any]],
    folder: Path,
) -> list[Path]:
    """The figures over all layers and pairs of nets."""
    drawn = {
        "curves": curves(found.results, job.method),
        "means": means(summaries, job.method),
        "activity": activity(list(measurement.load())),
    }
    drawn |= method.overview(found.told) if isinstance(method, Telling) else {}
    return [save(figure, folder, name) for name, figure in drawn.items()]


def told_by_chance(method: Method, null_pairs: Mapping[str, Sequence[Pair]]) -> list[Findings]:
    """What a method tells of the first draw of the nulls by which its own figures are judged: the same figures, by chance.

    These are rotations; of other images too for a method whose figures are not functions of correlations.
    """
    tell, counts = method.tell if isinstance(method, Telling) else None, needs_histograms(method)
    judged = [(name, draws[0]) for name, draws in null_pairs.items() if counts or name.startswith("rotated")]
    able = [(name, pair) for name, pair in judged if pair.joint is not None or not counts]
    return [replace(tell(pair, method(pair)), null=name) for name, pair in able] if tell else []
