"""What a method tells of a pair of nets beyond the record that all methods share.

A method that has more to tell than its map has two functions more, `tell` and `overview`; what they give is kept, drawn and
logged like everything else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from convergent.core.alignment import Alignment
    from convergent.core.pairs import Pair


@dataclass(frozen=True, eq=False)
class Findings:
    """What a method tells of net b's units, accounted for from net a's, in one layer.

    Attributes:
        layer: name of the layer.
        a: name of the net that accounts.
        b: name of the net that is accounted for.
        figures: numbers by name; they join the pair's row of summary.json and are averaged over the pairs of nets.
        tables: rows by the table's name, all with the same columns; all pairs' rows together become NAME.csv.
        curves: by the name of their x axis the columns of a table with that axis among them, each of the same length; their
            means over the pairs of nets become series in W&B.
        drawings: by name, drawn when called: for one pair of nets of each layer, as NAME-LAYER.png.
        tree: the cluster of each unit of a, shape (p,), and of b, shape (q,), -1 for none, in a tree that the method makes
            of its map; a method whose map is made of clusters has them in its alignment.
        null: the name of the null in whose pair all this was found; empty for what is no null. Numbers get it as an ending,
            tables and curves are not kept.
    """

    layer: str
    a: str
    b: str
    figures: Mapping[str, float] = field(default_factory=dict)
    tables: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    curves: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)
    drawings: Mapping[str, Callable[[], Figure]] = field(default_factory=dict)
    tree: tuple[Tensor, Tensor] | None = None
    null: str = ""

    @classmethod
    def of(cls, pair: Pair, **found: Any) -> Findings:
        """Findings in a pair, by the attributes' names."""
        return cls(pair.layer, pair.name_a, pair.name_b, **found)


@runtime_checkable
class Telling(Protocol):
    """A method that has more to tell than its map."""

    def tell(self, pair: Pair, alignment: Alignment) -> Findings:
        """What there is to tell of a pair and its alignment by this method."""

    def overview(self, told: Sequence[Findings]) -> Mapping[str, Figure]:
        """Figures over all layers and pairs of nets, by name."""


def told_of(told: Sequence[Findings], null: str = "") -> list[Findings]:
    """What was found in the nets themselves, or in one null."""
    return [findings for findings in told if findings.null == null]


def rows_by_table(told: Sequence[Findings]) -> dict[str, list[dict[str, Any]]]:
    """The rows of all pairs by the name of their table, each with its layer and nets.

    >>> rows_by_table([Findings("fc1", "one", "two", tables={"groups": [{"size": 3}]})])
    {'groups': [{'layer': 'fc1', 'a': 'one', 'b': 'two', 'size': 3}]}
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for findings in told_of(told):
        head = {"layer": findings.layer, "a": findings.a, "b": findings.b}
        for name, rows in findings.tables.items():
            found.setdefault(name, []).extend(head | dict(row) for row in rows)
    return {name: rows for name, rows in found.items() if rows}


def mean_curves(told: Sequence[Findings]) -> dict[str, dict[str, dict[str, list[float]]]]:
    """The curves of each layer averaged over its pairs of nets point by point: {x axis: {layer: {column: values}}}.

    >>> there = Findings("fc1", "one", "two", curves={"x": {"x": [1, 2], "y": [0, 4]}})
    >>> back = Findings("fc1", "two", "one", curves={"x": {"x": [1, 2], "y": [2, 6]}})
    >>> mean_curves([there, back])
    {'x': {'fc1': {'x': [1.0, 2.0], 'y': [1.0, 5.0]}}}
    """
    found: dict[str, dict[str, list[Mapping[str, Sequence[float]]]]] = {}
    for findings in told_of(told):
        for axis, columns in findings.curves.items():
            found.setdefault(axis, {}).setdefault(findings.layer, []).append(columns)
    return {
        axis: {
            layer: {
                name: [sum(values) / len(values) for values in zip(*(columns[name] for columns in every))]
                for name in every[0]
            }
            for layer, every in of_axis.items()
        }
        for axis, of_axis in found.items()
    }
