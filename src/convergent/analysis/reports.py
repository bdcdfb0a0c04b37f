"""What an analysis says of an alignment beyond the record that all methods share: scalars, tables, curves, a tree.

An analysis is any function of an alignment, one YAML each in conf/analysis. It serves whatever method made the alignment, as
long as that has what the analysis needs: labels, several predictors per unit, joint histograms, a path of penalties.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from torch import Tensor

from convergent.analysis.chance import Chance
from convergent.core.alignment import Alignment
from convergent.core.histogram_source import counting_of
from convergent.core.pairs import Pair


@dataclass(frozen=True, eq=False)
class Report:
    """What an analysis says of net b's units, predicted from net a's, in one layer.

    Attributes:
        layer: name of the layer.
        a: name of the net that predicts.
        b: name of the net that is predicted.
        scalars: numbers by name; they join the pair's row of summary.json and are averaged over the pairs of nets.
        tables: rows by the table's name, all with the same columns; all pairs' rows together become NAME.csv.
        curves: by the name of their x axis the columns of a table with that axis among them, each of the same length; their
            means over the pairs of nets become series in W&B.
        tree: the cluster of each unit of a, shape (p,), and of b, shape (q,), -1 for none, in a tree of the map; clusters
            that the map is made of are in the alignment.
        null: the name of the null in whose pair all this was seen; empty for what is no null. Scalars get it as an ending,
            tables and curves are dropped.
    """

    layer: str
    a: str
    b: str
    scalars: Mapping[str, float] = field(default_factory=dict)
    tables: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    curves: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)
    tree: tuple[Tensor, Tensor] | None = None
    null: str = ""

    def __repr__(self) -> str:
        parts = ", ".join(
            [*self.scalars, *(f"table {name}" for name in self.tables), *(["a tree"] if self.tree else [])]
        )
        return f"Report({self.layer}: {self.a} to {self.b}{f', {self.null}' if self.null else ''}: {parts[:120]})"

    @classmethod
    def of(cls, pair: Pair, **parts: Any) -> Report:
        """The report on a pair, by the attributes' names."""
        return cls(pair.layer, pair.name_a, pair.name_b, **parts)


# None where the alignment lacks what the analysis needs.
Analysis = Callable[[Alignment], "Report | None"]


def reports_of(analyses: Mapping[str, Analysis], alignment: Alignment) -> list[Report]:
    """What the analyses that an alignment has enough for say of it: nothing of one on a sparse record, see `Pair.sparse`."""
    if alignment.pair.sparse:
        return []
    return [report for analysis in analyses.values() if (report := analysis(alignment)) is not None]


def by_chance(
    alignment: Alignment, null_pairs: Mapping[str, Sequence[Pair]], analyses: Mapping[str, Analysis] | None = None
) -> tuple[dict[str, Chance], list[Report]]:
    """What the alignment's method gives in the draws of every null, with its choices but clusters, and what is said of it.

    Analyses see the first draw of the nulls by which scalars are judged. These are rotations; other images too for a method
    whose scalars are no functions of correlations.
    """
    counts, chance, reports = counting_of(alignment.method) is not None, dict[str, Chance](), list[Report]()
    method = alignment.refit(choices=alignment.labels_b is None)
    for name, draws in null_pairs.items():
        judges = (analyses or {}) if counts or name.startswith("rotated") else {}

        def first(by: Alignment, name: str = name, judges: Mapping[str, Analysis] = judges) -> None:
            reports.extend(replace(report, null=name) for report in reports_of(judges, by))

        chance[name] = Chance.of(method, draws, first)
    return chance, reports


def of_null(reports: Sequence[Report], null: str = "", layer: str | None = None) -> list[Report]:
    """The reports on the nets themselves, or on one null; of all layers or of one."""
    return [report for report in reports if report.null == null and layer in (None, report.layer)]


def mean_scalars(reports: Sequence[Report], layer: str, null: str = "") -> dict[str, float]:
    """The scalars of a layer, or of a null in it, averaged over the pairs of nets that have them."""
    values: dict[str, list[float]] = {}
    for report in of_null(reports, null, layer):
        for name, value in report.scalars.items():
            values.setdefault(name, []).append(value)
    return {name: fmean(every) for name, every in values.items()}


def rows_by_table(reports: Sequence[Report]) -> dict[str, list[dict[str, Any]]]:
    """The rows of all pairs by the name of their table, each with its layer and nets.

    >>> rows_by_table([Report("fc1", "one", "two", tables={"groups": [{"size": 3}]})])
    {'groups': [{'layer': 'fc1', 'a': 'one', 'b': 'two', 'size': 3}]}
    """
    tables: dict[str, list[dict[str, Any]]] = {}
    for report in of_null(reports):
        head = {"layer": report.layer, "a": report.a, "b": report.b}
        for name, rows in report.tables.items():
            tables.setdefault(name, []).extend(head | dict(row) for row in rows)
    return {name: rows for name, rows in tables.items() if rows}


def mean_curves(reports: Sequence[Report]) -> dict[str, dict[str, dict[str, list[float]]]]:
    """The curves of each layer averaged over its pairs of nets point by point: {x axis: {layer: {column: values}}}.

    >>> there = Report("fc1", "one", "two", curves={"x": {"x": [1, 2], "y": [0, 4]}})
    >>> back = Report("fc1", "two", "one", curves={"x": {"x": [1, 2], "y": [2, 6]}})
    >>> mean_curves([there, back])
    {'x': {'fc1': {'x': [1.0, 2.0], 'y': [1.0, 5.0]}}}
    """
    curves: dict[str, dict[str, list[Mapping[str, Sequence[float]]]]] = {}
    for report in of_null(reports):
        for axis, columns in report.curves.items():
            curves.setdefault(axis, {}).setdefault(report.layer, []).append(columns)
    return {
        axis: {
            layer: {
                name: [sum(values) / len(values) for values in zip(*(columns[name] for columns in every))]
                for name in every[0]
            }
            for layer, every in of_axis.items()
        }
        for axis, of_axis in curves.items()
    }
