"""What a measure of similarity is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from convergent.core.pairs import Pair


class Measure(Protocol):
    """Any function of a pair; its name in conf/similarity is its column in the results, so it collides with no other."""

    def __call__(self, pair: Pair, /) -> float | None:
        """How alike the two nets' units are, as a whole; None where that is undefined, or not known from this record."""
