"""Checks of a method's options when it is made, before anything is measured: a wrong one is told in one sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from convergent.errors import InputError


def check_number(
    name: str, value: Any, least: float = 0, most: float = math.inf, *, above: bool = False, why: str = ""
) -> None:
    """A finite number, `least` or more (or above it) and `most` at most.

    Raises:
        InputError: if it is none.

    >>> check_number("ridge", -1)
    Traceback (most recent call last):
    convergent.errors.InputError: ridge needs to be 0 or more, not -1.
    """
    words = f"above {least:g}" if above else f"{least:g} or more"
    words = words if most == math.inf else f"between {least:g} and {most:g}"
    real = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not real or not least <= value <= most or (above and value == least):
        raise InputError(f"{name} needs to be {words}{why}, not {value!r}.")


def check_whole(name: str, value: Any, least: int = 0) -> None:
    """A whole number, `least` or more.

    Raises:
        InputError: if it is none.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InputError(f"{name} needs to be a whole number, {least} or more, not {value!r}.")


def check_flag(name: str, value: Any) -> None:
    """True or false, and no word that would pass for true.

    Raises:
        InputError: if it is neither.
    """
    if not isinstance(value, bool):
        raise InputError(f"{name} needs to be true or false, not {value!r}.")


def check_word(name: str, value: Any, words: Sequence[str]) -> None:
    """One of some words.

    Raises:
        InputError: if it is none of them.
    """
    if value not in words:
        raise InputError(f"{name} needs to be {' or '.join((', '.join(words[:-1]), words[-1]))}, not {value!r}.")


def check_numbers(name: str, value: Any) -> None:
    """A list of numbers above 0, one at least.

    Raises:
        InputError: if it is none.
    """
    if isinstance(value, str) or not isinstance(value, Sequence) or not len(value):
        raise InputError(f"{name} needs to be a list of numbers above 0, as [0.1,0.01], not {value!r}.")
    for each in value:
        check_number(f"Each of {name}", each, above=True)
