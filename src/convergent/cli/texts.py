"""What an alignment of language models reads: documents as tokens of the nets' own vocabulary, the same for all nets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from convergent.analysis.reports import Report
from convergent.analysis.results import Result
from convergent.cli.align_job import AlignJob
from convergent.cli.built import Built
from convergent.cli.measurement import Measurement
from convergent.cli.train import build_data
from convergent.data.text import TextData
from convergent.data.tokens import Contexts
from convergent.data.vocabulary import load_tokenizer
from convergent.errors import InputError
from convergent.streaming.patches import Patches
from convergent.streaming.top_patches import SavedPatches
from convergent.streaming.unit_contexts import UnitContexts, rows_of_contexts


def build_texts(job: AlignJob, config: DictConfig) -> tuple[TextData, dict[str, str]]:
    """The texts that are measured, and which view of them each net takes where nets have different vocabularies.

    They are in tokens of the nets' vocabularies, or of one made for the data where no net has any.

    Raises:
        InputError: if the nets' vocabularies differ and shared ends of tokens were not asked for, a net cannot take these
            tokens or this context, or the null of shuffled contexts is asked for.
    """
    if "shuffled" in job.evaluation.nulls:
        raise InputError(
            "Texts shuffled between nets are no null: of unequal lengths they leave samples without partners, and those "
            "with one still share their position in a text; leave it out, as evaluation.nulls=[rotated] (which "
            "experiment=language has)."
        )
    changes: dict[str, Any] = {"measure": job.record.images}
    files = {name: net.tokenizer for name, net in zip(job.names, job.nets) if net.tokenizer}
    vocabularies, views = _distinct(files, shared_ends=job.config.get("tokens") == "shared_ends")
    if vocabularies:
        changes |= {"vocabulary": vocabularies[0], "others": vocabularies[1:]}
    if views and job.config.get("function"):
        raise InputError("function=true needs nets that predict the same tokens, not of different vocabularies.")
    data = build_data(config, **changes)
    assert isinstance(data, TextData)
    limits: dict[str, Any] = {
        name: getattr(net.net(), "config", None) for name, net in zip(job.names, job.nets) if isinstance(net, Built)
    }
    views = {name: views.get(name, "0") for name in job.names} if views else {}
    sizes = [load_tokenizer(file).get_vocab_size() for file in vocabularies or [data.corpus.tokenizer]]
    for name, of in limits.items():
        size = sizes[int(views.get(name, 0))]
        if size > getattr(of, "vocab_size", size):
            raise InputError(
                f"Net {name} has a vocabulary of {of.vocab_size} tokens, but these texts have {size}; put the net's "
                "tokenizer.json into its folder, or set data.vocabulary."
            )
        if config.data.context > getattr(of, "max_position_embeddings", config.data.context):
            raise InputError(
                f"Net {name} takes contexts of {of.max_position_embeddings} tokens at most; set data.context to that."
            )
    return data, views


def contexts_of(measurement: Measurement, layer: str) -> dict[str, UnitContexts]:
    """The texts that excite the units of a layer most, by net; of images, or where they are not asked for, none."""
    if not isinstance(measurement.data, TextData):
        return {}
    saved = [artifact for artifact in measurement.also if isinstance(artifact, SavedPatches) and not artifact.lowest]
    every = (of for artifact in saved for of in zip(measurement.layers, measurement.load(artifact)))
    nets: dict[str, Patches] = next((of for name, of in every if name == layer), {})
    measured, views = measurement.data.measured, measurement.views
    texts = {net: measured if isinstance(measured, Contexts) else measured.views[views[net]] for net in nets}
    return {net: UnitContexts(texts[net], patches) for net, patches in nets.items()}


def reports_of_contexts(measurement: Measurement, results: Sequence[Result]) -> list[Report]:
    """A table of the texts that excite each unit of every layer and net, beside those of its partners in the others."""
    reports = []
    for layer in measurement.layers:
        texts = contexts_of(measurement, layer)
        for net in texts:
            partners = {
                result.a: (result.partner_b.tolist(), result.r_b.tolist())
                for result in results
                if (result.layer, result.b) == (layer, net)
            }
            if partners:
                rows = rows_of_contexts(net, partners, texts)
                reports.append(Report(layer, net, net, tables={"contexts": rows}))
    return reports


def _distinct(files: dict[str, Path], *, shared_ends: bool) -> tuple[list[Path], dict[str, str]]:
    """The vocabularies that nets have, and where there are several the number of each net's.

    Raises:
        InputError: if there are several, and shared ends of tokens were not asked for.
    """
    first: dict[str, str] = {}  # net of a vocabulary, by its content
    contents = {net: json.dumps(load_tokenizer(file).get_vocab(), sort_keys=True) for net, file in files.items()}
    same = {net: first.setdefault(content, net) for net, content in contents.items()}
    for net, other in same.items() if not shared_ends and len(first) > 1 else ():
        if other == net != next(iter(files)):
            raise InputError(
                f"Nets {next(iter(files))} and {net} have different vocabularies, so that their positions are of different "
                "texts; compare nets of one vocabulary, or positions where both end a token (tokens=shared_ends)."
            )
    nets = list(first.values())
    views = {net: str(nets.index(other)) for net, other in same.items()} if len(nets) > 1 else {}
    return [files[net] for net in nets], views
