"""Finished alignments of an experiment: what is there, and what goes into one chart."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd
import torch
from omegaconf import OmegaConf

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
            setting = {key: made[key] for key in ("nets", "images", "sample", "units", "pairs", "at_epochs", "folds")}
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
        return cls(folder, summary, json.dumps(setting, sort_keys=True))

    def rows(self, table: str) -> list[dict[str, Any]]:
        """The rows of one of its tables, numbers as numbers, empty cells as None."""
        frame = pd.read_csv(self.folder / f"{table}.csv").astype(object)
        rows: list[dict[str, Any]] = frame.where(frame.notna(), None).to_dict("records")
        return rows

    @property
    def method(self) -> str:
        """The method's name, without its settings."""
        return self.folder.name.split(",")[0]

    @property
    def name(self) -> str:
        """The method's name with its settings, but for the images, which tables have a column for."""
        return re.sub(r",images=[^,]*", "", self.folder.name)

    @property
    def layers(self) -> dict[str, dict[str, Any]]:
        """The scalars of each layer, see `analysis.columns.LAYER`."""
        return self.summary["layers"]  # type: ignore[no-any-return]

    @property
    def images(self) -> int:
        """How many images were read."""
        return int(self.summary["images"])

    @property
    def holds_out(self) -> bool:
        """Whether there are held-out scores: with folds=0 there are none."""
        return any("r2_held_out" in scalars for scalars in self.layers.values())

    def explained(self) -> float:
        """Mean share of variance explained on held-out images, over layers; -1 where it is not known."""
        return fmean(scalars.get("r2_held_out", -1.0) for scalars in self.layers.values())

    def labels(self, layer: str, kind: str = "labels") -> dict[str, torch.Tensor]:
        """The cluster of both nets' units, by "A to B": the method's `labels`, or those in the `tree` of its map."""
        labels = {}
        with opened(self.folder / "alignments" / f"{layer}.safetensors") as saved:
            for key in saved.keys():  # noqa: SIM118  (no mapping)
                if key.endswith(f"/{kind}_a"):
                    pair = key.removesuffix(f"/{kind}_a")
                    labels[pair] = torch.cat([saved.get_tensor(key), saved.get_tensor(f"{pair}/{kind}_b")])
        return labels


def find(aligned: Path) -> list[Finished]:
    """The finished results in a folder of an experiment, those of most images first, then by name.

    One that is damaged is named in a warning and left out.
    """
    results = []
    for done in sorted(aligned.glob("*/done")):
        try:
            results.append(Finished.of(done.parent))
        except InputError as error:
            log.warning("%s It is left out of the report.", error)
    return sorted(results, key=lambda result: (-result.images, result.folder.name))


def comparable(results: Sequence[Finished]) -> list[dict[str, list[Finished]]]:
    """Results that differ in the method alone, by method; first the set with the most methods."""
    sets: dict[str, dict[str, list[Finished]]] = {}
    for result in results:
        sets.setdefault(result.setting, {}).setdefault(result.method, []).append(result)
    return sorted(sets.values(), key=lambda methods: -len(methods))
