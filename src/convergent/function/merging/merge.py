"""Nets of one architecture merged into one: units aligned over the whole net, weights averaged, the way between judged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import nn

from convergent.core.alignment import Method, name_of
from convergent.core.layer_moments import LayerMoments
from convergent.errors import InputError
from convergent.function.merging.aligners import WORDS, needs_images
from convergent.function.merging.alignments import MATCHING
from convergent.function.merging.line import Place
from convergent.function.merging.merger import Merged, Merger
from convergent.function.merging.ties import Ties
from convergent.streaming.measure import Nets, evaluating, measure, named, with_device
from convergent.streaming.reading import Reading

if TYPE_CHECKING:
    import pandas as pd

Alignments = Sequence["Method | str"] | Mapping[str, "Method | str"]


@dataclass(frozen=True, eq=False)
class Merging:
    """What merging nets gave.

    Attributes:
        ties: which units of the nets belong together.
        merged: places between the nets, and all nets in one.
    """

    ties: Ties
    merged: Merged

    @property
    def nets(self) -> dict[str, nn.Module]:
        """All nets averaged into one, by alignment, repaired where that was asked for."""
        return self.merged.nets

    def frame(self) -> pd.DataFrame:
        """A row per pair of nets, alignment, repair and place on the line between them, see `line_columns.PLACE`."""
        import pandas as pd

        return pd.DataFrame(rows(self.merged.places))

    def barriers(self) -> pd.DataFrame:
        """A row per pair of nets, alignment and repair: the barrier, loss and accuracy in the middle."""
        import pandas as pd

        return pd.DataFrame(barriers(self.merged.places))

    def __repr__(self) -> str:
        return f"Merging({len(self.ties.groups)} groups of units, by {', '.join(self.nets)})"


def merge(
    nets: Nets,
    loader: Iterable[Any],
    held_out: Iterable[Any],
    alignments: Alignments = ("none", MATCHING),
    repair: bool = True,
    reading: Reading | None = None,
    seed: int = 0,
) -> Merging:
    """Align nets of one architecture over all their layers, and average their weights.

    The units that have to be reordered together are read off the graph of the first net; where several layers have the same
    units (a residual stream) their correlations are summed. Every reordered net is run and has to be the function it was.

    Args:
        nets: two or more by name, or a list of them; on one device, left as they are.
        loader: batches (x, y) that alignments and repair are made of; read twice, so a generator does not do.
        held_out: batches (x, y) of other images, on which nets are judged.
        alignments: one-to-one methods such as cv.Matching(), or spectral ones, inside whose clusters units are merged within
            nets, too; and words: none, random, covariance, weights (Git Re-Basin), consensus (all nets at once), zip
            (merged within nets, in no clusters); under names of your own where it is a mapping.
        repair: judge merged nets with the statistics of their units renewed, too.
        reading: what of an activation samples are; its blocks are not needed.
        seed: of random orders and of the order of groups in weight matching.

    Raises:
        InputError: if nets are not of one architecture, ties are not known, or a method is not one to one.

    >>> import torch
    >>> nets = [nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)) for _ in range(2)]
    >>> batches = [(torch.randn(32, 4), torch.randint(2, (32,)))]
    >>> list(merge(nets, batches, batches, ["none"], repair=False).barriers()["alignment"])
    ['none']
    """
    by_name, chosen = named(nets), by_names(alignments)
    if len(by_name) < 2:
        raise InputError(f"Merging needs two nets at least, not {len(by_name)}.")
    if iter(loader) is loader:
        raise InputError("Merging reads its loader twice; give a DataLoader or a list of batches, no generator.")
    with evaluating(by_name.values()):
        merger = Merger.of(by_name, loader, held_out, repair, seed)
        measured: dict[str, LayerMoments] = {}
        for points in merger.passes() if any(map(needs_images, chosen.values())) else ():
            of = with_device(replace(reading or Reading(), blocks=1), by_name)
            measured |= measure(by_name, loader, points, of)
        return Merging(merger.ties, merger.merge(chosen, measured))


def by_names(alignments: Alignments) -> dict[str, Method | str]:
    """Alignments by what they are called.

    Raises:
        InputError: if one is neither a method nor a word.
    """
    every = (
        alignments
        if isinstance(alignments, Mapping)
        else {of if isinstance(of, str) else name_of(of): of for of in alignments}
    )
    for of in every.values():
        if of not in WORDS if isinstance(of, str) else isinstance(of, type) or not callable(of):
            raise InputError(
                f"alignments needs methods such as cv.Matching(), or words of {', '.join(WORDS)}, not {of!r}."
            )
    if not every:
        raise InputError(
            f"alignments needs one at least: a method such as cv.Matching(), or one of {', '.join(WORDS)}."
        )
    return dict(every)


def rows(places: Iterable[Place]) -> list[dict[str, Any]]:
    """Places as rows of a table, see `line_columns.PLACE`."""
    return [vars(place) | {"repair": int(place.repair)} for place in places]


def barriers(places: Iterable[Place]) -> list[dict[str, Any]]:
    """A row per line: its barrier, loss and accuracy in its middle, see `line_columns.BARRIER`."""
    lines: dict[tuple[Any, ...], list[Place]] = {}
    for place in places:
        lines.setdefault((place.a, place.b, place.alignment, int(place.repair)), []).append(place)
    return [
        {
            **dict(zip(("a", "b", "alignment", "repair"), line)),
            "barrier": max(place.above for place in of),
            "middle_loss": of[len(of) // 2].loss,
            "middle_accuracy": of[len(of) // 2].accuracy,
        }
        for line, of in lines.items()
    ]
