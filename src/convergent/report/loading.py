"""Finished alignments of an experiment: what is there, what goes into one chart, and how far clusterings agree."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf

from convergent.analysis.cluster_agreement import adjusted_rand
from convergent.errors import InputError
from convergent.storage.csv_files import check_rows, read_rows
from convergent.storage.layout import outdated
from convergent.storage.tensors import opened

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Finished:
    """One result's folder.

    Attributes:
        folder: of the result.
        summary: what its summary.json holds.
        setting: what everything but the method was; results are comparable where it is equal.
    """

    folder: Path
    summary: dict[str, Any]
    setting: str

    @classmethod
    def of(cls, folder: Path) -> Finished:
        """The result in a folder that is done.

        Raises:
            InputError: if one of its files is missing or damaged.
        """
        file, another = folder / "config.yaml", ""
        try:
            record: Any = OmegaConf.to_container(OmegaConf.load(file))
            another = outdated(record, folder)
            made = record["reading"] | record["evaluation"] | record
            kept = {key: made[key] for key in ("nets", "images", "sample", "units", "pairs", "at_epochs", "folds")}
            file = folder / "summary.json"
            summary = json.loads(file.read_text())
            int(summary["images"]), [(pair["layer"], pair["a"], pair["b"]) for pair in summary["pairs"]]
            for file in (folder / "scores.csv", *folder.glob("*.csv")):
                check_rows(file)
            file = folder / "scores.csv"
            for row in read_rows(file):
                row["layer"], row["a"], row["b"], float(row["r"] or "nan")
            for layer in summary["layers"]:
                file = folder / "alignments" / f"{layer}.safetensors"
                opened(file)
        except Exception as error:  # whatever a damaged file makes of a parser
            problem = "missing" if isinstance(error, FileNotFoundError) else "damaged"
            raise InputError(
                another or f"{file} is {problem}; make that result again with force=true or delete {folder}."
            ) from None
        if another:
            raise InputError(another)
        return cls(folder, summary, json.dumps(kept, sort_keys=True))

    @property
    def method(self) -> str:
        """The method's name, without its settings."""
        return self.folder.name.split(",")[0]

    @property
    def name(self) -> str:
        """The method's name with its settings, but for the images, which tables have a column for."""
        return re.sub(r",images=[^,]*", "", self.folder.name)

    @property
    def images(self) -> int:
        """How many images were read."""
        return int(self.summary["images"])

    @property
    def holds_out(self) -> bool:
        """Whether there are held-out scores: with folds=0 there are none."""
        return any("r2_held_out" in figures for figures in self.summary["layers"].values())

    def explained(self) -> float:
        """Mean share of variance explained on held-out images, over layers; -1 where it is not known."""
        given = [figures.get("r2_held_out", -1.0) for figures in self.summary["layers"].values()]
        return float(np.mean(given))

    def labels(self, layer: str, kind: str = "labels") -> dict[str, torch.Tensor]:
        """The cluster of both nets' units, by "A to B": the method's `labels`, or those in the `tree` of its map."""
        found = {}
        with opened(self.folder / "alignments" / f"{layer}.safetensors") as saved:
            for key in saved.keys():  # noqa: SIM118  (no mapping)
                if key.endswith(f"/{kind}_a"):
                    pair = key.removesuffix(f"/{kind}_a")
                    found[pair] = torch.cat([saved.get_tensor(key), saved.get_tensor(f"{pair}/{kind}_b")])
        return found


def find(aligned: Path) -> list[Finished]:
    """The finished results in a folder of an experiment, those of most images first, then by name.

    One that is damaged is told and left out.
    """
    found = []
    for done in sorted(aligned.glob("*/done")):
        try:
            found.append(Finished.of(done.parent))
        except InputError as error:
            log.warning("%s It is left out of the report.", error)
    return sorted(found, key=lambda result: (-result.images, result.folder.name))


def comparable(found: Sequence[Finished]) -> list[dict[str, list[Finished]]]:
    """Results that differ in the method alone, by method; first the set with the most methods."""
    sets: dict[str, dict[str, list[Finished]]] = {}
    for result in found:
        sets.setdefault(result.setting, {}).setdefault(result.method, []).append(result)
    return sorted(sets.values(), key=lambda methods: -len(methods))


# The columns of the table of clusters: heading, figure of summary.json, its format.
_CLUSTERS = (
    ("clusters", "solver_clusters", "{:.1f}"),
    ("in none", "solver_isolated", "{:.1f}"),
    ("unequal", "unequal", "{:.0%}"),
    ("similarity", "similarity_between", "{:.2f}"),
    ("(rotated)", "similarity_between_rotated", "{:.2f}"),
    ("stable", "rand", "{:.2f}"),
    ("subspace R²", "subspace_span_explained", "{:.2f}"),
    ("(rotated)", "subspace_span_explained_rotated", "{:.2f}"),
    ("unit r²", "subspace_matched_explained", "{:.2f}"),
    ("(rotated)", "subspace_matched_explained_rotated", "{:.2f}"),
    ("turned", "subspace_rotated_within_explained", "{:.2f}"),
    ("random", "subspace_random_explained", "{:.2f}"),
)


def clusters(found: Sequence[Finished]) -> list[list[str]]:
    """The table of clusterings: headings, then a row per layer and result, means over the ordered pairs of nets."""
    rows = [["layer", "method", "images", *(heading for heading, _, _ in _CLUSTERS)]]
    for layer in dict.fromkeys(layer for result in found for layer in result.summary["layers"]):
        for result in found:
            figures = result.summary["layers"].get(layer, {})
            if "similarity_between" in figures:
                cells = [how.format(figures[key]) if key in figures else "-" for _, key, how in _CLUSTERS]
                rows.append([layer, result.name, f"{result.images:,}", *cells])
    return rows


def agreement(found: Sequence[Finished]) -> list[list[str]]:
    """The table of how far two clusterings agree, one of which may be a tree's: headings, then a row per layer and two.

    Adjusted Rand index over the units that both put into a cluster, whose share is told, for a tree clusters only some: mean
    and deviation over the ordered pairs of nets.
    """
    rows = [["layer", "method", "and", "images", "units", "adjusted Rand"]]
    for layer in dict.fromkeys(layer for result in found for layer in result.summary["layers"]):
        there = [result for result in found if layer in result.summary["layers"]]
        labelled = [(result, result.name, result.labels(layer)) for result in there]
        trees = [(result, f"tree of {result.name}", result.labels(layer, "tree")) for result in there]
        of_both = [*combinations(labelled, 2), *product(trees, labelled)]
        for (one, name, label), (other, other_name, label_other) in of_both:
            pairs = [pair for pair in label if pair in label_other] if one.setting == other.setting else []
            if indices := [adjusted_rand(label[pair], label_other[pair]) for pair in pairs]:
                both = np.mean(
                    [float(((label[pair] >= 0) & (label_other[pair] >= 0)).double().mean()) for pair in pairs]
                )
                told = f"{np.mean(indices):.2f} ± {np.std(indices):.2f}"
                rows.append([layer, name, other_name, f"{one.images:,}", f"{both:.0%}", told])
    return rows
