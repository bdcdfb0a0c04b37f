"""A command line of which no configuration can be made: one sentence instead of Hydra's several lines."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from convergent.cli.checking import resolved, unknown
from convergent.cli.command import leave
from convergent.cli.help import choices_of

_RAISES = "HYDRA_FULL_ERROR"  # with 1, Hydra raises what it otherwise prints
_ours = False


@contextmanager
def composing(command: str, arguments: Sequence[str]) -> Iterator[None]:
    """Leave with one sentence where no configuration can be composed, unless the user asks for Hydra's own words."""
    global _ours
    if os.environ.get(_RAISES) == "1":
        yield
        return
    os.environ[_RAISES], _ours = "1", True
    try:
        yield
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        leave(_sentence(command, arguments, error))
    finally:
        composed()


def composed() -> None:
    """There is a configuration: from here on Hydra reports errors as it always does, in processes started from here, too."""
    global _ours
    if _ours:
        del os.environ[_RAISES]
        _ours = False


def _sentence(command: str, arguments: Sequence[str], error: Exception) -> str:
    cause = error.__cause__
    if isinstance(error, OverrideParseException):
        quoted = "quote a value with spaces or brackets twice, as \"name='a b'\""
        return f"{error.override} cannot be read as NAME=VALUE; {quoted}."
    if isinstance(error, MissingConfigException) and "/" in (error.missing_cfg_file or ""):
        group, _, word = str(error.missing_cfg_file).rpartition("/")
        there = choices_of(group, arguments)
        near = get_close_matches(word, there, n=1)
        return f"{group} has no choice {word}; " + (
            f"did you mean {near[0]}?" if near else f"it has {', '.join(there)}."
        )
    if named := re.match(r"Could not (?:override|delete from config\.) '(.+?)'", str(error)):
        parent = cause.parent_node if isinstance(cause, OmegaConfBaseException) else None
        return unknown(command, named[1], resolved(parent) or {})
    if added := re.match(r"Could not append to config\. An item is already at '(.+?)'", str(error)):
        return f"{added[1]} is an option already; leave the + before it out."
    if several := re.match("Ambiguous value for argument '(.+?)'", str(error)):
        return f"{several[1]} names several values; add -m to run the command with each, or make it a list, [...]."
    return " ".join(f"{error} {cause or ''}".split()).rstrip(".") + "."
