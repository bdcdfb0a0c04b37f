"""Progress of long steps: a bar that moves on a terminal, a line per minute in a log; neither where we are silenced."""

import logging
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import track as bar

log = logging.getLogger(__name__)

T = TypeVar("T")


def track(steps: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """The steps; a bar says what is done and how long the rest will take, and is gone at the end."""
    console = Console()
    if console.is_terminal:
        yield from bar(steps, escape(what), total, console=console, transient=True, disable=silenced())
        return
    total = len(steps) if total is None and isinstance(steps, Sized) else total
    pace = Pace()
    for number, step in enumerate(steps, 1):
        yield step
        if pace.due() and number != total:
            log.info("%s: %d%s", what, number, "" if total is None else f" of {total}")


class Pace:
    """Lets something through once in so many seconds, and not at once."""

    def __init__(self, seconds: float = 60.0) -> None:
        self.seconds, self._last = seconds, time.monotonic()

    def due(self) -> bool:
        """Whether the time has come again."""
        now = time.monotonic()
        due = now - self._last >= self.seconds
        self._last = now if due else self._last
        return due


def silenced() -> bool:
    """Whether somebody has set the package's logger to warnings and errors, as quiet=true does."""
    return logging.getLogger("convergent").level >= logging.WARNING


def took(began: float) -> str:
    """How long something took that began at a value of time.monotonic().

    >>> took(time.monotonic() - 41.2), took(time.monotonic() - 1000)
    ('41 s', '17 min')
    """
    return lasts(time.monotonic() - began)


def lasts(seconds: float) -> str:
    """A duration in seconds, or if long in minutes."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
