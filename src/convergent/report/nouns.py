"""What the nets of an experiment read, in words: images, or contexts of texts."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

IMAGES = "images"
# Behind a word of a sentence, or a number that is there or put in by a script: no variable has one of these before it.
_IMAGES = re.compile(
    r"((?:\b(?:held-out|top-activating|the|these|of|on|over|where|many|few|other)|[\d,]+|\}) )images\b"
)


def noun_of(summaries: Sequence[Mapping[str, Any]]) -> str:
    """What summary.json of each result calls what was read."""
    return next((of["noun"] for of in summaries if "noun" in of), IMAGES)


def in_words(text: str, noun: str) -> str:
    """Sentences about images as sentences about what was read; names of variables and options stay.

    >>> in_words("R² on held-out images; over 1,200 images: about.images === images, byId('images')", "contexts")
    "R² on held-out contexts; over 1,200 contexts: about.images === images, byId('images')"
    """
    return text if noun == IMAGES else _IMAGES.sub(rf"\1{noun}", text)
