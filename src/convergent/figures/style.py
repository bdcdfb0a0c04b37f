"""What all figures share, and the page with them: words, marks, and colours that the colour-blind tell apart."""

import re
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D

# Of layers, nets and kinds, in this order. Those of Okabe and Ito 2008 that white paper does not swallow (a contrast of 3
# and more), then darker ones that stay apart from them and each other in the three kinds of colour vision deficiency.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#320096", "#7D3219", "#964BFA", "#000000")


class Look(NamedTuple):
    """How a method is drawn, wherever it is drawn."""

    words: str
    colour: str
    mark: str


# A method looks the same in every figure, on the page and in W&B, whatever stands beside it.
_METHODS = {
    "matching": Look("matching", "#0072B2", "s"),
    "semimatching": Look("semi-matching", "#D55E00", "o"),
    "mutual_information": Look("mutual information", "#009E73", "D"),
    "sparse": Look("sparse", "#CC79A7", "^"),
    "sparse_path": Look("sparse path", "#4B004B", "v"),
    "spectral": Look("spectral", "#964BFA", "P"),
    "hierarchical_spectral": Look("hierarchical spectral", "#320096", "X"),
    "spectral_paper": Look("spectral (paper)", "#7D3219", "p"),
    "least_squares": Look("least squares", "#000000", "h"),
}
_OTHERS = ("#5D5D5D", "#8A6D00", "#B0005E", "#00706B", "#A8501C")  # of methods that are not ours, by their name


def look_of(result: str) -> Look:
    """How the method of a result is drawn, and what the result is called; settings follow the method's name.

    >>> look_of("least_squares").words, look_of("sparse,alpha=0.1").words, look_of("my_own").words
    ('least squares', 'sparse, alpha=0.1', 'my own')
    """
    method, *settings = re.sub(r",images=[^,]*", "", result).split(",")
    number = zlib.crc32(method.encode())  # the same in every process
    other = Look(method.replace("_", " "), _OTHERS[number % len(_OTHERS)], "<>dH*"[number % 5])
    look = _METHODS.get(method, other)
    return look._replace(words=", ".join([look.words, *settings]))


def in_order(results: Iterable[str]) -> list[str]:
    """Results as methods are listed, of fewer partners first; those of methods that are not ours last."""
    place = {method: number for number, method in enumerate(_METHODS)}
    return sorted(results, key=lambda result: (place.get(result.split(",")[0], len(place)), result))


# How what chance gives is drawn, by the null's name; and what it is called.
NULLS: dict[str, dict[str, Any]] = {
    "rotated": {"color": "black", "ls": (0, (4, 2)), "lw": 0.9},
    "rotated_after": {"color": "0.55", "ls": (0, (4, 2)), "lw": 0.9},
    "shuffled": {"color": "black", "ls": (0, (1, 2)), "lw": 0.9},
}
_NULL_WORDS = {
    "rotated": "random rotation",
    "rotated_after": "random rotation of activations",
    "shuffled": "shuffled images",
}
NULL_MEANINGS = {
    "rotated": "one net's pre-activations are rotated at random before the nonlinearity, each unit's mean and variance "
    "kept: the same space on random axes",
    "rotated_after": "one net's activations are rotated at random: the same space, but no rectified units, so that real "
    "axes exceed it even where they mean nothing",
    "shuffled": "each net reads the images in an order of its own: what is left is what any two nets have in common",
}


def null_words(null: str) -> str:
    """What a null is called.

    >>> null_words("rotated"), null_words("shuffled")
    ('random rotation', 'shuffled images')
    """
    return _NULL_WORDS.get(null, null.replace("_", " "))


def null_mark(null: str, look: Look) -> dict[str, Any]:
    """How a method's own null is marked beside it: hollow where the space is the same, a dash where images are not.

    A dot is the rotation of activations, which leaves no rectified units.
    """
    if null == "shuffled":
        return {"marker": "_", "ms": 6, "mew": 1.1, "color": look.colour}
    if null == "rotated_after":
        return {"marker": ".", "ms": 4, "color": look.colour}
    return {"marker": look.mark, "ms": 4, "mew": 0.9, "color": look.colour, "mfc": "white"}


def null_handles(nulls: Iterable[str]) -> list[Line2D]:
    """Entries of a legend for the marks of nulls."""
    grey = Look("", "0.35", "o")
    return [Line2D([], [], ls="", label=f"the same with {null_words(null)}", **null_mark(null, grey)) for null in nulls]


def brief(name: str, most: int = 12) -> str:
    """A name that fits: its beginning and, as names differ there, more of its end.

    >>> brief("seed=0"), brief("resnet18_pretrained,seed=0")
    ('seed=0', 'resn…,seed=0')
    """
    return name if len(name) <= most else f"{name[: most // 3]}…{name[most // 3 + 1 - most :]}"


def brief_layers(layers: Sequence[str], most: int = 12) -> list[str]:
    """Names that fit of layers shown together: without the parts that all begin with, but for the last before a number.

    >>> brief_layers(["transformer.h.0.mlp.act", "transformer.h.1"]), brief_layers(["conv1", "fc1"])
    (['h.0.mlp.act', 'h.1'], ['conv1', 'fc1'])
    """
    parts, shared = [layer.split(".") for layer in layers], 0
    while max(map(len, layers)) > most and all(
        len(of) > shared + 1
        and of[shared] == parts[0][shared]
        and not of[shared].isdigit()
        and not of[shared + 1].isdigit()
        for of in parts
    ):
        shared += 1
    return [brief(".".join(of[shared:]), most) for of in parts]


def pale(colour: str, share: float = 0.4) -> tuple[float, float, float]:
    """A colour on its way to white, for areas on which something is to be read."""
    red, green, blue = (1 - share * (1 - part) for part in to_rgb(colour))
    return red, green, blue
