"""What an alignment reads: the moments of the job's nets, and whatever else its method and its pictures need."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

from convergent.analysis.evaluation import Evaluation
from convergent.analysis.null_pairs import NullPairs
from convergent.cli.align_job import AlignJob, images_config
from convergent.cli.built import VIEW
from convergent.cli.checking import resolved
from convergent.cli.encoders import encoders_of
from convergent.cli.measurement import Artifact, Measurement
from convergent.cli.nets import names_of
from convergent.cli.texts import build_texts
from convergent.cli.train import build_data
from convergent.cli.unit_images import cut_out, preferred
from convergent.core.histogram_source import counting_of
from convergent.core.layer_moments import LayerMoments
from convergent.core.pairs import Pair
from convergent.data.images import ImageData
from convergent.data.ordered import OrderedData
from convergent.data.preparation import prepared
from convergent.errors import InputError
from convergent.similarity.measure import Measure
from convergent.similarity.sampled import MOST, needs_samples
from convergent.streaming.all_layers import SavedAllLayers, together
from convergent.streaming.capture import Capture
from convergent.streaming.histograms.layer_histograms import LayerHistograms
from convergent.streaming.histograms.saved_histograms import SavedHistograms
from convergent.streaming.kept_samples import SavedSamples
from convergent.streaming.layers import JOINED, by_unit, layout, members_of
from convergent.streaming.loader import device_of
from convergent.streaming.lowest import SavedLowest
from convergent.streaming.module import Nets
from convergent.streaming.patches import Patches
from convergent.streaming.rotated_pass import BLOCKS, RotatedMoments, SavedRotations
from convergent.streaming.top_patches import SavedPatches
from convergent.streaming.unit_axis import axis_by_type

log = logging.getLogger(__name__)

_TOP, _BOTTOM = SavedPatches(), SavedPatches(lowest=True, folder="bottom")
PICTURES = {None: (), "top": (_TOP,), "bottom": (_TOP, _BOTTOM), "ascent": (_TOP,)}


def measurements_of(
    job: AlignJob, method: object, measures: Iterable[Measure]
) -> tuple[Measurement, Measurement | None]:
    """What is measured for a job, and the same with other images for each net where that null is asked for.

    Raises:
        InputError: if all layers are to be compared, but not measured at once.
    """
    evaluation = job.evaluation
    rotated = [SavedRotations(evaluation.rotations)] if "rotated" in evaluation.nulls else []
    counted = []
    if counting := counting_of(method):
        counting = replace(counting, folds=evaluation.folds)
        counted = [SavedHistograms(counting, rotated=draw) for draw in range(1 + len(rotated))]
    data, views = build_images(job)
    cache = Path(job.config.root) / "outputs" / "moments"
    lowest = [SavedLowest()] if job.config.function else []
    if job.all_layers and job.reading.layers_per_pass:
        raise InputError("pairs=all_layers needs all layers in one pass; leave reading.layers_per_pass out.")
    layers = [SavedAllLayers(job.wanted)] if job.all_layers else []
    samples = [SavedSamples(MOST)] if any(map(needs_samples, measures)) else []
    also: list[Artifact] = [*counted, *rotated, *lowest, *layers, *samples, *PICTURES[job.config.pictures]]
    encoders = encoders_of(resolved(job.config.encoders), job.names)
    measurement = Measurement(job.nets, job.wanted, data, views, job.reading, job.pairs, cache, also, encoders)
    return measurement, shuffle(measurement, build_images(job)[0]) if "shuffled" in evaluation.nulls else None


def without_constant(measurement: Measurement, shuffled: Measurement | None) -> tuple[Measurement, Measurement | None]:
    """What was measured, without layers all of whose units are constant in some net: nothing there has a correlation.

    Raises:
        InputError: if no layer is left.
    """
    constant = {}
    for layer in measurement.load():
        if nets := [net for net in layer.nets if not layer.active(net).any()]:
            constant[layer.layer] = f"{layer.layer} (of {', '.join(nets)})"
    left = [(name, layer) for name, layer in measurement.layers.items() if name not in constant]
    sentence = f"All units are constant on these images in {', '.join(constant.values())}"
    if not left:
        raise InputError(f"{sentence}, so there is nothing to align; choose other layers or train the nets again.")
    if not constant:
        return measurement, shuffled
    log.warning("%s: left out, for a unit that never changes has no correlation.", sentence)
    return replace(measurement, wanted=left), replace(shuffled, wanted=left) if shuffled else None


def build_images(job: AlignJob) -> tuple[OrderedData, dict[str, str]]:
    """The images that are measured, and which view of them each net takes where nets want them prepared differently."""
    config = images_config(job.nets, job.config)
    if "context" in config.data:
        return build_texts(job, config)
    wanted = {}
    for name, net in zip(job.names, job.nets):
        values: Any = OmegaConf.to_container(OmegaConf.merge(config.data, net.view or {}), resolve=True)
        wanted[name] = {key: values[key] for key in VIEW}
    different = list({repr(view): view for view in wanted.values()}.values())
    views = [instantiate(view, _convert_="all") for view in different]
    data = build_data(config, measure=job.record.images, **views[0])
    if len(views) == 1:
        return data, {}
    assert isinstance(data, ImageData)
    data.views = {str(number): prepared(*(view[key] for key in VIEW)) for number, view in enumerate(views)}
    return data, {name: str(different.index(view)) for name, view in wanted.items()}


def shuffle(measurement: Measurement, data: OrderedData) -> Measurement:
    """The same measurement with every net reading other images than the others, in as few blocks as other nulls have."""
    names = names_of(measurement.nets)
    assert isinstance(data, ImageData)
    assert isinstance(measurement.data, ImageData)
    data.views = measurement.data.views
    data.shuffled = {name: measurement.views.get(name) for name in names}
    reading = replace(measurement.reading, blocks=min(measurement.reading.blocks, BLOCKS))
    views, also = {name: name for name in names}, _counted(measurement, rotated=0)
    return replace(measurement, data=data, views=views, also=also, reading=reading)


def patches_of(measurement: Measurement, pictures: str | None) -> list[Mapping[str, Mapping[str, Patches]]]:
    """The units' pictures of each kind that is asked for, by layer and net; of texts none."""
    if not isinstance(measurement.data, ImageData):
        return []
    patches: list[Mapping[str, Mapping[str, Patches]]] = [
        cut_out(measurement, artifact) for artifact in measurement.also if isinstance(artifact, SavedPatches)
    ]
    return [*patches, preferred(measurement, patches[0])] if pictures == "ascent" else patches


def widths_of(measurement: Measurement) -> dict[str, dict[str, list[int]]]:
    """How many units each layer of a population has, {population: {net: [units]}}: by running the nets on one batch."""
    populations = {name: of for name, of in measurement.layers.items() if any(JOINED in path for path in of.values())}
    if not populations:
        return {}
    every = {(name, net): members_of(name, path) for name, of in populations.items() for net, path in of.items()}
    layers: dict[str, dict[str, str]] = {}
    for (_, net), members in every.items():
        for member, path in members.items():
            layers.setdefault(member, {})[net] = path
    nets, units = Nets(measurement.whole, measurement.views), dict[tuple[str, str], int]()

    def count(net: str, layer: str, activation: Tensor) -> None:
        kind = axis_by_type(measurement.whole[net], layers[layer][net])
        where = layout(activation.shape, measurement.reading.units_of(net), kind)
        units[net, layer] = by_unit(activation, where, layer).shape[1]

    with torch.no_grad(), Capture(nets.nets, layers, count, output=measurement.reading.output) as capture:
        batch = next(iter(measurement.data.predict_dataloader()))
        capture.run(nets.seen_by(nets.transfer_batch_to_device(batch, device_of(nets), 0)[0]))
    return {
        name: {net: [units[net, member] for member in every[name, net]] for net in of}
        for name, of in populations.items()
    }


def after_stop(*measurements: Measurement | None) -> str:
    """What a stopped pass leaves."""
    if any(any(of.folder.rglob("*.safetensors")) for of in measurements if of):
        return "what was measured is kept, the same command goes on from there"
    return "nothing was kept yet, the same command begins anew"


def load_pairs(
    measurement: Measurement, shuffled: Measurement | None, evaluation: Evaluation
) -> Iterator[tuple[LayerMoments, Callable[[int, int], Pair], NullPairs]]:
    """The layers' moments one after another, what makes pairs of nets, and the pairs of the nulls that were asked for."""
    others = _pairs(shuffled, evaluation.folds) if shuffled else repeat((None, None))
    rotations = zip(load_rotations(measurement), _histograms(measurement, rotated=1))
    for (layer, pair), (of_layer, counted), (_, other) in zip(_pairs(measurement, evaluation.folds), rotations, others):
        after, folds = "rotated_after" in evaluation.nulls, evaluation.folds
        yield layer, pair, NullPairs(pair, of_layer, counted, other, after, folds)


def load_rotations(measurement: Measurement) -> Iterator[RotatedMoments | None]:
    """The moments on rotated axes of one layer after another; None where none were asked for."""
    artifacts = [artifact for artifact in measurement.also if isinstance(artifact, SavedRotations)]
    yield from measurement.load(artifacts[0]) if artifacts else repeat(None)


def load_all_layers(measurement: Measurement) -> LayerMoments | None:
    """The moments of all layers with all layers; None where they were not asked for."""
    artifacts = [artifact for artifact in measurement.also if isinstance(artifact, SavedAllLayers)]
    return together(measurement.load(artifacts[0])) if artifacts else None


def _pairs(measurement: Measurement, folds: int) -> Iterator[tuple[LayerMoments, Callable[[int, int], Pair]]]:
    for layer in measurement.layers:
        yield load_pair(measurement, layer, folds)


def load_pair(measurement: Measurement, layer: str, folds: int) -> tuple[LayerMoments, Callable[[int, int], Pair]]:
    """The moments of one layer, and what makes pairs of nets, given by their numbers."""
    moments, counted = measurement.load_one(layer), _counted(measurement, rotated=0)
    histograms = measurement.load_one(layer, counted[0]) if counted else None
    kept = [artifact for artifact in measurement.also if isinstance(artifact, SavedSamples)]
    samples = measurement.load_one(layer, kept[0]) if kept else None
    return moments, partial(_pair, moments, histograms, samples, folds)


def _histograms(measurement: Measurement, rotated: int) -> Iterator[LayerHistograms | None]:
    counted = _counted(measurement, rotated)
    yield from measurement.load(counted[0]) if counted else repeat(None)


def _counted(measurement: Measurement, rotated: int) -> list[SavedHistograms]:
    histograms = [artifact for artifact in measurement.also if isinstance(artifact, SavedHistograms)]
    return [artifact for artifact in histograms if artifact.rotated == rotated]


def _pair(
    layer: LayerMoments,
    histograms: LayerHistograms | None,
    samples: Mapping[str, Tensor] | None,
    folds: int,
    a: int,
    b: int,
) -> Pair:
    of_nets = samples and (samples[layer.nets[a]], samples[layer.nets[b]])
    pair = replace(layer.pair(a, b), held_out_folds=folds, samples=of_nets or None)
    return histograms.with_moments(pair) if histograms else pair
