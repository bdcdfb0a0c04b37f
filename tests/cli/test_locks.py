"""One job at a time for each result, and locks that death releases."""

import os
import subprocess
import sys
import threading

import pytest
from filelock import FileLock, Timeout
from omegaconf import OmegaConf

from conftest import PROJECT
from convergent.cli.align_job import AlignJob
from convergent.cli.locks import alone


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "outputs" / "train" / "e" / "seed=0"


def test_a_job_waits_for_another_one_of_the_same_result_and_says_so(folder):
    messages, waits, first = [], threading.Event(), []

    def second():
        with alone([folder.with_name("seed=1"), folder], lambda text: (messages.append(text), waits.set())):
            first.append("second")

    with alone([folder], messages.append):
        thread = threading.Thread(target=second)
        thread.start()
        assert waits.wait(60)
        first.append("first")
    thread.join(60)
    assert first == ["first", "second"]
    assert messages == ["another job is at it; waiting for its end"]
    assert not folder.exists()  # locking makes no result


def test_other_results_are_not_waited_for(folder):
    with alone([folder], pytest.fail), alone([folder.with_name("seed=1")], pytest.fail):
        pass


def test_a_killed_job_holds_nobody_up(folder):
    code = (
        "import sys, time; from pathlib import Path; from convergent.cli.locks import alone\n"
        "with alone([Path(sys.argv[1])], print):\n    print('held', flush=True); time.sleep(600)"
    )
    here = os.environ | {"PYTHONPATH": str(PROJECT / "src")}
    process = subprocess.Popen([sys.executable, "-c", code, str(folder)], env=here, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    process.kill()
    process.communicate()
    with alone([folder], pytest.fail):
        pass


@pytest.mark.parametrize(("done", "force", "locks"), [(False, False, True), (True, False, False), (True, True, True)])
def test_an_alignment_is_locked_unless_there_is_nothing_to_do(folder, done, force, locks):
    folder = folder.parents[2] / "align" / "e" / "matching"
    folder.mkdir(parents=True)
    if done:
        (folder / "done").touch()
    config = OmegaConf.create({"force": force})
    job = AlignJob((), (), None, "e", "matching", folder, OmegaConf.create(), config)
    file = folder.parents[2] / "locks" / "align" / "e" / "matching"
    with job.alone():
        assert file.exists() == locks
        if locks:
            with pytest.raises(Timeout):
                FileLock(file).acquire(timeout=0)
