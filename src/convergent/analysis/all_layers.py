"""Every layer of every net with every other: a row of numbers for each two, in both directions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from convergent.analysis.measures import measured
from convergent.analysis.results import compare
from convergent.core.alignment import Method
from convergent.core.histogram_source import counting_of
from convergent.core.layer_moments import LayerMoments
from convergent.core.pairs import Pair
from convergent.similarity.measure import Measure
from convergent.streaming.all_layers import net_and_layer


def pairs_of_layers(
    sites: LayerMoments, pairs: Sequence[tuple[str, str]] | None = None, folds: int = 5
) -> Iterator[tuple[tuple[str, str], Pair]]:
    """Each two sites: (layer of a, layer of b), and the pair of their nets, which may be one net.

    Left out are nets that are not among `pairs`, and sites all of whose units are constant. Held-out scores are made of so
    many folds.
    """
    for i, j in sorted(sites.scatter):
        (a, layer_a), (b, layer_b) = net_and_layer(sites.nets[i]), net_and_layer(sites.nets[j])
        if i == j or not (a == b or pairs is None or (a, b) in pairs or (b, a) in pairs) or (j, j) not in sites.scatter:
            continue
        layer = f"{layer_a}~{layer_b}"
        pair = replace(sites.pair(i, j), name_a=a, name_b=b, layer=layer, held_out_folds=folds)
        if pair.active_a.any() and pair.active_b.any():
            yield (layer_a, layer_b), pair


def rows_of_layers(
    pairs: Iterable[tuple[tuple[str, str], Pair]],
    images: int,
    measures: Mapping[str, Measure],
    method: Method | None = None,
    units: int | None = None,
) -> list[dict[str, Any]]:
    """A row per ordered pair of layers: layer_a, layer_b, a, b, the columns of the method's results, and measures.

    A method that needs joint histograms, which are not counted here, has no columns; `units` as for `measured`. All rows
    have the same ones.
    """
    method = None if method is None or counting_of(method) else method
    rows: list[dict[str, Any]] = []
    for layers, pair in pairs:
        for of, ends, values in zip((pair, pair.flip()), (layers, layers[::-1]), measured(measures, pair, units=units)):
            row = dict(zip(("layer_a", "layer_b", "a", "b"), (*ends, of.name_a, of.name_b)))
            if method:
                summary = compare(method, of, images, similarity=values)[1].summary()
                row |= {name: value for name, value in summary.items() if name != "layer"}
            rows.append(row | values)
    columns = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name) for name in columns} for row in rows]
