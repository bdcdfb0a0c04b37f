"""A sweep's jobs run in processes of their own, and one that fails takes no other along."""

import subprocess
import sys

import pytest

from conftest import PROJECT
from hydra_plugins.process_launcher import _config_flags, _share

APP = """
import os, sys, hydra
@hydra.main(version_base="1.3", config_path="conf", config_name="app")
def main(config):
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
    with open(os.path.join(config.out, f"x={config.x}"), "w") as file:
        file.write(f"{os.getpid()} {gpus} {config.y}")
    print("ran", config.x)
    sys.exit({1: 3, 9: 130}.get(config.x, 0))
main()
"""


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

    def run(*arguments):
        import os

        environment = os.environ | {"PYTHONPATH": str(PROJECT / "src"), "CUDA_VISIBLE_DEVICES": "4,5,6"}
        command = [sys.executable, str(folder / "app.py"), *arguments, f"out='{tmp_path}'"]
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)

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


def test_gpus_are_dealt_over_the_slots():
    assert [_share([0, 1, 2, 3], slot, 2) for slot in range(2)] == [["0", "2"], ["1", "3"]]
    assert [_share([7], slot, 3) for slot in range(3)] == [["7"]] * 3
    assert _share(None, 0, 1) == []


def test_the_choice_of_a_configuration_is_handed_on():
    arguments = ["-m", "--config-dir", "mine", "a=1", "--config-name=other", "-cp", "there"]
    assert _config_flags(arguments) == ["--config-dir", "mine", "--config-name=other", "-cp", "there"]
