"""Every pair of a job's nets aligned in both directions, layer by layer, by as many processes as are asked for.

One thread aligns a pair, so that the results are the same bits whatever the number of processes. Pairs of very many units,
of which few fit into memory at a time, come after the others, one after another by all threads.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from convergent.analysis.measures import measured
from convergent.analysis.null_pairs import NullPairs
from convergent.analysis.over_images import over_images
from convergent.analysis.pair_values import PairValues
from convergent.analysis.reports import Analysis, by_chance, reports_of
from convergent.analysis.results import evaluated
from convergent.cli.align_job import AlignJob
from convergent.cli.common import Common
from convergent.cli.judging import Judging
from convergent.cli.measurement import Measurement
from convergent.cli.texts import contexts_of
from convergent.cli.workers import Workers, processes_for, threads
from convergent.cli.writing import Aligned, save_alignments, tensors_of
from convergent.core.alignment import Alignment, Method, align
from convergent.core.layer_moments import LayerMoments
from convergent.core.pairs import Pair
from convergent.figures.grid import save
from convergent.figures.registry import Draw, drawn
from convergent.progress import lasts, track
from convergent.report.unit_pictures import contexts_of_pair, drawings_of, filters_of, pictured_rows
from convergent.similarity.measure import Measure
from convergent.streaming.patches import Patches

log = logging.getLogger(__name__)

WIDE = 4096  # units of both nets from which on one pair occupies all threads
_ROTATIONS = 300_000_000  # bytes of them that are kept while a pair is aligned
_MOMENTS, _PROCESS = 4.0, 5e8 + _ROTATIONS  # what aligning a pair takes: times its moments, and bytes beside them
_LONG = 60.0  # seconds from which on it is said how long the rest takes


def units_of_pair(layer: LayerMoments) -> int:
    """Of both nets of a layer's widest pair."""
    width = [units.stop - units.start for units in layer.units]
    return max((width[i] + width[j] for i, j in layer.pairs), default=0)


def memory_of_pair(layer: LayerMoments) -> float:
    """Bytes that aligning a pair of nets takes at the most."""
    return _MOMENTS * 8 * len(layer.count_k) * units_of_pair(layer) ** 2 + _PROCESS


@dataclass(frozen=True)
class Parts:
    """What a job is made of, by the names in its configuration: a method, and what says something of its alignments."""

    method: Method
    analyses: Mapping[str, Analysis]
    measures: Mapping[str, Measure]
    figures: Mapping[str, Draw]


@dataclass(frozen=True, eq=False)
class _OfPair:
    """What one pair of nets gives in one layer: its maps, and how many seconds it took beside the pictures."""

    aligned: Aligned
    tensors: dict[str, Tensor]
    seconds: float


@dataclass(frozen=True, eq=False)
class Pairs:
    """The pairs of a job's nets in every layer, each a task with a number.

    Attributes:
        patches: the units' pictures of each kind, by layer and net.
        judging: of the alignments' function, if that was asked for.
        layers: what there is of each layer.
        common: what no method changes.
    """

    job: AlignJob
    parts: Parts
    measurement: Measurement
    patches: Sequence[Mapping[str, Mapping[str, Patches]]]
    judging: Judging | None
    layers: Sequence[tuple[LayerMoments, Callable[[int, int], Pair], NullPairs]]
    common: Common

    @cached_property
    def tasks(self) -> list[tuple[int, int]]:
        """Of each task the number of the layer, and that of the pair among the layer's."""
        return [(of, pair) for of, (layer, _, _) in enumerate(self.layers) for pair in range(len(layer.pairs))]

    def align(self) -> Aligned:
        """Align all of them; maps, which may be large, go to disk as soon as a layer is done."""
        done, finished = dict[int, _OfPair](), dict[int, Aligned]()
        narrow, wide = self._order()
        with Workers(self._one, 1 if self.judging else self._processes(narrow)) as workers:
            alone = ((number, self._one(number)) for number in wide)
            side = self._timed(workers.results(narrow), narrow, workers.processes)
            results: Iterator[tuple[int, _OfPair]] = chain(side, self._timed(alone, wide, 1))
            if self.judging is None:  # whose passes have bars of their own
                results = track(results, f"aligning by {self.job.label}", len(self.tasks))
            for number, of_pair in results:
                done[number], of = of_pair, self.tasks[number][0]
                numbers = [each for each, (where, _) in enumerate(self.tasks) if where == of]
                if done.keys() >= set(numbers):
                    finished[of] = self._finish(of, [done.pop(each) for each in numbers])
        if self.judging:
            self.judging.end()
        return Aligned.joined([finished[of] for of in sorted(finished)])

    def _finish(self, of: int, pairs: Sequence[_OfPair]) -> Aligned:
        """A layer whose pairs are all there."""
        layer, pair, nulls = self.layers[of]
        tensors = {name: x for of_pair in pairs for name, x in of_pair.tensors.items()}
        save_alignments(self.job.folder / "alignments" / f"{layer.layer}.safetensors", tensors)
        aligned = Aligned.joined([of_pair.aligned for of_pair in pairs])
        if self.judging:
            aligned.results[:], reports = self.judging.judge_layer(layer, pair, nulls, aligned.results)
            aligned.reports.extend(reports)
        return aligned

    def _order(self) -> tuple[Sequence[int], Sequence[int]]:
        """The tasks that are done side by side, and those of many units, in the order in which they are begun."""
        numbers = range(len(self.tasks))
        if self.judging:  # which sees the alignments of a layer together
            return numbers, []
        size = [units_of_pair(self.layers[of][0]) for of, _ in self.tasks]
        # a pair of each layer before all others: these say how long it takes; then the longest before the shorter ones
        order = sorted(numbers, key=lambda number: (self.tasks[number][1] > 0, -size[number]))
        return [each for each in order if size[each] < WIDE], [each for each in order if size[each] >= WIDE]

    def _timed(
        self, results: Iterator[tuple[int, _OfPair]], numbers: Sequence[int], processes: int
    ) -> Iterator[tuple[int, _OfPair]]:
        """The results; as soon as there is a pair of each layer, a line says how long the others take."""
        left, seconds = Counter(self.tasks[number][0] for number in numbers), dict[int, float]()
        for number, of_pair in results:
            of = self.tasks[number][0]
            left[of] -= 1
            if of not in seconds:
                seconds[of] = of_pair.seconds
                rest = sum(seconds.get(each, 0) * pairs for each, pairs in left.items()) / processes
                if len(seconds) == len(left) and rest > _LONG and not self.judging:
                    log.info(
                        "%d pairs of layers are left, %d at a time: about %s", left.total(), processes, lasts(rest)
                    )
            yield number, of_pair

    def _processes(self, numbers: Sequence[int]) -> int:
        """How many processes there are memory for."""
        layers = {self.tasks[number][0] for number in numbers}
        most = max((memory_of_pair(self.layers[of][0]) for of in layers), default=_PROCESS)
        return processes_for(len(numbers), self.job.config.n_jobs, most)

    def _one(self, number: int) -> _OfPair:
        """Align one pair in both directions."""
        of, place = self.tasks[number]
        layer, pair, nulls = self.layers[of]
        a, b = layer.pairs[place]
        with threads(1 if units_of_pair(self.layers[of][0]) < WIDE else torch.get_num_threads()):
            began = time.monotonic()
            first, aligned, tensors = self._both(pair(a, b), a, b, nulls, layer.images)
            seconds = time.monotonic() - began
            if place == 0 and not first.pair.sparse:
                self._draw(first, aligned)
        return _OfPair(aligned, tensors, seconds)

    def _both(
        self, pair: Pair, a: int, b: int, nulls: NullPairs, images: int
    ) -> tuple[Alignment, Aligned, dict[str, Tensor]]:
        """Net a's alignment to net b, what it and the other direction give, and their maps."""
        parts, evaluation, aligned, tensors = self.parts, self.job.evaluation, Aligned(), dict[str, Tensor]()
        # the pair that reads other images is read once for both directions
        shuffled, store = nulls.shuffled and lru_cache(1)(nulls.shuffled), self.common.get
        pair, nulls = replace(pair, store=store), replace(nulls, room=_ROTATIONS, shuffled=shuffled, store=store)
        shared = self.common.get(f"{pair.layer},{a},{b}", lambda: self._values(pair, a, b, nulls))
        both = [align(parts.method, directed) for directed in (pair, pair.flip())]
        directions = (a, b), (b, a)
        if self.judging:  # before all else: its maps give the held-out scores as well
            for alignment, nets in zip(both, directions):
                self.judging.add(alignment, *nets, nulls)
        ends = over_images(both) if evaluation.intervals else [None, None]
        for alignment, nets, values, interval in zip(both, directions, map(PairValues.of_json, shared), ends):
            reports = reports_of(parts.analyses, alignment)
            chance, null_reports = by_chance(alignment, nulls.of(*nets), parts.analyses)
            aligned.results.append(evaluated(alignment, images, values, chance, interval))
            aligned.reports.extend([*reports, *null_reports])
            tensors |= tensors_of(alignment, reports)
        return both[0], aligned, tensors

    def _values(self, pair: Pair, a: int, b: int, nulls: NullPairs) -> list[dict[str, Any]]:
        """What the pair gives in either direction whatever the method, as JSON has it."""
        evaluation, null_pairs = self.job.evaluation, nulls.of(a, b)
        similarity = measured(
            self.parts.measures,
            pair,
            null_pairs,
            intervals=evaluation.measure_intervals,
            units=evaluation.measure_units,
        )
        there, back = (
            PairValues.of(of, nulls.of(*nets), nulls.rotated_a(*nets), measures, intervals=evaluation.intervals)
            for of, nets, measures in zip((pair, pair.flip()), ((a, b), (b, a)), similarity)
        )
        return [there.as_json(), back.as_json()]

    def _draw(self, alignment: Alignment, aligned: Aligned) -> None:
        """The figures of one pair of nets: those that the configuration names, and the units' pictures."""
        pair, folder = alignment.pair, self.job.folder / "figures"
        of_layer = [every[pair.layer] for every in self.patches]
        reports = [report for report in aligned.reports if report.a == pair.name_a and not report.null]
        tables = {name: rows for report in reports for name, rows in report.tables.items()}
        pictures = drawings_of(alignment, of_layer, tables) | filters_of(
            alignment, self.measurement.modules(pair.layer)
        )
        pictures |= contexts_of_pair(alignment, contexts_of(self.measurement, pair.layer))
        aligned.pictured.extend(pictured_rows(alignment, of_layer[0]) if of_layer else [])
        drawings = ((name, draw()) for name, draw in pictures.items())
        for name, figure in [*drawn(self.parts.figures, alignment=alignment, reports=reports), *drawings]:
            aligned.figures.append(save(figure, folder, f"{name}-{pair.layer}"))
