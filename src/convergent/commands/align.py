"""Aligns trained nets by one method: every layer, every pair, both directions."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import repeat
from math import comb
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import OmegaConf
from safetensors import safe_open
from safetensors.torch import save_file

from convergent.alignment import Alignment, Method
from convergent.commands.bars import track
from convergent.commands.dashboard import log_alignment, start_logger
from convergent.commands.folders import atomic, claim, first_process, write_json
from convergent.commands.jobs import AlignJob, images_config
from convergent.commands.measurement import Measurement
from convergent.commands.runs import Run
from convergent.commands.train import build_data, build_trainer, stoppable
from convergent.commands.versions import versions
from convergent.commands.zoo import VIEW, names_of
from convergent.controls.across import across
from convergent.controls.nulls import rotated
from convergent.data.images import ImageData, prepared
from convergent.errors import InputError
from convergent.figures.activity import activity
from convergent.figures.correlations import correlations
from convergent.figures.curves import curves
from convergent.figures.dynamics import dynamics
from convergent.figures.means import means
from convergent.figures.style import save
from convergent.findings import Findings, Telling, mean_curves, rows_by_table
from convergent.histograms.joint import NeedsHistograms
from convergent.histograms.layer_histograms import LayerHistograms
from convergent.histograms.saved_histograms import SavedHistograms
from convergent.page.preferred import preferred
from convergent.page.unit_pictures import drawings_of, filters_of, pictured_rows
from convergent.pairs import Pair
from convergent.results import Result, by_layer, compare
from convergent.streaming.collector import Reading
from convergent.streaming.layer_moments import LayerMoments
from convergent.streaming.patches import Patches
from convergent.streaming.top_patches import SavedPatches, cut_out

NULLS = ("rotated", "permuted")
_TOP, _BOTTOM = SavedPatches(), SavedPatches(lowest=True, folder="bottom")
PICTURES = {None: (), "top": (_TOP,), "bottom": (_TOP, _BOTTOM), "ascent": (_TOP,)}
_WORDS = {"MutualInformation": "mutual information"}  # what figures call a method; others by their name


def align(job: AlignJob) -> None:
    """Align every pair of the job's nets, in both directions, and keep the result in its folder.

    Raises:
        InputError: for whatever the user can mend.
    """
    config, folder = job.config, job.folder
    if not OmegaConf.is_list(config.nulls) or not set(config.nulls) <= set(NULLS):
        raise InputError(f"nulls needs to be a list of some of {', '.join(NULLS)}, not {config.nulls}.")
    if config.pictures not in PICTURES:
        raise InputError(f"pictures needs to be one of top, bottom, ascent or null, not {config.pictures!r}.")
    method = instantiate(config.method)
    needs = isinstance(method, NeedsHistograms)
    counted = [SavedHistograms(replace(method.counting, folds=config.folds))] if needs else []
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
        also=[*counted, *PICTURES[config.pictures]],
    )
    deranged = derange(measurement, build_images(job)[0]) if "permuted" in config.nulls else None
    with stoppable():
        for each in [measurement, deranged] if deranged else [measurement]:
            each.ensure(lambda callbacks: build_trainer(config, callbacks, logger=False))
    if not first_process():
        return
    patches = [cut_out(measurement, product) for product in measurement.also if isinstance(product, SavedPatches)]
    if config.pictures == "ascent":
        patches.append(preferred(measurement, patches[0]))
    claim(folder, job.record, force=config.force, other="label=")
    logger = start_logger(config.logger, job.record, folder, job.name, job.label, "align")
    try:
        results, told, figures, pictured = _align_pairs(job, method, measurement, deranged, patches)
    except InputError:  # of a method that cannot do what it was asked for with these nets
        job.abandon()
        raise
    together = [
        (layer.layer, *across(layer, [result for result in results if result.layer == layer.layer]))
        for layer in measurement.load()
        if len(layer.nets) > 2 and len(layer.pairs) == comb(len(layer.nets), 2)
    ]
    summaries = [result.summary() | findings_of(told, result) for result in results]
    kind = _WORDS.get(type(method).__name__, type(method).__name__.lower())
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
    summary["moments"], summary["nets"] = str(measurement.folder.relative_to(config.root)), job.names
    summary["command"], summary["versions"] = job.command, versions()
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
        logger, layers, results, figures, files, f"{job.name}-{job.label}", summary.get("epochs", {}),
        tables | {"pictures": pictured}, mean_curves(told), question_of(folder, results),
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
    kept = [product for product in measurement.also if not isinstance(product, SavedPatches)]
    return replace(measurement, data=data, views={name: name for name in names}, also=kept)


def _align_pairs(
    job: AlignJob,
    method: Method,
    measurement: Measurement,
    deranged: Measurement | None,
    patches: Sequence[Mapping[str, Mapping[str, Patches]]],
) -> tuple[list[Result], list[Findings], list[Path], list[dict[str, Any]]]:
    """Align every pair of nets in both directions, layer by layer; maps go to disk as they come, for they may be large."""
    results: list[Result] = []
    told: list[Findings] = []
    figures: list[Path] = []
    pictured: list[dict[str, Any]] = []
    others = load_pairs(deranged) if deranged else repeat(None)
    layers = zip(load_pairs(measurement), others)
    for (layer, pairs), other in track(layers, f"aligning by {job.label}", len(measurement.layers)):
        alignments = {}
        for number, (a, b) in enumerate(layer.pairs):
            pair = pairs(a, b)
            permuted = other[1](a, b) if other else None
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
                told += _told_by_chance(method, null_pairs)
                if number == 0 and directed is pair:
                    drawn = {"correlations": correlations(pair, alignment)}
                    of_layer = [every[layer.layer] for every in patches]
                    pictures = drawings_of(pair, alignment, of_layer, found.tables if found else None)
                    pictured += pictured_rows(pair, alignment, of_layer[0]) if of_layer else []
                    pictures |= filters_of(pair, alignment, measurement.modules(layer.layer))
                    pictures |= found.drawings if found else {}
                    drawn |= {name: draw() for name, draw in pictures.items()}
                    for name, figure in drawn.items():
                        figures.append(save(figure, job.folder / "figures", f"{name}-{layer.layer}"))
        save_alignments(job.folder / "alignments" / f"{layer.layer}.safetensors", alignments)
    return results, told, figures, pictured


def _told_by_chance(method: Method, null_pairs: Mapping[str, Pair]) -> list[Findings]:
    """What a method that needs joint histograms tells of the nulls that have them: its numbers are not correlations."""
    tell = method.tell if isinstance(method, Telling) else None
    have = {name: pair for name, pair in null_pairs.items() if pair.joint is not None}  # only methods that ask get them
    return [replace(tell(pair, method(pair)), null=name) for name, pair in have.items()] if tell else []


def load_pairs(measurement: Measurement) -> Iterator[tuple[LayerMoments, Callable[[int, int], Pair]]]:
    """The layers' moments one after another, and what makes pairs of nets, with joint histograms where there are any."""
    counted = [product for product in measurement.also if isinstance(product, SavedHistograms)]
    histograms = measurement.load(counted[0]) if counted else repeat(None)
    for layer, of_layer in zip(measurement.load(), histograms):
        yield layer, partial(_pair, layer, of_layer)


def _pair(layer: LayerMoments, histograms: LayerHistograms | None, a: int, b: int) -> Pair:
    return histograms.with_moments(layer.pair(a, b)) if histograms else layer.pair(a, b)


def findings_of(told: Sequence[Findings], result: Result) -> dict[str, float]:
    """The numbers that the method itself tells of a result's pair, and of chance in it."""
    figures: dict[str, float] = {}
    for of in told:
        if (of.layer, of.a, of.b) == (result.layer, result.a, result.b):
            figures |= {f"{name}_{of.null}" if of.null else name: value for name, value in of.figures.items()}
    return figures


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


def question_of(folder: Path, results: Sequence[Result]) -> str:
    """Which of the questions a method answers, by what it found: clusters, one partner for each unit, or few."""
    with safe_open(folder / "alignments" / f"{results[0].layer}.safetensors", "pt") as saved:
        if any(name.endswith("labels_b") for name in saved.keys()):  # noqa: SIM118  (no mapping)
            return "many_to_many"
    return "one_to_one" if max(result.units_used_b.max() for result in results) <= 1 else "few_to_one"


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
