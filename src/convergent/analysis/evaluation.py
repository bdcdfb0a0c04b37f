"""What is asked of every alignment beside its map: held-out scores, intervals, what chance gives. Light to import."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from convergent.options import FLAG, LATER, NULL, check_fields, listed, whole, word


@dataclass(frozen=True)
class Evaluation:
    """How alignments are evaluated.

    Attributes:
        folds: of blocks of images, for all held-out scores; 0 for none.
        intervals: of mean correlations over images, by leaving out a block at a time.
        measure_intervals: of measures of similarity, likewise: each is computed once per block.
        measure_units: of the wider net, up to which measures are computed whose time grows with their cube.
        nulls: what chance gives: units "rotated" before their nonlinearity or "rotated_after" it, "shuffled" images.
        rotations: of each layer and net; None for 10 up to 128 units, fewer in wider layers, 3 at least.

    Raises:
        InputError: if a value is none that its option can have.
    """

    folds: Annotated[int, word(0) | whole(2)] = 5
    intervals: Annotated[bool, FLAG] = True
    nulls: Annotated[Sequence[str], listed(word("rotated", "rotated_after", "shuffled"), 0, distinct=True)] = (
        "rotated",
        "shuffled",
    )
    rotations: Annotated[int | None, whole(1) | NULL] = None
    measure_intervals: Annotated[bool, FLAG] = field(default=False, metadata=LATER)
    measure_units: Annotated[int, whole(1)] = field(default=2048, metadata=LATER)

    def __post_init__(self) -> None:
        check_fields(self)
