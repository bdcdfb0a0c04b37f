"""Digests of files, those of large folders made once: remembered by path, size and times in a file of their own."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from convergent.data.opening import regular, shown
from convergent.progress import track
from convergent.storage.files import atomic

log = logging.getLogger(__name__)

_WORTH_REMEMBERING = 64_000_000  # bytes: less is digested anew each time, sooner than one would notice
_SAID = 1_000_000_000  # bytes whose digests take long enough to be spoken of
_SETTLED = 2_000_000_000  # nanoseconds: a file younger than that could change again without a change of its times
_MISSING = "unreadable"  # told when it is read as a picture


class Mark(NamedTuple):
    """What shows that a file is still the same: its size, and when its content and anything of it last changed."""

    size: int
    content_ns: int
    anything_ns: int


@dataclass(frozen=True)
class Files:
    """Files in one folder: their paths from there, and the marks that they have now."""

    folder: str
    names: Sequence[str]
    marks: Sequence[Mark]

    @classmethod
    def of(cls, paths: Sequence[str]) -> Files:
        """The files of these paths."""
        paths = [os.path.normpath(path) for path in paths]
        folder = os.path.commonpath([os.path.split(path)[0] for path in paths])
        return cls(folder, [path.removeprefix(folder).lstrip(os.sep) for path in paths], [*map(_mark, paths)])

    @property
    def size(self) -> int:
        """Of all together, bytes."""
        return sum(mark.size for mark in self.marks)

    def only(self, chosen: Sequence[int]) -> Files:
        """Some of them."""
        return replace(self, names=[self.names[n] for n in chosen], marks=[self.marks[n] for n in chosen])

    def digests(self, remembered: Path | None) -> list[str]:
        """A digest of each file's bytes; those of large folders are remembered in a folder, if any."""
        if remembered is None or self.size < _WORTH_REMEMBERING:
            return [digest for digest, _ in self._read(quiet=True)]
        key = hashlib.sha256(os.fsencode(Path(self.folder).resolve())).hexdigest()[:16]
        memory = remembered / f"{key}.json"
        known = _recall(memory)
        missing = [n for n, name in enumerate(self.names) if name not in known or known[name][0] != self.marks[n]]
        new, digested = self.only(missing), dict[str, str]()
        if missing and new.size > _SAID:
            log.info("Digesting %d files in %s, which is done once", len(missing), shown(self.folder))
        try:
            for name, mark, (digest, began_ns) in zip(new.names, new.marks, new._read(quiet=new.size < _SAID)):
                digested[name] = digest
                if digest != _MISSING and began_ns - mark.content_ns > _SETTLED:
                    known[name] = mark, digest
        finally:  # of a job that is stopped, too
            if digested:
                _remember(memory, known)
        return [digested[name] if name in digested else known[name][1] for name in self.names]

    def _read(self, *, quiet: bool) -> Iterator[tuple[str, int]]:
        """The digest of each file, and when it was begun in nanoseconds."""
        paths = [str(Path(self.folder, name)) for name in self.names]
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            digests = pool.map(_digest, paths)
            yield from digests if quiet else track(digests, "digesting", len(paths))


def _mark(file: str) -> Mark:
    """The mark of a file; zeros for one that is not there."""
    try:
        status = Path(file).stat()
    except OSError:
        return Mark(0, 0, 0)
    return Mark(status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _digest(file: str) -> tuple[str, int]:
    began_ns = time.time_ns()
    try:
        with regular(file) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()[:32], began_ns
    except OSError:
        return _MISSING, began_ns


def _recall(memory: Path) -> dict[str, tuple[Mark, str]]:
    """What is remembered: nothing where that is damaged."""
    try:
        content = json.loads(memory.read_bytes())
        return {str(name): (Mark(*map(int, mark)), str(digest)) for name, (mark, digest) in content.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _remember(memory: Path, known: dict[str, tuple[Mark, str]]) -> None:
    try:
        with atomic(memory) as file:
            file.write_text(json.dumps(known))
    except OSError as error:
        log.warning("The digests of these images cannot be kept (%s): they are made again next time", error)
