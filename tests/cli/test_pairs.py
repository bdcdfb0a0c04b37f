"""In which order pairs of nets are aligned, by how many processes, and what is said of the time that they take."""

import logging
from itertools import combinations
from types import SimpleNamespace

import pytest
import torch

from convergent.cli import workers
from convergent.cli.pairs import Pairs, _OfPair
from convergent.cli.writing import Aligned


def of_widths(*widths, nets=3, n_jobs=None, judging=None):
    layers = [
        (
            SimpleNamespace(
                units=[slice(net * width, (net + 1) * width) for net in range(nets)],
                pairs=list(combinations(range(nets), 2)),
                count_k=torch.ones(64),
            ),
            None,
            None,
        )
        for width in widths
    ]
    job = SimpleNamespace(config=SimpleNamespace(n_jobs=n_jobs))
    return Pairs(job, None, None, [], judging, layers, None)


def test_a_pair_of_each_layer_comes_first_then_the_longest_and_those_of_very_many_units_at_the_end():
    these = of_widths(96, 4096, 384)
    narrow, wide = these._order()
    assert [these.tasks[number] for number in narrow] == [(2, 0), (0, 0), (2, 1), (2, 2), (0, 1), (0, 2)]
    assert [these.tasks[number] for number in wide] == [(1, 0), (1, 1), (1, 2)]
    assert of_widths(96, 384, judging="some")._order() == (range(6), [])  # a layer's alignments are judged together


@pytest.mark.parametrize(
    ("free", "n_jobs", "processes"), [(1e12, None, 4), (1e12, 2, 2), (1e12, 9, 6), (3e9, 9, 1), (0, 9, 1)]
)
def test_there_are_as_many_processes_as_there_are_tasks_and_memory_for(monkeypatch, caplog, free, n_jobs, processes):
    monkeypatch.setattr(workers, "available_memory", lambda: free)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    with caplog.at_level(logging.INFO):
        assert of_widths(384, 96, n_jobs=n_jobs)._processes(range(6)) == processes
    assert ("each takes up to 2.0 GB of memory" in caplog.text) == (processes == 1)


def test_once_there_is_a_pair_of_each_layer_it_is_said_how_long_the_rest_takes(caplog):
    these = of_widths(96, 384, nets=12)
    narrow, _ = these._order()
    seconds = {0: 10.0, 1: 120.0}
    results = ((number, _OfPair(Aligned(), {}, seconds[these.tasks[number][0]])) for number in narrow)
    with caplog.at_level(logging.INFO):
        assert [number for number, _ in these._timed(results, narrow, 4)] == list(narrow)
    assert caplog.messages == ["130 pairs of layers are left, 4 at a time: about 35 min"]  # 65 of 130 s, by 4 processes
