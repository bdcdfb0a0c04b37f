"""A sweep's jobs run in processes of their own, and one that fails takes no other along."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import PROJECT
from hydra_plugins.process_launcher import _config_flags, _share

APP = """
import os, sys, time, hydra
from convergent.cli.processes import end_with_parent
@hydra.main(version_base="1.3", config_path="conf", config_name="app")
def main(config):
    end_with_parent()
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
    with open(os.path.join(config.out, f"x={config.x}"), "w") as file:
        file.write(f"{os.getpid()} {gpus} {config.y}")
    print("ran", config.x, flush=True)
    while config.x == 5:
        time.sleep(1)
    sys.exit({1: 3, 9: 130}.get(config.x, 0))
main()
"""


def heeds_ctrl_c():
    """Make a process heed Ctrl-C although these tests may run in the background, where a shell has it ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def app(tmp_path):
    folder = tmp_path / "a folder"
    (folder / "conf").mkdir(parents=True)
    (folder / "app.py").write_text(APP)
    (folder / "conf" / "app.yaml").write_text(
        "defaults: [_self_, {override hydra/launcher: process}]\nx: 0\ny: 0\nout: ???\n"
        "hydra: {run: {dir: .}, sweep: {dir: ., subdir: .}, output_subdir: null}\n"
    )
    (folder / "conf" / "hydra" / "launcher").mkdir(parents=True)
    launcher = (PROJECT / "conf" / "hydra" / "launcher" / "process.yaml").read_text()
    (folder / "conf" / "hydra" / "launcher" / "process.yaml").write_text(launcher)

    def run(*arguments, wait=True):
        environment = os.environ | {"PYTHONPATH": str(PROJECT / "src"), "CUDA_VISIBLE_DEVICES": "4,5,6"}
        command = [sys.executable, str(folder / "app.py"), *arguments, f"out='{tmp_path}'"]
        process = {"env": environment, "cwd": tmp_path, "text": True}
        if wait:
            return subprocess.run(command, **process, capture_output=True, check=False)
        return subprocess.Popen(
            command,
            **process,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=heeds_ctrl_c,
        )

    return tmp_path, run


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_every_job_runs_and_the_exit_code_tells_of_the_failed_one(app, n_jobs):
    folder, run = app
    done = run("-m", "x=0,1,2", "y=7", f"hydra.launcher.n_jobs={n_jobs}")
    assert done.returncode == 1
    assert "1 of 3 jobs failed: " in done.stderr
    assert "x=1" in done.stderr
    written = [(folder / f"x={x}").read_text().split() for x in range(3)]
    assert len({process for process, _, _ in written}) == 3
    assert {y for _, _, y in written} == {"7"}
    if n_jobs == 2:
        assert {gpus for _, gpus, _ in written} <= {"4,6", "5"}
        assert "[" in done.stdout.split("ran")[0]
    else:
        assert {gpus for _, gpus, _ in written} == {"4,5,6"}


def test_a_sweep_without_failures_exits_with_0(app):
    _, run = app
    assert run("-m", "x=0,2").returncode == 0


def test_after_a_stop_no_other_job_begins(app):
    folder, run = app
    done = run("-m", "x=0,9,2")
    assert done.returncode == 130
    assert "stopped; what is finished is kept, the same command does the rest." in done.stderr
    assert not (folder / "x=2").exists()


def until(done, seconds=60):
    end = time.monotonic() + seconds
    while not (value := done()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return value


def number_in(file):
    """The process that a job has written into its file, once it is there."""
    text = file.read_text().split() if file.exists() else []
    return int(text[0]) if len(text) == 3 else None


def lives(process):
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc to see whether a process lives")
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_the_jobs_of_a_sweep_that_is_killed_end_with_it(app, n_jobs):
    folder, run = app
    sweep = run("-m", "x=5,0", f"hydra.launcher.n_jobs={n_jobs}", wait=False)
    job = until(lambda: number_in(folder / "x=5"))
    assert lives(job)
    sweep.kill()
    sweep.wait()
    until(lambda: not lives(job))


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_ctrl_c_ends_a_sweep_and_its_jobs(app, n_jobs):
    folder, run = app
    sweep = run("-m", "x=5,5,0", f"hydra.launcher.n_jobs={n_jobs}", wait=False)
    try:
        until(lambda: number_in(folder / "x=5"))
        if n_jobs == 1:
            assert sweep.stdout.readline() == "ran 5\n"
        os.killpg(sweep.pid, signal.SIGINT)  # as a terminal does
        _, err = sweep.communicate(timeout=60)
    finally:  # a sweep that does not end is not left behind
        if sweep.poll() is None:
            os.killpg(sweep.pid, signal.SIGKILL)
    assert sweep.returncode == 130
    assert "stopped; what is finished is kept, the same command does the rest." in err
    assert not (folder / "x=0").exists()


def test_gpus_are_dealt_over_the_slots():
    assert [_share([0, 1, 2, 3], slot, 2) for slot in range(2)] == [["0", "2"], ["1", "3"]]
    assert [_share([7], slot, 3) for slot in range(3)] == [["7"]] * 3
    assert _share(None, 0, 1) == []


def test_the_choice_of_a_configuration_is_handed_on():
    arguments = ["-m", "--config-dir", "mine", "a=1", "--config-name=other", "-cp", "there"]
    assert _config_flags(arguments) == ["--config-dir", "mine", "--config-name=other", "-cp", "there"]
