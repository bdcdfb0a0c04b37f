"""Every layer of a job's nets compared with every other, by as many processes as are asked for."""

from __future__ import annotations

from typing import Any

import torch

from convergent.analysis.all_layers import pairs_of_layers, rows_of_layers, with_all_columns
from convergent.cli.align_job import AlignJob
from convergent.cli.measured import load_all_layers
from convergent.cli.measurement import Measurement
from convergent.cli.pairs import WIDE, Parts, memory_of_pair, units_of_pair
from convergent.cli.workers import Workers, processes_for, threads
from convergent.progress import track


def compare_layers(
    job: AlignJob, parts: Parts, measurement: Measurement, *, alone: bool = False
) -> list[dict[str, Any]]:
    """A row for each ordered pair of layers, where that was asked for; by this process `alone` if it must not be forked."""
    if (sites := load_all_layers(measurement)) is None:
        return []
    pairs, units = pairs_of_layers(sites, job.pairs, job.evaluation.folds), job.evaluation.measure_units
    wide = units_of_pair(sites) >= WIDE

    def rows(number: int) -> list[dict[str, Any]]:
        with threads(torch.get_num_threads() if wide else 1):
            return rows_of_layers([pairs[number]], sites.images, parts.measures, parts.method, units)

    processes = 1 if alone or wide else processes_for(len(pairs), job.config.n_jobs, memory_of_pair(sites))
    with Workers(rows, processes) as workers:
        done = dict(track(workers.results(range(len(pairs))), "comparing all layers", len(pairs)))
    return with_all_columns(row for number in sorted(done) for row in done[number])
