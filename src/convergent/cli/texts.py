"""What an alignment of language models reads: documents as tokens of the nets' own vocabulary, the same for all nets."""

from __future__ import annotations

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
from convergent.data.ordered import OrderedData
from convergent.data.text import TextData
from convergent.data.vocabulary import load_tokenizer
from convergent.errors import InputError
from convergent.streaming.patches import Patches
from convergent.streaming.top_patches import SavedPatches
from convergent.streaming.unit_contexts import UnitContexts, rows_of_contexts


def build_texts(job: AlignJob, config: DictConfig) -> OrderedData:
    """The texts that are measured, in tokens of the nets' vocabulary, or of one made for the data where no net has any.

    Raises:
        InputError: if the nets' vocabularies differ, a net cannot take these tokens or this context, or the null of shuffled
            contexts is asked for.
    """
    if "shuffled" in job.evaluation.nulls:
        raise InputError(
            "Texts differ in length, so that nets cannot read shuffled ones side by side; leave that null out, as "
            "evaluation.nulls=[rotated] (which experiment=language has)."
        )
    changes: dict[str, Any] = {"measure": job.record.images}
    files = {name: net.tokenizer for name, net in zip(job.names, job.nets) if net.tokenizer}
    if files:
        changes["vocabulary"] = _common(files)
    data = build_data(config, **changes)
    limits: dict[str, Any] = {
        net.name: getattr(net.net(), "config", None) for net in job.nets if isinstance(net, Built)
    }
    size = load_tokenizer(data.corpus.tokenizer).get_vocab_size()  # type: ignore[union-attr]
    for name, of in limits.items():
        if size > getattr(of, "vocab_size", size):
            raise InputError(
                f"Net {name} has a vocabulary of {of.vocab_size} tokens, but these texts have {size}; put the net's "
                "tokenizer.json into its folder, or set data.vocabulary."
            )
        if config.data.context > getattr(of, "max_position_embeddings", config.data.context):
            raise InputError(
                f"Net {name} takes contexts of {of.max_position_embeddings} tokens at most; set data.context to that."
            )
    return data


def contexts_of(measurement: Measurement, layer: str) -> dict[str, UnitContexts]:
    """The texts that excite the units of a layer most, by net; of images, or where they are not asked for, none."""
    if not isinstance(measurement.data, TextData):
        return {}
    saved = [artifact for artifact in measurement.also if isinstance(artifact, SavedPatches) and not artifact.lowest]
    every = (of for artifact in saved for of in zip(measurement.layers, measurement.load(artifact)))
    nets: dict[str, Patches] = next((of for name, of in every if name == layer), {})
    return {net: UnitContexts(measurement.data.measured, patches) for net, patches in nets.items()}


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


def _common(files: dict[str, Path]) -> Path:
    """The vocabulary that all nets have.

    Raises:
        InputError: if two have different ones.
    """
    vocabularies = {name: load_tokenizer(file).get_vocab() for name, file in files.items()}
    first = next(iter(files))
    for name, vocabulary in vocabularies.items():
        if vocabulary != vocabularies[first]:
            raise InputError(
                f"Nets {first} and {name} have different vocabularies ({len(vocabularies[first])} and {len(vocabulary)} "
                "tokens), so that their positions are of different texts; compare nets of one vocabulary."
            )
    return files[first]
