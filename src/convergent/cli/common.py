"""What no method changes, such as measures of similarity: made by the first job that needs it, saved beside the moments."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from convergent.cli.align_job import AlignJob
from convergent.cli.checking import resolved, targets
from convergent.cli.measurement import Measurement
from convergent.storage.files import write_json
from convergent.streaming.snapshots import program

T = TypeVar("T")


@dataclass(frozen=True)
class Common:
    """Values that all methods share, a file each.

    Attributes:
        folder: named after all that they depend on beside the nets, the images and how these are read; None where a
            measure is not this package's: whether it is still the same nobody knows, so nothing is saved.
    """

    folder: Path | None

    @classmethod
    def of(cls, job: AlignJob, measurement: Measurement) -> Common:
        """Those of a job's nets, as it evaluates them."""
        similarity = resolved(job.config.similarity)
        if not all(node["_target_"].startswith("convergent.") for _, node in targets(similarity)):
            return cls(None)
        about = json.dumps([program(), job.names, similarity, asdict(job.evaluation)], default=list)
        return cls(measurement.folder / f"common,{hashlib.sha256(about.encode()).hexdigest()[:16]}")

    def get(self, name: str, make: Callable[[], T]) -> T:
        """The value of this name: as it was saved, tuples as lists, or made now of what JSON has."""
        if self.folder is None:
            return make()
        file = self.folder / f"{name}.json"
        with contextlib.suppress(OSError, ValueError):  # not there, or damaged
            return json.loads(file.read_text())  # type: ignore[no-any-return]
        value = make()
        write_json(file, value)
        return value
