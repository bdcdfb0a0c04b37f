"""Finished results of the commands as tidy tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path

import pandas as pd

from convergent.analysis.frames import shown, tidy
from convergent.errors import InputError
from convergent.report.loading import Finished, find
from convergent.storage.csv_files import read_rows

_TEXT = ("layer", "a", "b", "method")


def load(folder: str | PathLike[str] = "outputs") -> Results:
    """The finished results of `convergent align` in a folder: outputs, outputs/align, an experiment, or one result.

    A damaged one is left out, with a warning that names its file.

    Raises:
        InputError: if there is no such folder, or no finished result in it.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"There is no folder {root}; give the outputs of `convergent align`, or run it first.")
    done = [file.parent for steps in ("", "*/", "*/*/", "align/*/*/") for file in sorted(root.glob(f"{steps}done"))]
    results = [of for experiment in dict.fromkeys(result.parent for result in done) for of in find(experiment)]
    results = [result for result in results if result.folder in done]
    if not results:
        raise InputError(f"There is no finished result in {root}; run `convergent align` first.")
    return Results(results)


class Results(Sequence[Finished]):
    """Finished results of the commands, each with its folder and what its files hold."""

    def __init__(self, finished: Sequence[Finished]) -> None:
        self._finished = list(finished)

    def __getitem__(self, number: int) -> Finished:  # type: ignore[override]
        return self._finished[number]

    def __iter__(self) -> Iterator[Finished]:
        return iter(self._finished)

    def __len__(self) -> int:
        return len(self._finished)

    def frame(self, *, units: bool = False) -> pd.DataFrame:
        """A row per experiment, layer, ordered pair of nets and method, or per unit of net b.

        Its columns are those of `compare(...).frame()`, see `analysis.columns`, with the experiment's name before them.
        """
        frames = []
        for result in self:
            frame = _units(result) if units else pd.DataFrame(result.summary["pairs"])
            frames.append(frame.assign(method=result.name, experiment=result.folder.parent.name))
        return tidy(pd.concat(frames, ignore_index=True))

    def __repr__(self) -> str:
        experiments = dict.fromkeys(result.folder.parent.name for result in self)
        return f"Results({len(self)} of {', '.join(experiments)}: {', '.join(dict.fromkeys(of.name for of in self))})"

    def _repr_html_(self) -> str:
        return shown(self.frame())


def _units(result: Finished) -> pd.DataFrame:
    frame = pd.DataFrame(list(read_rows(result.folder / "scores.csv")))
    numbers = [name for name in frame if name not in _TEXT]
    return frame.assign(**frame[numbers].apply(pd.to_numeric))
