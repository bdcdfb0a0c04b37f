"""Processes of one job: one decides, the others hear of it, and all leave together."""

import os
import subprocess
import sys
import time

import pytest
import torch.distributed as dist

from conftest import PROJECT
from convergent.cli.processes import as_first, end_with_parent, first_process, leave_group
from forked import CONTEXT


@pytest.mark.parametrize(
    ("ranks", "first"),
    [
        ({}, True),
        ({"LOCAL_RANK": "1"}, False),
        ({"RANK": "0", "LOCAL_RANK": "0"}, True),
        ({"LOCAL_RANK": "0", "NODE_RANK": "1"}, False),
        ({"SLURM_PROCID": "3"}, False),
    ],
)
def test_one_process_of_a_job_decides(monkeypatch, ranks, first):
    for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, rank in ranks.items():
        monkeypatch.setenv(name, rank)
    assert first_process() is first


def test_alone_one_decides_for_oneself():
    assert as_first("mine") == "mine"
    leave_group()


def _process(rank, store, answers):
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    for number in range(2):
        time.sleep(0.3 * (rank == number))  # either is late once
        answers.put((number, rank, as_first(f"{number} of {rank}")))
    time.sleep(0.3 * rank)
    leave_group()
    answers.put((2, rank, str(dist.is_initialized())))


def test_all_do_what_the_first_one_says_however_late_it_is(tmp_path):
    answers = CONTEXT.Queue()
    both = [CONTEXT.Process(target=_process, args=(rank, tmp_path / "store", answers)) for rank in range(2)]
    for process in both:
        process.start()
    messages = sorted(answers.get(timeout=60) for _ in range(6))
    for process in both:
        process.join(60)
        assert process.exitcode == 0
    expected = ["0 of 0", "1 of 0", "False"]
    assert messages == [(number, rank, expected[number]) for number in range(3) for rank in range(2)]


PARENT = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], env=os.environ | {"CONVERGENT_PARENT": str(os.getpid())})
time.sleep(600)
"""
CHILD = """
import os, socket
from convergent.cli.processes import end_with_parent
end_with_parent()
print(os.getpid(), flush=True)
with socket.create_server(("127.0.0.1", 0)) as waiting:
    waiting.accept()  # as one waits for a group that never forms
"""


@pytest.mark.parametrize("when", ["soon", "at once"])
def test_a_process_ends_with_the_one_that_started_it(monkeypatch, when):
    monkeypatch.setenv("PYTHONPATH", str(PROJECT / "src"))
    child = CHILD if when == "soon" else f"import time; print(0, flush=True); time.sleep(2){CHILD}"
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, child], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    parent.stdout.readline()
    parent.kill()
    parent.wait()
    _, err = parent.communicate(timeout=60)  # ends when nobody is left who could write
    assert "the process that started this one is gone, so it ends" in err


def test_a_process_that_others_started_is_left_alone(monkeypatch):
    for named in ("", "nonsense", str(os.getpid())):
        monkeypatch.setenv("CONVERGENT_PARENT", named)
        end_with_parent()
    monkeypatch.setenv("PYTHONPATH", str(PROJECT / "src"))
    code = "from convergent.cli.processes import end_with_parent; end_with_parent(); import time; time.sleep(1.5)"
    between = f"import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', {code!r}]).returncode)"
    assert subprocess.run([sys.executable, "-c", between], check=False).returncode == 0
