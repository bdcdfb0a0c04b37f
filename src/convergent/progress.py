"""Progress bars of long steps: on a terminal they move, elsewhere nothing is printed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import track as _track

T = TypeVar("T")


def track(steps: Iterable[T], what: str, total: float | None = None) -> Iterator[T]:
    """The steps, with a bar that says what is done and how long the rest will take, and is gone at the end."""
    console = Console()
    yield from _track(steps, escape(what), total, console=console, transient=True, disable=not console.is_terminal)
