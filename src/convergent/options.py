"""What an option may be: declared once, as a kind, wherever the option is, and named in one sentence where it is not.

A class or function of this package says so in its annotations, `ridge: Annotated[float, number(above=True)] = 1e-3`; the
options of the commands are declared in convergent.cli.schema.
"""

from __future__ import annotations

import math
import operator
import os
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache, reduce
from numbers import Integral, Real
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from convergent.errors import InputError


@dataclass(frozen=True)
class Kind:
    """What an option may be: words after "needs to be", whether a value fits, and whether another makes another result.

    >>> check("folds", 5, whole(2) | NULL)
    >>> check("folds", "half", whole(2) | NULL)
    Traceback (most recent call last):
    convergent.errors.InputError: folds needs to be a whole number, 2 or more, or null, not 'half'.
    """

    words: str
    fits: Callable[[Any], bool]
    identifies: bool = True

    def __or__(self, other: Kind) -> Kind:
        comma = "," if "," in self.words or " or " in self.words else ""
        return Kind(f"{self.words}{comma} or {other.words}", lambda value: self.fits(value) or other.fits(value))


def saying(words: str, kind: Kind) -> Kind:
    """A kind in other words."""
    return replace(kind, words=words)


def aside(kind: Kind) -> Kind:
    """A kind whose option changes no result: where things are, on which machine, how often they are saved."""
    return replace(kind, identifies=False)


def check(name: str, value: Any, kind: Kind) -> None:
    """A value of a kind.

    Raises:
        InputError: if it is none.
    """
    if not kind.fits(value):
        raise InputError(f"{name} needs to be {kind.words}, not {shown(value)}.")


def check_fields(record: Any) -> None:
    """The fields of a dataclass, as its annotations declare them.

    Raises:
        InputError: if one is none that it can be.
    """
    for name, kind in kinds_of(type(record)).items():  # type: ignore[arg-type]
        check(name, getattr(record, name), kind)


# Of a dataclass's field that came when there were results already: it makes another result where it is set.
LATER = {"later": True}


def identity(record: Any) -> dict[str, Any]:
    """The fields of a dataclass that make another result where they are other, see `aside` and `LATER`."""
    kinds, values = kinds_of(type(record)), {}  # type: ignore[arg-type]
    for of in fields(record):
        value, aside = getattr(record, of.name), of.name in kinds and not kinds[of.name].identifies
        if not aside and of.compare and not (of.metadata and value in (of.default, [])):
            values[of.name] = value
    return values


def shown(value: Any) -> str:
    """A value as its user wrote it, cut where it is long."""
    text = {None: "null", True: "true", False: "false"}.get(value) if isinstance(value, bool | None) else repr(value)
    return text if text and len(text) < 100 else f"{str(text)[:100]}..."


def number(least: float = -math.inf, most: float = math.inf, *, above: bool = False, why: str = "") -> Kind:
    """A finite number, `least` or more (or above it) and `most` at most."""
    words = "a number" if least == -math.inf else f"above {least:g}" if above else f"{least:g} or more"
    words = words if most == math.inf else f"between {least:g} and {most:g}"

    def fits(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
            return False
        return least <= float(value) <= most and not (above and value == least)

    return Kind(words + why, fits)


def whole(least: int | None = 0, most: int | None = None) -> Kind:
    """A whole number, `least` or more and `most` at most; any without them."""
    words = "a whole number" if least is None else f"a whole number, {least} or more"
    words = words if most is None else f"a whole number from {least} to {most}"

    def fits(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, Integral):
            return False
        return (least is None or least <= int(value)) and (most is None or int(value) <= most)

    return Kind(words, fits)


def word(*words: str | int) -> Kind:
    """One of some words."""
    *some, last = map(str, words)
    either = f"{', '.join(some)} or {last}" if some else last
    return Kind(either, lambda value: not isinstance(value, bool | float) and value in words)


def listed(kind: Kind, least: int = 1, most: int | None = None, *, distinct: bool = False, example: str = "") -> Kind:
    """A list of `least` or more things of a kind, none twice if they are to be distinct."""

    def fits(value: Any) -> bool:
        some = isinstance(value, Sequence) and not isinstance(value, str) and least <= len(value)
        if not some or (most is not None and len(value) > most) or not all(map(kind.fits, value)):
            return False
        return not distinct or len(set(value)) == len(value)

    many = "" if most is None else f"{most} " if least == most else f"at most {most} "
    words = f"a list of {many}{'different ' if distinct else ''}values, each {kind.words}"
    return Kind(f"{words}, as {example}" if example else words, fits)


def table(kind: Kind) -> Kind:
    """A dictionary from names to things of a kind."""

    def fits(value: Any) -> bool:
        named = isinstance(value, Mapping) and all(isinstance(name, str) for name in value)
        return named and all(map(kind.fits, value.values()))

    return Kind(f"a dictionary of values, each {kind.words}", fits)


LONGEST_NAME = 100  # bytes: file systems allow 255, people read fewer


def _component(value: Any) -> bool:
    """Whether a value, a text or a whole number, is one component of a path, neither a path nor a way out of one."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return False
    text = str(value)
    whole_path = not text.strip() or text in (".", "..") or bool(set(text) & set("/\\"))
    return not whole_path and text.isprintable() and len(os.fsencode(text)) <= LONGEST_NAME


NULL = Kind("null", lambda value: value is None)
FLAG = Kind("true or false", lambda value: isinstance(value, bool))
TEXT = Kind("text", lambda value: isinstance(value, str) and bool(value.strip()))
COMPONENT = Kind("the name of one folder (no / or \\, not . or .., at most 100 bytes)", _component)
# whatever is not declared: everything but numbers that no computation survives
FINITE = Kind("finite", lambda value: not isinstance(value, float) or math.isfinite(value))


@cache
def kinds_of(target: Any) -> dict[str, Kind]:
    """The kinds that a class or function declares for its arguments by annotations; none for those that say nothing."""
    try:
        annotated = target if is_dataclass(target) or not isinstance(target, type) else target.__init__  # type: ignore[misc]
        hints = get_type_hints(annotated, include_extras=True)
    except Exception:  # whatever somebody else's annotations need in order to be read
        return {}
    return {name: kind for name, hint in hints.items() if (kind := kind_of(hint))}


_PLAIN = {int: whole(None), float: number(), bool: FLAG, type(None): NULL}
_PLAIN[str] = Kind("text", lambda value: isinstance(value, str))


def kind_of(hint: Any) -> Kind | None:
    """The kind that a type annotation means; None if any value may do."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint in _PLAIN:
        return _PLAIN[hint]
    if origin is Annotated:
        return next((extra for extra in inner[1:] if isinstance(extra, Kind)), None) or kind_of(inner[0])
    if origin in (Union, types.UnionType):
        kinds = [kind_of(part) for part in inner]
        return reduce(operator.or_, kinds) if all(kinds) else None
    if origin is Literal:
        return word(*inner)
    if origin in (list, Sequence):
        return listed(kind_of(inner[0]) or FINITE, 0)
    return None
