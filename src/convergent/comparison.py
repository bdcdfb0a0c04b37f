"""Nets compared layer by layer in one call: one pass over the images, every pair in both directions, a tidy table."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from convergent.analysis import results
from convergent.analysis.evaluation import Evaluation
from convergent.analysis.frames import frame_of, shown
from convergent.analysis.measures import measured
from convergent.analysis.null_pairs import NullPairs
from convergent.analysis.results import Result
from convergent.core.alignment import name_of
from convergent.core.histogram_source import Counting, counting_of
from convergent.core.layer_moments import LayerMoments
from convergent.errors import InputError
from convergent.methods.least_squares import LeastSquares
from convergent.methods.matching import Matching
from convergent.methods.semimatching import SemiMatching
from convergent.similarity.every import QUICK
from convergent.streaming.collector import Start
from convergent.streaming.histograms.histogram_pass import HistogramPass
from convergent.streaming.layers import Layer, resolve
from convergent.streaming.measure import Nets, collect, named, with_device
from convergent.streaming.reading import Reading
from convergent.streaming.rotated_pass import SavedRotations
from convergent.streaming.statistics_pass import StatisticsPass

if TYPE_CHECKING:
    import pandas as pd

    from convergent.core.alignment import Method
    from convergent.core.pairs import Pair
    from convergent.streaming.histograms.layer_histograms import LayerHistograms
    from convergent.streaming.rotated_pass import RotatedMoments

log = logging.getLogger(__name__)

METHODS = (Matching(), SemiMatching(), LeastSquares())  # unless others are asked for: those that take little time


def compare(
    nets: Nets,
    loader: Iterable[Any],
    layers: Sequence[str | Sequence[str] | Layer],
    methods: Sequence[Method] | Mapping[str, Method] | Method = METHODS,
    nulls: Sequence[str] = ("rotated",),
    folds: int = 5,
    reading: Reading | None = None,
) -> Comparison:
    """Predict every net's units from every other net's, layer by layer, after one pass over the images.

    Args:
        nets: two or more by name, or a list of them, which are then called net0, net1, ...; any device.
        loader: any iterable of batches, see `measure`.
        layers: what is compared, see `measure`.
        methods: of alignment, which are called as on the command line, or by names of your own.
        nulls: what the same methods give by chance: "rotated", net b's units on random axes, rotated before their
            nonlinearity while the nets run; "rotated_after", which costs no time in the pass, their activations rotated. ()
            for none.
        folds: of blocks of images, for all held-out scores; 0 for none.
        reading: what of an activation units and samples are, padding masks, how a net takes a batch.

    Raises:
        InputError: if there are no two nets, a null or a layer does not exist, or nets cannot be measured, see `measure`.
    """
    by_name, named_methods = named(nets), _named(methods)
    if len(by_name) < 2:
        raise InputError(f"A comparison needs two nets at least, not {len(by_name)}; measure takes one.")
    evaluation = Evaluation(folds, nulls=nulls)
    if "shuffled" in nulls:
        raise InputError(
            "Nets that read shuffled images are another pass; ask `convergent align` for that null, or here for rotated."
        )
    reading = with_device(reading or Reading(), by_name)
    of_pass = _Measured.of(by_name, loader, layers, reading, named_methods, evaluation)
    compared = {}
    for layer, moments in of_pass.moments.items():
        if constant := [net for net in moments.nets if not moments.active(net).any()]:
            log.warning("Layer %s of %s is left out: all its units are constant on these images.", layer, constant[0])
        else:
            compared[layer] = LayerComparison(moments, list(_results(of_pass, layer, named_methods)), folds)
    if not compared:
        raise InputError("All units are constant on these images in every layer, so there is nothing to compare.")
    return Comparison(compared)


@dataclass(frozen=True, eq=False)
class LayerComparison:
    """One layer of several nets, whose units' moments are side by side: a record per method and ordered pair of nets.

    Held-out scores are made of so many folds of blocks of images.
    """

    moments: LayerMoments
    results: Sequence[Result]
    folds: int

    def pair(self, a: int | str, b: int | str) -> Pair:
        """The pair of two nets, by name or number, that every method takes.

        Raises:
            InputError: if there is no such net.
        """
        return replace(self.moments.pair(a, b), held_out_folds=self.folds)

    def frame(self, *, units: bool = False) -> pd.DataFrame:
        """A row per ordered pair of nets and method, or per unit, see `analysis.columns`."""
        return frame_of(self.results, units=units)

    def __repr__(self) -> str:
        return f"LayerComparison({self.moments.layer} of {', '.join(self.moments.nets)})"

    def _repr_html_(self) -> str:
        return shown(self.frame())


class Comparison(Mapping[str, LayerComparison]):
    """What nets have in common, layer by layer: `comparison["layer4"]`, and all of them in one table."""

    def __init__(self, layers: Mapping[str, LayerComparison]) -> None:
        self._layers = dict(layers)

    def __getitem__(self, layer: str) -> LayerComparison:
        if layer not in self._layers:
            raise KeyError(f"{layer}: the layers are {', '.join(self._layers)}")
        return self._layers[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    def frame(self, *, units: bool = False) -> pd.DataFrame:
        """A row per layer, ordered pair of nets and method, or per unit of net b, see `analysis.columns`."""
        return frame_of([result for layer in self._layers.values() for result in layer.results], units=units)

    def __repr__(self) -> str:
        nets = next(iter(self._layers.values())).moments.nets
        methods = dict.fromkeys(result.method for layer in self._layers.values() for result in layer.results)
        return f"Comparison({', '.join(self)} of {', '.join(nets)} by {', '.join(methods)})"

    def _repr_html_(self) -> str:
        return shown(self.frame())


def _named(methods: Sequence[Method] | Mapping[str, Method] | Method) -> dict[str, Method]:
    every = methods if isinstance(methods, Sequence | Mapping) else [methods]
    by_name = dict(every) if isinstance(every, Mapping) else {name_of(method): method for method in every}
    for method in by_name.values():
        if isinstance(method, type) or not callable(method):
            raise InputError(
                f"methods needs methods such as cv.Matching(), not {method!r}; make one, with its options."
            )
    if not by_name:
        raise InputError("methods needs one method at least, such as cv.Matching().")
    return by_name


@dataclass(frozen=True, eq=False)
class _Measured:
    """What the pass gave by layer; joint histograms by how they were counted, then of the nets and their first rotation."""

    moments: Mapping[str, LayerMoments]
    rotations: Mapping[str, RotatedMoments]
    counted: Mapping[Counting, tuple[Mapping[str, LayerHistograms], ...]]
    evaluation: Evaluation

    @classmethod
    def of(
        cls,
        nets: Mapping[str, Any],
        loader: Iterable[Any],
        layers: Sequence[str | Sequence[str] | Layer],
        reading: Reading,
        methods: Mapping[str, Method],
        evaluation: Evaluation,
    ) -> _Measured:
        every = list(resolve(nets, layers).values())
        if not every:
            raise InputError("There are no layers to compare; name some, as layers=['layer1', 'layer4'].")
        countings = dict.fromkeys(counting for method in methods.values() if (counting := counting_of(method)))
        starts: list[Start] = [StatisticsPass.start(every, reading)]
        rotated = "rotated" in evaluation.nulls
        starts += [SavedRotations().start(every, reading, None)] if rotated else []
        for counting in countings:
            in_folds = replace(counting, folds=max(evaluation.folds, 1))
            starts += [HistogramPass.start(every, reading, None, in_folds, draw) for draw in range(1 + rotated)]
        moments, *more = collect(nets, loader, starts, reading)
        rotations = more.pop(0) if rotated else {}
        of_counting = iter(more)
        counted = {counting: tuple(next(of_counting) for _ in range(1 + rotated)) for counting in countings}
        return cls(moments, rotations, counted, evaluation)


def _results(of_pass: _Measured, layer: str, methods: Mapping[str, Method]) -> Iterator[Result]:
    """The results of one layer: pair by pair, in both directions, by every method."""
    moments, rotations, evaluation = of_pass.moments[layer], of_pass.rotations.get(layer), of_pass.evaluation
    counted = {counting: [of[layer] for of in every] for counting, every in of_pass.counted.items()}

    def pair_of(counting: Counting | None, a: int, b: int) -> Pair:
        pair = replace(moments.pair(a, b), held_out_folds=evaluation.folds)
        return pair if counting is None else counted[counting][0].with_moments(pair)

    for i, j in moments.pairs:
        similarity = measured(QUICK, pair_of(None, i, j), units=evaluation.measure_units)
        for name, method in methods.items():
            counting = counting_of(method)
            rotated = counted[counting][1] if counting and rotations else None
            after = "rotated_after" in evaluation.nulls
            nulls = NullPairs(partial(pair_of, counting), rotations, rotated, None, after, evaluation.folds)
            pair = pair_of(counting, i, j)
            for directed, (a, b), values in ((pair, (i, j), similarity[0]), (pair.flip(), (j, i), similarity[1])):
                null_pairs, rotated_a = nulls.of(a, b), nulls.rotated_a(a, b)
                _, result = results.compare(
                    method, directed, moments.images, null_pairs, rotated_a, values, interval=evaluation.intervals
                )
                yield replace(result, method=name)
