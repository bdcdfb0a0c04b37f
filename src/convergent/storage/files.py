"""Files that are written whole or not at all, and are there after a power loss."""

import json
import os
import platform
import re
import time
from glob import escape
from pathlib import Path
from typing import Any

_HOST = re.sub(r"[^\w-]", "-", platform.node())[:60]
_FORGOTTEN = 24 * 3600  # seconds after which nobody on another machine writes to a file any more


class atomic:
    """A path to write to that becomes the named file only when the block ends well.

    What a killed process left of the same file is removed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.partial = path.with_name(f".{path.name}.{_HOST}.{os.getpid()}")

    def __enter__(self) -> Path:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.path.parent, self.path.name)
        return self.partial

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError) and error.filename is None:  # a full disk does not say which
            error.filename = str(self.path)
        try:
            if kind is None:
                self.partial.chmod(0o644)  # some writers make files for the owner only
                _to_disk(self.partial)  # or the name might reach the disk before the content does
                self.partial.replace(self.path)
                _to_disk(self.path.parent)
        finally:
            self.partial.unlink(missing_ok=True)


def remove_leftovers(folder: Path, name: str | None = None) -> None:
    """Remove what killed processes left half written of a file; without a name of any in the folder and those in it."""
    pattern = f".{escape(name)}.*" if name else ".*.*"
    for file in folder.glob(pattern) if name else folder.rglob(pattern):
        host, _, process = file.name[len(name) + 2 if name else 0 :].rpartition(".")
        if process.isdigit() and _is_dead(host.rpartition(".")[2], int(process), file):
            file.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file, whole or not at all."""
    with atomic(path) as file:
        file.write_text(json.dumps(content, indent=1) + "\n")


def _is_dead(host: str, process: int, file: Path) -> bool:
    """Whether the process that was writing a file is gone; of one elsewhere it shows after a day without a byte."""
    try:
        if host != _HOST:
            return time.time() - file.stat().st_mtime > _FORGOTTEN
        os.kill(process, 0)
    except OSError as error:  # others mean somebody else's process, or that the file is gone
        return isinstance(error, ProcessLookupError)
    return False


def _to_disk(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
