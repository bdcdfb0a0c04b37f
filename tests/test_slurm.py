"""A sweep on a real SLURM, of one node: tests/slurm/start.sh starts one. Skipped where there is none."""

import os
import shutil
import subprocess
import sys
import time

import pytest
from safetensors.torch import load_file

from conftest import PROJECT


def _reason():
    if not shutil.which("srun") or not shutil.which("sbatch"):
        return "there is no SLURM here: apt-get install slurm-wlm munge"
    if subprocess.run(["sinfo", "-h"], capture_output=True, text=True, check=False).stdout.strip() == "":
        return "SLURM is not running: . tests/slurm/start.sh FOLDER"
    try:
        import hydra_plugins.hydra_submitit_launcher.submitit_launcher  # noqa: F401
    except ImportError:
        return "hydra-submitit-launcher is not installed: pip install '.[slurm]'"
    return ""


WHY = _reason()
pytestmark = [pytest.mark.slurm, pytest.mark.skipif(bool(WHY), reason=WHY)]

SMALL = (
    "net.module.widths=[4,4,4,6]",
    "net.module.dropout=0",
    "data.batch_size=64",
    "logger=csv",
    "trainer.accelerator=cpu",
)
SLURM = ("hydra/launcher=slurm", "hydra.launcher.gpus_per_node=null", "hydra.launcher.cpus_per_task=1")


def run(*arguments, root):
    return subprocess.run(
        [sys.executable, str(PROJECT / "src" / "train.py"), *arguments, f"root={root}"],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT / "src")},
        capture_output=True, text=True, check=False, timeout=400,
    )  # fmt: skip


def setup(root):
    return f"hydra.launcher.setup=['export PYTHONPATH={PROJECT}/src OMP_NUM_THREADS=1']"


def test_a_sweep_of_jobs_with_a_task_per_process(tmp_path):
    sweep = ("-m", "seed=0,1", "epochs=1", *SMALL, "trainer=ddp", "trainer.devices=2", *SLURM, setup(tmp_path))
    done = run(*sweep, root=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    logs = [file.read_text() for file in sorted((tmp_path / "outputs" / "slurm").glob("*/*_0_log.out"))]
    assert len(logs) == 2
    assert sorted("seed=0" in text for text in logs) == [False, True]
    assert all(text.count(": val/acc_top1") == 1 for text in logs)  # one of the tasks speaks
    alone = run("seed=1", "epochs=1", *SMALL, "name=alone", root=tmp_path)
    assert alone.returncode == 0
    ours, theirs = (
        load_file(tmp_path / "outputs" / "train" / name / "seed=1" / "weights.safetensors")
        for name in ("digits-convnet", "alone")
    )
    assert all(abs(ours[key] - theirs[key]).max() < 1e-3 for key in ours)


def test_a_job_that_slurm_stops_is_started_again_and_ends_the_same(tmp_path):
    job = ("-m", "seed=0", "epochs=3", *SMALL, "trainer=cpu", "name=stopped", "hydra.launcher.signal_delay_s=30")
    slow = "+trainer.limit_val_batches=1.0"
    process = subprocess.Popen(
        [sys.executable, str(PROJECT / "src" / "train.py"), *job, *SLURM, setup(tmp_path), slow, f"root={tmp_path}"],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT / "src")},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    run_folder = tmp_path / "outputs" / "train" / "stopped" / "seed=0"
    for _ in range(600):
        if (run_folder / "last.ckpt").exists():
            break
        if process.poll() is not None:
            break
        time.sleep(0.05)
    queue = subprocess.run(["squeue", "-h", "-o", "%A"], capture_output=True, text=True, check=True).stdout.split()
    subprocess.run(["scancel", "--signal=USR2", queue[0]], check=True)  # as SLURM does before the time is over
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    log = "".join(file.read_text() for file in sorted((tmp_path / "outputs" / "slurm").glob("*/*_log.out")))
    assert "saved, it goes on from here" in log
    assert "going on from the last checkpoint" in log
    assert run("seed=0", "epochs=3", *SMALL, "trainer=cpu", "name=alone", slow, root=tmp_path).returncode == 0
    ours, theirs = (
        load_file(tmp_path / "outputs" / "train" / name / "seed=0" / "weights.safetensors")
        for name in ("stopped", "alone")
    )
    assert all((ours[key] == theirs[key]).all() for key in ours)
