"""Hydra launcher that runs each job of a sweep in a process of its own.

Lightning's DDP starts its processes by running the command line again, which a sweep's command line does not survive; a
process per job with the job's own command line does, and a job that fails takes no other along. Every application of Hydra
imports this module to learn its name: it costs nothing, and nothing happens unless a configuration asks for the launcher.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from hydra.core.utils import JobReturn, JobStatus, filter_overrides
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

_STOPPED = 130  # the exit code of a job that Ctrl-C has stopped


class ProcessLauncher(Launcher):
    """Runs `n_jobs` jobs at a time, each as `python SCRIPT OVERRIDES` with its share of the GPUs.

    Args:
        n_jobs: jobs at a time. With one, its output is the sweep's; with several, each line names its job.
        devices: indices of the GPUs to deal over the slots; all visible ones by default.
    """

    def __init__(self, n_jobs: int = 1, devices: Sequence[int] | None = None) -> None:
        self.n_jobs, self.devices = n_jobs, devices

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:  # noqa: ARG002
        """Keep what the jobs need of the sweep's configuration."""
        self.config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs; exits with 1 if any of them failed, after all have run, and with 130 if they were stopped."""
        from convergent.cli.composing import composed

        composed()
        slots: SimpleQueue[int] = SimpleQueue()
        for slot in range(self.n_jobs):
            slots.put(slot)
        stopped, printing, titles = threading.Event(), threading.Lock(), _titles(job_overrides)

        def run(job: int) -> int:
            slot = slots.get()
            try:
                if stopped.is_set():
                    return _STOPPED
                command, environment = self._command(list(job_overrides[job]), initial_job_idx + job, slot)
                code = _run(command, environment, "" if self.n_jobs == 1 else titles[job], printing)
            finally:
                slots.put(slot)
            if code in (_STOPPED, -signal.SIGINT):  # Ctrl-C reaches the jobs, too: no other is to begin
                stopped.set()
            return code

        pool = ThreadPoolExecutor(self.n_jobs)
        try:
            codes = list(pool.map(run, range(len(job_overrides))))
        except KeyboardInterrupt:
            stopped.set()
        pool.shutdown()
        if stopped.is_set():
            print("stopped; what is finished is kept, the same command does the rest.", file=sys.stderr, flush=True)
            sys.exit(_STOPPED)
        if failed := [title for title, code in zip(titles, codes) if code]:
            print(f"{len(failed)} of {len(codes)} jobs failed: {'; '.join(failed)}", file=sys.stderr, flush=True)
            sys.exit(1)
        return [_completed(list(overrides)) for overrides in job_overrides]

    def _command(self, overrides: list[str], job: int, slot: int) -> tuple[list[str], dict[str, str]]:
        """The command line and the environment of one job."""
        from convergent.cli.processes import JOB, PARENT

        of_sweep = ("hydra.mode=", "hydra.sweep", "hydra/sweeper", "hydra.launcher", "hydra/launcher")
        hydra = [o for o in self.config.hydra.overrides.hydra if not o.lstrip("+").startswith(of_sweep)]
        script = [sys.executable, str(Path(sys.argv[0]).resolve()), *_config_flags(sys.argv[1:])]
        # a job ends with its sweep, even one that is killed
        environment = os.environ | {JOB: str(job), PARENT: str(os.getpid())}
        if gpus := _share(self.devices, slot, self.n_jobs):
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
        if self.n_jobs > 1:  # jobs side by side share the cores
            environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // self.n_jobs)))
        return [*script, *overrides, *hydra, "hydra.mode=RUN", f"hydra.job.num={job}"], environment


def _run(command: Sequence[str], environment: dict[str, str], title: str, printing: threading.Lock) -> int:
    """Run one job to its end, each line that it prints after its title where it has one, and return its exit code."""
    if not title:
        return subprocess.run(command, env=environment, check=False).returncode
    output = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT, text=True) as job:
        for line in job.stdout or ():
            with printing:
                print(f"[{title}] {line}", end="", flush=True)
    return job.returncode


def _titles(job_overrides: Sequence[Sequence[str]]) -> list[str]:
    """What tells each job from the others: its overrides without those of all jobs."""
    overrides = [filter_overrides(of_job) for of_job in job_overrides]
    shared = set(overrides[0]).intersection(*overrides) if len(overrides) > 1 else set()
    return [" ".join(override for override in of_job if override not in shared) for of_job in overrides]


def _config_flags(arguments: Sequence[str]) -> list[str]:
    """The command line's choice of a configuration folder or file, which a job needs as well."""
    names = ("--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn")
    flags: list[str] = []
    for place, argument in enumerate(arguments):
        if argument in names:
            flags += arguments[place : place + 2]
        elif argument.split("=")[0] in names:
            flags.append(argument)
    return flags


def _share(devices: Sequence[int] | None, slot: int, slots: int) -> list[str]:
    """The GPUs of one slot; none for "leave it as it is" (no GPU known, or only one slot)."""
    visible = [str(device) for device in devices or []]
    if not visible and slots > 1:
        named = os.environ.get("CUDA_VISIBLE_DEVICES")
        if named is None:  # counted without loading a CUDA library into this process
            named = ",".join(str(number) for number, _ in enumerate(Path("/proc/driver/nvidia/gpus").glob("*")))
        visible = [device for device in named.split(",") if device]
    return visible[slot::slots] or visible[slot % len(visible) :][:1] if visible else []


def _completed(overrides: list[str]) -> JobReturn:
    job = JobReturn(overrides=overrides, status=JobStatus.COMPLETED)
    job.return_value = None
    return job
