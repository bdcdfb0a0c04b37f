"""Snapshots of a statistics pass, so that a killed one goes on where it was and counts nothing twice."""

import hashlib
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from torch import Tensor

from convergent.errors import InputError
from convergent.storage.files import atomic
from convergent.storage.tensors import opened, save_tensors

log = logging.getLogger(__name__)

# A snapshot may take this share of the time at most.
_SHARE = 0.05


@dataclass
class Snapshots:
    """A file per process, replaced every few minutes at most; `about` says what the pass reads, and how."""

    folder: Path
    about: str
    minutes: float
    memory: float | None = None  # what decided which sums the pass makes, see `divided_pass`
    _last: float = field(default_factory=time.monotonic)
    _took: float = 0.0

    @property
    def _key(self) -> str:
        return f"{program()} {self.about}"

    def file(self, rank: int, world: int) -> Path:
        """The file of one of `world` processes."""
        return self.folder / f"partial-{rank}-of-{world}.safetensors"

    def batches(self, rank: int, world: int) -> int:
        """How many batches a process has read before."""
        try:
            with opened(self.file(rank, world)) as saved:
                about = saved.metadata()
        except OSError:
            return 0
        except InputError as error:
            log.warning("%s The pass begins anew.", error)
            return 0
        if about["about"] != self._key:
            log.warning(
                "%s is of another pass or version of this program; the pass begins anew.", self.file(rank, world)
            )
            return 0
        return int(about["batches"])

    def memory_before(self) -> float | None:
        """The memory that decided which sums a pass makes that was stopped: it is to make the same ones."""
        for file in self.folder.glob("partial-0-of-*.safetensors"):
            with suppress(OSError, InputError), opened(file) as saved:
                if (about := saved.metadata())["about"] == self._key and about["memory"]:
                    return float(about["memory"])
        return None

    def load(self, rank: int, world: int) -> dict[str, Tensor]:
        """The state of the pass after those batches."""
        with opened(self.file(rank, world)) as saved:
            return {name: saved.get_tensor(name) for name in saved.keys()}  # noqa: SIM118  (no mapping)

    @property
    def due(self) -> bool:
        """Whether it is time for another one."""
        return time.monotonic() - self._last >= max(60 * self.minutes, self._took / _SHARE)

    def save(self, state: Mapping[str, Tensor], batches: int, rank: int, world: int) -> None:
        """Replace the process's file, whole or not at all."""
        start = time.monotonic()
        with atomic(self.file(rank, world)) as file:
            save_tensors(state, file, {"about": self._key, "batches": str(batches), "memory": str(self.memory or "")})
        self._last = time.monotonic()
        self._took = self._last - start

    def remove(self) -> None:
        """Delete the files of all processes: the pass is saved."""
        for file in self.folder.glob("partial-*"):
            file.unlink(missing_ok=True)


@cache
def program() -> str:
    """A key of this very program: what a pass has in memory is of no use to another version of it."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
