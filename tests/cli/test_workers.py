"""Tasks spread over forked processes: the results of one process, no process left behind, each line said once."""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from conftest import PROJECT
from convergent.cli.workers import Workers, threads
from convergent.errors import InputError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only there processes are forked")


def decomposed(number):
    """What differs in its last bits with the number of threads."""
    with threads(1):
        x_nn = torch.randn(150, 150, generator=torch.Generator().manual_seed(number), dtype=torch.float64)
        return torch.linalg.eigh(x_nn @ x_nn.T)[1], os.getpid()


def results_of(work, processes, tasks=6):
    with Workers(work, processes) as workers:
        return dict(workers.results(range(tasks)))


def test_results_are_the_same_bits_whatever_the_number_of_processes():
    one, three = (results_of(decomposed, processes) for processes in (1, 3))
    assert sorted(three) == list(range(6))
    for number, (vectors, _) in one.items():
        assert torch.equal(vectors, three[number][0])
    assert {process for _, process in one.values()} == {os.getpid()}
    there = {process for _, process in three.values()}
    assert 1 <= len(there) <= 3
    assert os.getpid() not in there


def test_tasks_begin_in_the_order_that_is_asked_for():
    began = [number for number, _ in Workers(lambda number: number, 1).results([4, 1, 3])]
    assert began == [4, 1, 3]


def test_what_a_task_raises_is_raised_and_the_processes_are_gone():
    def fails(number):
        if number == 1:
            raise InputError("this one cannot be aligned; leave it out.")
        time.sleep(30)

    began = time.monotonic()
    with Workers(fails, 2) as workers:
        processes = [process.pid for process in workers._there.values()]
        with pytest.raises(InputError, match="leave it out"):
            list(workers.results([0, 1]))
    assert time.monotonic() - began < 20
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_a_process_that_is_killed_ends_the_work_with_a_sentence():
    with (
        pytest.raises(InputError, match="was killed"),
        Workers(lambda _: os.kill(os.getpid(), signal.SIGKILL), 2) as of,
    ):
        list(of.results([0, 1, 2]))


def test_what_all_processes_log_comes_out_once(caplog):
    def says(number):
        logging.getLogger("convergent.methods").warning("few samples in %s", "conv1")
        logging.getLogger("convergent.methods").info("task %d", number)

    with caplog.at_level(logging.INFO):
        results_of(says, 2, tasks=4)
    assert sorted(caplog.messages) == ["few samples in conv1", "task 0", "task 1", "task 2", "task 3"]


APP = """
import os, sys, time
from convergent.cli.workers import Workers
def work(number):
    with open(f"{sys.argv[1]}/{number}", "w") as file:
        file.write(str(os.getpid()))
    time.sleep(60)
with Workers(work, 2) as workers:
    list(workers.results([0, 1]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc to see whether a process lives")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_the_processes_end_with_the_one_that_started_them(tmp_path, end):
    app = subprocess.Popen(
        [sys.executable, "-c", APP, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(PROJECT / "src")},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )

    def processes():
        with contextlib.suppress(OSError, ValueError):
            return [int((tmp_path / str(number)).read_text()) for number in range(2)]

    def until(done):
        ends = time.monotonic() + 60
        while not (value := done()):
            assert time.monotonic() < ends
            time.sleep(0.05)
        return value

    there = until(processes)
    (os.killpg if end == signal.SIGINT else os.kill)(app.pid, end)  # Ctrl-C reaches all
    app.wait(60)
    until(lambda: not any(Path(f"/proc/{process}").exists() for process in there))


def test_afterwards_there_are_as_many_threads_as_before():
    before = torch.get_num_threads()
    with threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
