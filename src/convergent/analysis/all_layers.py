"""Every layer of every net with every other: a row of numbers for each two, in both directions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from convergent.analysis.measures import measured
from convergent.analysis.results import compare
from convergent.core.alignment import Method
from convergent.core.histogram_source import counting_of
from convergent.core.layer_moments import LayerMoments
from convergent.core.pairs import Pair
from convergent.similarity.measure import Measure
from convergent.streaming.all_layers import net_and_layer

Layers = tuple[str, str]


def pairs_of_layers(
    sites: LayerMoments, pairs: Sequence[tuple[str, str]] | None = None, folds: int = 5
) -> list[tuple[Layers, Callable[[], Pair]]]:
    """Each two sites: (layer of a, layer of b), and what makes the pair of their nets, which may be one net.

    Left out are nets that are not among `pairs`, and sites all of whose units are constant. Held-out scores are made of so
    many folds.
    """
    active = {site: bool(sites.active(site).any()) for site in range(len(sites.nets)) if (site, site) in sites.scatter}
    every = list[tuple[Layers, Callable[[], Pair]]]()
    for i, j in sorted(sites.scatter):
        (a, layer_a), (b, layer_b) = net_and_layer(sites.nets[i]), net_and_layer(sites.nets[j])
        if i == j or not (a == b or pairs is None or (a, b) in pairs or (b, a) in pairs):
            continue
        if active.get(i) and active.get(j):
            names = {"name_a": a, "name_b": b, "layer": f"{layer_a}~{layer_b}", "held_out_folds": folds}
            every.append(((layer_a, layer_b), partial(_pair, sites, i, j, names)))
    return every


def _pair(sites: LayerMoments, i: int, j: int, names: Mapping[str, Any]) -> Pair:
    return replace(sites.pair(i, j), **names)


def rows_of_layers(
    pairs: Iterable[tuple[Layers, Callable[[], Pair]]],
    images: int,
    measures: Mapping[str, Measure],
    method: Method | None = None,
    units: int | None = None,
) -> list[dict[str, Any]]:
    """A row per ordered pair of layers: layer_a, layer_b, a, b, the columns of the method's results, and measures.

    A method that needs joint histograms, which are not counted here, has no columns; `units` as for `measured`.
    """
    method = None if method is None or counting_of(method) else method
    rows: list[dict[str, Any]] = []
    for layers, made in pairs:
        pair = made()
        for of, ends, values in zip((pair, pair.flip()), (layers, layers[::-1]), measured(measures, pair, units=units)):
            row = dict(zip(("layer_a", "layer_b", "a", "b"), (*ends, of.name_a, of.name_b)))
            if method:
                summary = compare(method, of, images, similarity=values)[1].summary()
                row |= {name: value for name, value in summary.items() if name != "layer"}
            rows.append(row | values)
    return rows


def with_all_columns(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows, each with all columns that one of them has, in one order; None where it has none."""
    rows = list(rows)
    columns = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name) for name in columns} for row in rows]
