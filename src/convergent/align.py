"""Aligns trained nets by one method: every layer, every pair, both directions."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import repeat
from math import comb
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import OmegaConf
from rich.console import Console
from rich.progress import track
from safetensors.torch import save_file

from convergent.across import across
from convergent.alignment import Alignment, Method
from convergent.dashboard import log_alignment, start_logger
from convergent.data.images import ImageData, prepared
from convergent.errors import InputError
from convergent.figures.activity import activity
from convergent.figures.correlations import correlations
from convergent.figures.curves import curves
from convergent.figures.dynamics import dynamics
from convergent.figures.means import means
from convergent.figures.style import save
from convergent.findings import Findings, Telling, mean_curves, rows_by_table
from convergent.folders import atomic, claim, first_process, write_json
from convergent.jobs import AlignJob, images_config
from convergent.nulls import rotated
from convergent.results import Result, by_layer, compare
from convergent.runs import Run
from convergent.saved_moments import Measurement
from convergent.statistics_pass import Reading
from convergent.train import build_data, build_trainer, stoppable
from convergent.zoo import VIEW, names_of

NULLS = ("rotated", "permuted")


def align(job: AlignJob) -> None:
    """Align every pair of the job's nets, in both directions, and keep the result in its folder.

    Raises:
        InputError: for whatever the user can mend.
    """
    config, folder = job.config, job.folder
    if not OmegaConf.is_list(config.nulls) or not set(config.nulls) <= set(NULLS):
        raise InputError(f"nulls needs to be a list of some of {', '.join(NULLS)}, not {config.nulls}.")
    data, views = build_images(job)
    measurement = Measurement(
        nets=job.nets,
        wanted=job.wanted,
        data=data,
        views=views,
        how=Reading(
            sample=config.sample,
            units=config.units if isinstance(config.units, str) else dict(config.units),
            blocks=config.blocks,
            block_memory=config.block_memory * 1e9,
            products=config.products,
            device=config.device,
        ),
        pairs=job.pairs,
        cache=Path(config.root) / "outputs" / "moments",
        layers_per_pass=config.layers_per_pass,
        snapshot_minutes=config.snapshot_minutes,
    )
    method = instantiate(config.method)
    deranged = derange(measurement, build_images(job)[0]) if "permuted" in config.nulls else None
    with stoppable():
        for each in [measurement, deranged] if deranged else [measurement]:
            each.ensure(lambda callbacks: build_trainer(config, callbacks, logger=False))
    if not first_process():
        return
    claim(folder, job.record, force=config.force, other="label=")
    logger = start_logger(config.logger, job.record, folder, job.name, job.label, "align")
    try:
        results, told, figures = _align_pairs(job, method, measurement, deranged)
    except InputError:  # of a method that cannot do what it was asked for with these nets
        job.abandon()
        raise
    together = [
        (layer.layer, *across(layer, [result for result in results if result.layer == layer.layer]))
        for layer in measurement.load()
        if len(layer.nets) > 2 and len(layer.pairs) == comb(len(layer.nets), 2)
    ]
    summaries = [result.summary() | findings_of(told, result) for result in results]
    kind = type(method).__name__.lower()
    along = along_training(summaries, job.epochs)
    if along:  # the other figures and the table show the last epoch
        figures.append(save(dynamics(along), folder / "figures", "dynamics"))
        results = [result for result in results if job.epochs[result.a] == max(along)]
        told = [findings for findings in told if job.epochs[findings.a] == max(along)]
        summaries = along[max(along)]
    figures += [save(curves(results, kind), folder / "figures", "curves")]
    figures += [save(means(summaries, kind), folder / "figures", "means")]
    figures += [save(activity(list(measurement.load())), folder / "figures", "activity")]
    if isinstance(method, Telling):
        figures += [save(drawn, folder / "figures", name) for name, drawn in method.overview(told).items()]
    layers = by_layer(summaries)
    summary: dict[str, Any] = {"method": job.label, "images": results[0].images, "layers": layers, "pairs": summaries}
    modules = [
        net.config.net.module["_target_"] if isinstance(net, Run) else net.module["_target_"] for net in job.nets
    ]
    summary["caffenet"] = all(str(module).endswith(".CaffeNet") for module in modules)
    if along:
        summary["epochs"] = {str(epoch): by_layer(rows) for epoch, rows in along.items()}
    summary["across"] = {layer: found for layer, found, _ in together}
    if groups := [row for _, _, rows in together for row in rows]:
        write_rows(folder / "groups.csv", groups)
    write_json(folder / "summary.json", summary)
    write_rows(folder / "scores.csv", [row for result in results for row in result.rows()])
    tables = rows_by_table(told)
    for name, rows in tables.items():
        write_rows(folder / f"{name}.csv", rows)
    (folder / "done").touch()
    files = [folder / "summary.json", *sorted(folder.glob("*.csv")), *sorted((folder / "alignments").iterdir())]
    layers = {layer: {**figures, **_scalars(summary["across"].get(layer, {}))} for layer, figures in layers.items()}
    log_alignment(
        logger, layers, results, figures, files, f"{job.name}-{job.label}", summary.get("epochs", {}), tables,
        mean_curves(told),
    )  # fmt: skip
    mean_r = ", ".join(f"{layer} {found['mean_r']:.2f}" for layer, found in layers.items() if "mean_r" in found)
    print(f"{job.name} {job.label}: mean r {mean_r}, in {folder}", flush=True)


def build_images(job: AlignJob) -> tuple[ImageData, dict[str, str]]:
    """The images that are measured, and which view of them each net takes where nets want them prepared differently."""
    config = images_config(job.nets, job.config)
    wanted = {}
    for name, net in zip(job.names, job.nets):
        view = OmegaConf.merge(config.data, net.view or {})
        values: Any = OmegaConf.to_container(view, resolve=True)
        wanted[name] = {key: values[key] for key in VIEW}
    different = list({repr(view): view for view in wanted.values()}.values())
    views = [instantiate(view, _convert_="all") for view in different]
    data = build_data(config, measure=job.record.images, **views[0])
    if len(views) == 1:
        return data, {}
    data.views = {
        str(number): prepared(view["channels"], view["prepare"], view["mean"], view["std"])
        for number, view in enumerate(views)
    }
    return data, {name: str(different.index(view)) for name, view in wanted.items()}


def derange(measurement: Measurement, data: ImageData) -> Measurement:
    """The same measurement with every net reading other images than the others."""
    names = names_of(measurement.nets)
    data.views = measurement.data.views
    data.deranged = {name: measurement.views.get(name) for name in names}
    return replace(measurement, data=data, views={name: name for name in names})


def _align_pairs(
    job: AlignJob, method: Method, measurement: Measurement, deranged: Measurement | None
) -> tuple[list[Result], list[Findings], list[Path]]:
    """Align every pair of nets in both directions, layer by layer; maps go to disk as they come, for they may be large."""
    results: list[Result] = []
    told: list[Findings] = []
    figures: list[Path] = []
    console = Console()
    others = deranged.load() if deranged else repeat(None)
    for layer, other in track(
        zip(measurement.load(), others),
        f"aligning by {job.label}",
        len(measurement.layers),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ):
        alignments = {}
        for number, (a, b) in enumerate(layer.pairs):
            pair = layer.pair(a, b)
            permuted = other.pair(a, b) if other else None
            for directed in (pair, pair.flip()):
                null_pairs = {"rotated": rotated(directed)} if "rotated" in job.config.nulls else {}
                if permuted:
                    null_pairs["permuted"] = permuted if directed is pair else permuted.flip()
                alignment, result = compare(
                    method, directed, layer.images, job.config.folds, null_pairs, interval=job.config.intervals
                )
                results.append(result)
                alignments[f"{directed.name_a} to {directed.name_b}"] = alignment
                found = method.tell(directed, alignment) if isinstance(method, Telling) else None
                told += [found] if found else []
                if number == 0 and directed is pair:
                    drawn = {"correlations": correlations(pair, alignment)}
                    drawn |= {name: draw() for name, draw in found.drawings.items()} if found else {}
                    for name, figure in drawn.items():
                        figures.append(save(figure, job.folder / "figures", f"{name}-{layer.layer}"))
        save_alignments(job.folder / "alignments" / f"{layer.layer}.safetensors", alignments)
    return results, told, figures


def findings_of(told: Sequence[Findings], result: Result) -> dict[str, float]:
    """The numbers that the method itself tells of a result's pair."""
    same = (of for of in told if (of.layer, of.a, of.b) == (result.layer, result.a, result.b))
    return dict(next(same).figures) if told else {}


def _scalars(figures: Mapping[str, Any]) -> dict[str, float]:
    """Figures over all nets one by one, for a dashboard."""
    found = {f"found_in_{m}_others": share for m, share in enumerate(figures.get("found_in", ()))}
    return found | {name: value for name, value in figures.items() if name != "found_in"}


def along_training(summaries: Sequence[dict[str, Any]], epochs: Mapping[str, int]) -> dict[int, list[dict[str, Any]]]:
    """The summaries of each epoch, where nets are compared along their training."""
    found: dict[int, list[dict[str, Any]]] = {epoch: [] for epoch in sorted(set(epochs.values()))}
    for summary in summaries if epochs else ():
        if epochs[summary["a"]] == epochs[summary["b"]]:
            found[epochs[summary["a"]]].append(summary)
    return {epoch: rows for epoch, rows in found.items() if rows}


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
