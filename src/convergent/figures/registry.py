"""Which figures are drawn: those named in the configuration, one file here and one YAML of conf/figure each.

A figure is a function whose parameters are named after what it is drawn from, and which returns None where that has nothing
to show. With `alignment` among them it is drawn of the first pair of nets of each layer, as NAME-LAYER.png: from `alignment`
and that pair's `reports`. Others are summary figures, NAME.png: from the `results`, `reports` and `summaries` (rows of
`Result.summary`) of all pairs, the `method`'s name, the `layers`' moments, the summaries of the `epochs` of a training, and
`layer_pairs`, a row for each two layers where these are compared.
"""

from collections.abc import Callable, Iterator, Mapping
from inspect import signature
from typing import Any, TypeAlias

from matplotlib.figure import Figure

Draw: TypeAlias = Callable[..., "Figure | None"]


def drawn(figures: Mapping[str, Draw], **materials: Any) -> Iterator[tuple[str, Figure]]:
    """The figures that are drawn from these materials, by name, one by one: of a pair if `alignment` is among them."""
    for name, draw in figures.items():
        wanted = signature(draw).parameters
        if ("alignment" in wanted) == ("alignment" in materials):
            figure = draw(**{material: materials[material] for material in wanted})
            if figure is not None:
                yield name, figure
