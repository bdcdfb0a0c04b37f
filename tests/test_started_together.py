"""Jobs whose processes torchrun or SLURM started at once: all do what the first one decides, with images or without."""

import shutil
import time

import pytest
from filelock import FileLock
from torch.distributed import TCPStore

from forked import Forked, free_port
from test_survival import PASS, moments

pytestmark = pytest.mark.command

ONE_BLOCK = (*PASS, "reading.blocks=1", "evaluation.folds=0", "evaluation.nulls=[shuffled]", "method=semimatching")

# A command, with torchrun's launcher, whose processes say when they ask the first one what is to be done, and that waits
# aloud at once.
ASKING = """
import os, sys
from pathlib import Path
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from convergent.cli import measurement
from convergent.cli.main import run
place, as_first = Path(sys.argv.pop(1)), measurement.as_first
def asking(*arguments):
    (place / os.environ["RANK"]).touch()
    return as_first(*arguments)
measurement.as_first, measurement._MINUTE = asking, 0
torchrun = LaunchConfig(1, 1, 2, run_id="it", rdzv_backend="c10d", rdzv_endpoint="localhost:0", start_method="fork")
elastic_launch(torchrun, run)("align")
"""


def until(ready, process):
    end = time.monotonic() + 200
    while not ready():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_job_of_torchrun_waits_whole_for_another_and_its_idle_process_changes_no_bit(tmp_path, command):
    first, second = tmp_path / "first", tmp_path / "second"
    assert command("align", *ONE_BLOCK, f"root={first}")[0] == 0
    alone = moments(first)
    done, missing = sorted({file.rpartition("/")[0] for file in alone if file.count("/") == 3}, key=len)
    (second / done).mkdir(parents=True)
    arguments = ["trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu", f"root={second}"]
    with FileLock(second / done / "lock"):  # of another job that measures the images, but not yet the shuffled ones
        process = Forked("python", "-c", ASKING, tmp_path, *ONE_BLOCK, *arguments)
        until((tmp_path / "1").exists, process)  # it has seen that nothing is there
        shutil.copytree(first / done, second / done, dirs_exist_ok=True)
    output = process.output()
    assert output.count("read 360 images") == 1
    assert output.count("mean r") == 1
    there = moments(second)
    assert there.keys() == alone.keys()
    assert any(missing in file for file in there)
    assert all((there[file][key] == x).all() for file, tensors in alone.items() for key, x in tensors.items())


TASK = """
import os, sys, time
from convergent.cli.processes import as_first
rank = os.environ["SLURM_PROCID"]
time.sleep(float(sys.argv[1]) * (rank == "0"))  # as one waits for another job
print(as_first(f"{rank} decides"), as_first({rank}), os.environ.get("MASTER_PORT"))
if rank == "1":
    as_first(None)  # which the first one has no answer for
"""


def tasks(job, step, seconds):
    """Both tasks of a step of a SLURM job, as srun starts them."""
    of_step = {"SLURM_JOB_ID": job, "SLURM_STEP_ID": step, "SLURM_STEP_NUM_TASKS": "2", "SLURM_NODELIST": "127.0.0.1"}
    return [Forked("python", "-c", TASK, seconds, SLURM_PROCID=rank, **of_step) for rank in "01"]


def test_tasks_of_slurm_hear_the_first_one_of_their_own_step_and_end_with_it():
    job = str(free_port())
    every = [tasks(job, "0", 3), tasks(job, "1", 0)]  # two steps of one job at a time
    output = [[task.output(code) for code, task in enumerate(step)] for step in every]  # the second ends with an error
    ports = [{said.splitlines()[0].split()[-1] for said in step} for step in output]
    assert len(set.union(*ports)) == 2
    assert all(said.startswith("0 decides {'0'} ") for step in output for said in step)
    assert all("first process of this job has ended" in said for _, said in output)


def test_tasks_of_a_batch_script_that_srun_did_not_start_are_no_processes_of_a_job(monkeypatch):
    from convergent.cli.processes import as_first

    for name, value in {"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_JOB_ID": "5"}.items():
        monkeypatch.setenv(name, value)
    assert as_first("mine") == "mine"


JOBS = """
import os, sys, time
import torch
import torch.distributed as dist
from convergent.cli.processes import as_first, join_group, leave_group
rank, job = os.environ["RANK"], os.environ["CONVERGENT_JOB"]
time.sleep(3 * (rank == "0" and job == "1"))  # the other one is early
decision, ranks = as_first(f"job {job}"), [None, None]
join_group(torch.device("cpu"), 2)
dist.all_gather_object(ranks, rank)
print(decision, ranks)
leave_group()
"""


def test_a_job_of_a_sweep_by_torchrun_neither_hears_the_job_before_nor_meets_its_processes():
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # torchrun's, there from job to job
    together = {"TORCHELASTIC_RUN_ID": "it", "TORCHELASTIC_USE_AGENT_STORE": "True", "WORLD_SIZE": "2"}
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    for job in "01":
        both = [Forked("python", "-c", JOBS, RANK=rank, CONVERGENT_JOB=job, **together, **place) for rank in "01"]
        assert [process.output() for process in both] == 2 * [f"job {job} ['0', '1']\n"]
