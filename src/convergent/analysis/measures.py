"""Measures of similarity of a pair of nets in both directions, with what chance gives and intervals over images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from convergent.analysis.intervals import jackknife
from convergent.core.pairs import Pair
from convergent.errors import InputError
from convergent.similarity.every import CUBIC
from convergent.similarity.measure import Measure


def measured(
    measures: Mapping[str, Measure],
    pair: Pair,
    null_pairs: Mapping[str, Sequence[Pair]] | None = None,
    *,
    intervals: bool = False,
    units: int | None = None,
) -> tuple[dict[str, float], dict[str, float]]:
    """The measures of a pair and of the flipped pair, by name: those that are defined.

    With shuffled images among the nulls also NAME_shuffled; with `intervals` NAME_low and NAME_high, see
    `intervals.jackknife`, where a measure is defined without any one block of images. Of nets of more than so many `units`
    those are left out whose time grows with their cube; of a sparse record, without products within nets, there are none.
    """
    if pair.sparse:
        return {}, {}
    if units is not None and max(pair.p, pair.q) > units:
        measures = {name: measure for name, measure in measures.items() if name not in CUBIC}
    there: dict[str, float | None]
    there, back = ({name: measure(of) for name, measure in measures.items()} for of in (pair, pair.flip()))
    for null in (null_pairs or {}).get("shuffled", ())[:1]:
        for values, of in ((there, null), (back, null.flip())):
            values |= {f"{name}_shuffled": measure(of) for name, measure in measures.items()}
    if intervals and pair.blocks > 1:
        defined = {name: measure for name, measure in measures.items() if there[name] is not None}
        for values, ends in zip((there, back), _intervals(defined, pair)):
            values |= ends
    return _known(there), _known(back)


def _intervals(measures: Mapping[str, Measure], pair: Pair) -> tuple[dict[str, float], dict[str, float]]:
    """The ends of the intervals, of all measures together: they share what they are made of."""
    first_k = torch.ones(pair.blocks, dtype=torch.float64).index_fill_(0, torch.tensor(0), 0.0)
    without = pair.weighted(first_k)
    measures = {name: measure for name, measure in measures.items() if measure(without) is not None}

    def values(rest: Pair) -> Tensor:
        every = [[measure(of) for measure in measures.values()] for of in (rest, rest.flip())]
        return torch.tensor([[torch.nan if x is None else x for x in row] for row in every], dtype=torch.float64)

    try:
        interval = jackknife(values, pair)
    except InputError:  # some block has all that a measure needs
        return {}, {}
    ends = [zip(measures, *of) for of in zip(interval.low.tolist(), interval.high.tolist())]
    there, back = ({f"{name}_{end}": x for name, *of in row for end, x in zip(("low", "high"), of)} for row in ends)
    return there, back


def _known(values: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in values.items() if value is not None}
