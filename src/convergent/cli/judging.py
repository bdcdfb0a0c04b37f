"""What is left of nets' decisions with each map in place of a layer, as part of an alignment: function=true."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from convergent.analysis.measures import measured
from convergent.analysis.null_pairs import NullPairs
from convergent.analysis.reports import Report
from convergent.analysis.results import Result
from convergent.cli.align_job import AlignJob
from convergent.cli.built import Built
from convergent.cli.checking import resolved
from convergent.cli.locks import held
from convergent.cli.measured import after_stop, load_pair
from convergent.cli.measurement import MakesTrainer, Measurement
from convergent.cli.nets import GivenNet, names_of
from convergent.cli.processes import as_first, grouped, leave_group, patient_group
from convergent.cli.train import stoppable
from convergent.core.alignment import Alignment
from convergent.core.layer_moments import LayerMoments
from convergent.core.pairs import Pair
from convergent.errors import InputError
from convergent.function.function_pass import FunctionPass
from convergent.function.judged import Judged
from convergent.function.judgement import reports_of
from convergent.function.stitches import Source, Stitch, common_stitches, own_stitches, stitches_of
from convergent.function.substitution import subset_stitches, substitution
from convergent.similarity.measure import Measure
from convergent.storage.files import atomic, write_json
from convergent.streaming.callback import PassCallback
from convergent.streaming.histograms.saved_histograms import SavedHistograms
from convergent.streaming.lowest import SavedLowest
from convergent.streaming.module import Nets
from convergent.streaming.rotated_pass import BLOCKS
from convergent.streaming.rotations import rotated_name
from convergent.streaming.snapshots import Snapshots, program

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Judging:
    """The function of a job's alignments, layer by layer.

    Attributes:
        measurement: of the job's nets.
        beside: the same with untrained nets of their architectures beside them.
        untrained: what these are called, by the trained net's name; those that are untrained themselves have none.
        trainer: makes the trainer of a pass.
        measures: of similarity, by name, of which those of the controls are made too.
        group: of the processes, which wait for the first one to align a layer.
        stitches: the maps of a method in the layer that is being aligned.
        variance_b: of the units of net b, by the names of a pair, where they are to be judged one by one.
    """

    job: AlignJob
    measurement: Measurement
    beside: Measurement
    untrained: dict[str, str]
    trainer: MakesTrainer
    measures: Mapping[str, Measure]
    group: Any
    stitches: list[Stitch] = field(default_factory=list)
    variance_b: dict[tuple[str, str], Tensor] = field(default_factory=dict)

    @classmethod
    def begin(
        cls, job: AlignJob, measurement: Measurement, trainer: MakesTrainer, measures: Mapping[str, Measure]
    ) -> Judging:
        """Measure the untrained nets; in all processes together."""
        names = names_of(measurement.nets)
        new = {name: net for name, of in zip(names, measurement.nets) if (net := _untrained(of)) is not None}
        nets = [*measurement.nets]
        for net in new.values():  # several epochs of a training have one beginning, which may be compared too
            nets += [net] if net not in nets else []
        every = names_of(nets)
        called = {name: every[nets.index(net)] for name, net in new.items()}
        of_layers = [{**paths, **{called[net]: paths[net] for net in new}} for paths in measurement.layers.values()]
        there = measurement.pairs or list(combinations(names, 2))
        both = [ab for pair in there for ab in (pair, pair[::-1]) if ab[0] in new and called[ab[0]] != ab[1]]
        pairs = list(dict.fromkeys((b, called[a]) for a, b in both))
        counted = [of for of in measurement.also if isinstance(of, SavedHistograms) and not of.rotated]
        views = {**measurement.views} | {called[net]: view for net, view in measurement.views.items() if net in new}
        beside = replace(measurement, nets=nets, wanted=of_layers, pairs=pairs, also=counted, views=views)
        if new:
            beside.ensure(trainer)
        _meet(measurement, trainer)
        return cls(job, measurement, beside, called, trainer, measures, patient_group())

    def judge_common(
        self, layer: str, pair: Callable[[int, int], Pair], moments: LayerMoments, nulls: NullPairs
    ) -> Judged:
        """Judge the maps beside which every method is read, and measure their pairs of nets, once for all methods."""
        folder, names, dealt = self._folder, names_of(self.measurement.nets), self.job.reading.blocks
        file, stitches, measured_rows = folder / f"{layer}.safetensors", list[Stitch](), list[dict[str, Any]]()
        folder.mkdir(parents=True, exist_ok=True)
        with held(folder / "lock", lambda: log.info("Another job is judging the same maps; waiting for it"), 60.0):
            with contextlib.suppress(OSError, InputError):
                return Judged.load(file)
            for a, b in (ab for i, j in moments.pairs for ab in ((i, j), (j, i))):
                directed, controls = pair(a, b) if a < b else pair(b, a).flip(), self._controls(layer, a, b, nulls)
                if all(stitch.b != names[b] for stitch in stitches):
                    stitches += own_stitches(directed, dealt)
                stitches += common_stitches(directed, dealt, controls.get("untrained"))
                for name, source in controls.items():
                    values, _ = measured(self.measures, replace(source.pair, joint=None))
                    every = {measure: values.get(measure) for measure in self.measures}
                    measured_rows.append({"a": names[a], "b": names[b], "map": name, **every})
            write_json(folder / f"{layer}.json", measured_rows)
            return self.judge(layer, stitches, folder)

    def add(self, alignment: Alignment, a: int, b: int, nulls: NullPairs) -> None:
        """Take the maps of a method for one pair of nets, given by their numbers, and of the same method from other nets."""
        names, dealt = names_of(self.measurement.nets), self.job.reading.blocks
        if self.job.config.function == "units":
            own = all(stitch.b != names[b] for stitch in self.stitches)
            self.stitches.extend(subset_stitches(alignment, dealt, own=own))
            self.variance_b[names[a], names[b]] = alignment.pair.total.sd_u[alignment.pair.b].square()
        self.stitches.extend(stitches_of(alignment, dealt, self._controls(alignment.pair.layer, a, b, nulls)))

    def judge_layer(
        self, layer: LayerMoments, pair: Callable[[int, int], Pair], nulls: NullPairs, results: Sequence[Result]
    ) -> tuple[list[Result], list[Report]]:
        """The results of a layer's pairs, all of which were added, and the reports of what is left of decisions."""
        name = layer.layer
        judged = self.judge_common(name, pair, layer, nulls) + self.judge(name, self.stitches, self._own)
        reports = reports_of(name, judged)
        for row in json.loads((self._folder / f"{name}.json").read_text()):
            reports.append(Report(name, row.pop("a"), row.pop("b"), tables={"control_measures": [row]}))
        if self.variance_b:
            both = [substitution(judged, result, self.variance_b[result.a, result.b]) for result in results]
            results, reports = [result for result, _ in both], [*reports, *(report for _, report in both)]
        self.stitches.clear()
        self.variance_b.clear()
        return [*results], reports

    @property
    def _folder(self) -> Path:
        """Of what is the same for all methods, named after all that it depends on beside the nets, untrained ones too."""
        rotated = "rotated" in self.job.evaluation.nulls
        config, folds = self.job.config, self.job.evaluation.folds
        about = json.dumps([resolved(config.similarity), rotated, folds, config.function_images])
        return self.beside.folder / f"function,{hashlib.sha256(about.encode()).hexdigest()[:8]}"

    @property
    def _own(self) -> Path:
        """Of what the method's maps were judged to be, until the result is there."""
        about = json.dumps([program(), resolved(self.job.record), str(self.job.config.function)])
        return self._folder / hashlib.sha256(about.encode()).hexdigest()[:16]

    def _controls(self, layer: str, a: int, b: int, nulls: NullPairs) -> dict[str, Source]:
        """The nets that take net a's place beside it."""
        names, dealt, controls = names_of(self.measurement.nets), self.job.reading.blocks, {}
        if rotated := nulls.of(b, a).get("rotated"):
            controls["rotated"] = Source(rotated[0].flip(), rotated_name(names[a], 0), min(dealt, BLOCKS))
        if (name := self.untrained.get(names[a])) and name != names[b]:
            moments, pair = load_pair(self.beside, self._beside(layer), self.job.evaluation.folds)
            controls["untrained"] = Source(pair(list(moments.nets).index(name), b), name, dealt)
        return controls

    def judge(self, layer: str, stitches: Sequence[Stitch], folder: Path) -> Judged:
        """Read the images once with each map in place of a layer, in all processes; a folder has what was judged before."""
        file = folder / f"{layer}.safetensors"
        with contextlib.suppress(OSError, InputError):
            return Judged.load(file)
        as_first(layer, self.group)
        judged = self._pass(layer, stitches, folder / layer)
        with atomic(file) as partial:
            judged.save(partial)
        return judged

    def assist(self) -> None:
        """Do the part of another process than the first, which says what is to be judged."""
        while layer := as_first("", self.group):
            self._pass(layer, (), self._folder)
        leave_group()

    def end(self) -> None:
        """Let the other processes go, and leave with them; what a killed job would have gone on with is not needed."""
        shutil.rmtree(self._own, ignore_errors=True)
        as_first("", self.group)
        leave_group()

    def _pass(self, layer: str, stitches: Sequence[Stitch], folder: Path) -> Judged:
        stitches, folder = as_first((stitches, folder), self.group)
        maps = json.dumps([[of.name, of.a, of.b, of.source, of.versions, of.subset] for of in stitches])
        (artifact,) = (of for of in self.measurement.also if isinstance(of, SavedLowest))
        lowest, data = self.measurement.load_one(layer, artifact), self.measurement.data
        paths = self.beside.layers[self._beside(layer)]
        reading = replace(self.job.reading, group_n=data.group_n)
        snapshots = Snapshots(folder, maps, reading.snapshot_minutes)
        callback = PassCallback([FunctionPass.start((layer, paths), reading, stitches, lowest)], snapshots)
        data.read_before = snapshots.batches
        data.only = some_of(data.untrained_on(), self.job.config.function_images)
        try:
            nets = Nets(self.beside.whole, self.beside.views)
            with stoppable(lambda: after_stop(self.beside)):
                self.trainer([callback]).predict(nets, datamodule=data, return_predictions=False)
        finally:
            data.only, data.read_before = None, lambda _rank, _world: 0
        shutil.rmtree(folder, ignore_errors=True)
        return callback.collected[0][layer]  # type: ignore[no-any-return]

    def _beside(self, layer: str) -> str:
        """What a layer is called where untrained nets are beside the others, whose paths may make it another name."""
        return list(self.beside.layers)[list(self.measurement.layers).index(layer)]


def some_of(number_n: Tensor, most: int | None) -> Tensor:
    """So many images at most, at random and always the same, by their numbers in order."""
    order_n = torch.randperm(len(number_n), generator=torch.Generator().manual_seed(0))
    return number_n[order_n[:most].sort().values]


def _meet(measurement: Measurement, trainer: MakesTrainer) -> None:
    """Start the other processes where nothing was left to be measured, so that none has been started yet."""
    meeting, data = trainer([]), measurement.data
    if meeting.world_size > 1 and not grouped():
        data.only = torch.arange(min(data.batch_size * meeting.world_size, len(data.measured)))
        meeting.predict(Nets(measurement.whole, measurement.views), datamodule=data, return_predictions=False)
        data.only = None


def _untrained(net: GivenNet) -> GivenNet | None:
    """A net of the same architecture before its training; None where it is that net."""
    if isinstance(net, Built):
        return None if net.weights is None else replace(net, name=f"{net.name}-untrained", weights=None)
    return None if net.epoch == 0 else replace(net, epoch=0)
