"""Merges trained nets: every two along the line between them, and all in one, by several alignments."""

import time
from dataclasses import replace
from itertools import groupby
from statistics import fmean
from typing import Any

from hydra.utils import instantiate
from omegaconf import OmegaConf

from convergent.cli.dashboard import log_merging, start_logger
from convergent.cli.folders import abandon, claim
from convergent.cli.measured import after_stop, build_images
from convergent.cli.measurement import Measurement
from convergent.cli.merge_job import MergeJob
from convergent.cli.processes import first_process, leave_group
from convergent.cli.train import build_trainer, stoppable
from convergent.cli.versions import versions
from convergent.data.ordered import OrderedData
from convergent.errors import InputError
from convergent.figures.grid import save
from convergent.figures.merging import merging
from convergent.function.merging.aligners import needs_images
from convergent.function.merging.merge import barriers, rows
from convergent.function.merging.merger import Merged, Merger
from convergent.progress import took
from convergent.storage.csv_files import write_rows
from convergent.storage.files import atomic, write_json
from convergent.storage.tensors import save_net


def merge(job: MergeJob) -> None:
    """Merge the job's nets, and keep the result in its folder.

    Raises:
        InputError: for whatever the user can mend.
        OSError: if the disk is full or otherwise not to be written to.
    """
    config, folder, began = job.config, job.folder, time.monotonic()
    alignments = {job.method: instantiate(config.method), **{word: word for word in config.beside}}
    data, held_out = _images(job, config.images), _images(job, config.held_out)
    moments = job.folder.parents[2] / "moments"
    measurement = Measurement(job.nets, (), data, {}, job.reading, None, moments)
    trainer = build_trainer(config, [], logger=False)
    nets = {name: net.to(trainer.strategy.root_device) for name, net in measurement.whole.items()}
    merger = Merger.of(nets, data.predict_dataloader(), held_out.predict_dataloader(), config.repair, config.seed)
    measurement = replace(measurement, wanted=[point for points in merger.passes() for point in points])
    if any(map(needs_images, alignments.values())):
        with stoppable(lambda: after_stop(measurement)):
            measurement.ensure(lambda callbacks: build_trainer(config, callbacks, logger=False))
    leave_group()
    if not first_process():
        return
    claim(folder, job.record, force=config.force, other="label=")
    logger = start_logger(config.logger, job.record, folder, job.name, job.label, "merge")
    try:
        merged = merger.merge(alignments, {layer.layer: layer for layer in measurement.load()})
    except (InputError, OSError):  # a method that is not one to one, a full disk
        abandon(folder)
        raise
    summary = summary_of(job, merger, merged)
    tables = {"line": rows(merged.places), "barriers": barriers(merged.places), "together": rows(merged.together)}
    for name, table in tables.items():
        write_rows(folder / f"{name}.csv", table)
    with atomic(folder / "merged.safetensors") as file:
        save_net(merged.nets[job.method], file)
    figure = save(merging(tables["line"]), folder / "figures", "merging")
    write_json(folder / "summary.json", summary)
    (folder / "done").touch()
    files = [folder / "summary.json", folder / "merged.safetensors", *sorted(folder.glob("*.csv"))]
    log_merging(logger, f"{job.name}-{job.label}", summary, tables, figure, files)
    of = summary["alignments"]
    shown = ", ".join(f"{name} {scalars['barrier']:.3f}" for name, scalars in of.items())
    print(f"{job.name} {job.label}: mean barrier {shown}, in {folder}, {took(began)}", flush=True)


def _images(job: MergeJob, source: str) -> OrderedData:
    """The images of one source, as the nets want them.

    Raises:
        InputError: if they want them prepared differently.
    """
    record = OmegaConf.create({**job.record, "images": source})
    data, views = build_images(replace(job, record=record))
    if views:
        raise InputError(
            "Nets to be merged need their images prepared alike; name nets of one training, as nets=[...]."
        )
    return data


def summary_of(job: MergeJob, merger: Merger, merged: Merged) -> dict[str, Any]:
    """The numbers of a result: means over the pairs of nets by alignment, all nets in one, and what it was made of."""
    by_alignment: dict[str, dict[str, float]] = {}
    every = sorted(barriers(merged.places), key=lambda row: (row["alignment"], row["repair"]))
    for (alignment, repair), lines in groupby(every, key=lambda row: (row["alignment"], row["repair"])):
        of, scalars = list(lines), by_alignment.setdefault(alignment, {})
        for name in ("barrier", "middle_loss", "middle_accuracy"):
            scalars[name + repair * "_repair"] = fmean(row[name] for row in of)
    for place in merged.together:
        end = "_repair" if place.repair else ""
        by_alignment[place.alignment] |= {f"all_loss{end}": place.loss, f"all_accuracy{end}": place.accuracy}
    ends = {place.a: place for place in reversed(merged.places) if place.share_b == 0}
    ends |= {place.b: place for place in merged.places if place.share_b == 1}
    return {
        "method": job.label,
        "alignments": {name: by_alignment[name] for name in merged.nets},
        "ends": {name: {"loss": ends[name].loss, "accuracy": ends[name].accuracy} for name in job.names},
        "difference": merged.difference,
        "groups": [
            {
                "name": group.name,
                "units": group.atom.size,
                "inner": [axis.size for axis in group.inner],
                "points": group.points,
            }
            for group in merger.ties.groups
        ],
        "pinned": dict(merger.ties.pinned),
        "nets": job.names,
        "command": job.command,
        "versions": versions(),
    }
