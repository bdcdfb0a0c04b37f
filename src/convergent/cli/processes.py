"""The processes of one job: which of them decides, and what it says to the others. Light to import."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from datetime import timedelta
from typing import Any, TypeVar

T = TypeVar("T")

PARENT = "CONVERGENT_PARENT"  # the environment variable in which a process tells those that it starts its number
_LOOK = 1.0  # seconds between two looks at the parent


def first_process() -> bool:
    """Whether this is the one process of a job that decides, writes and speaks (Lightning, torchrun or SLURM started it)."""
    return all(os.environ.get(rank, "0") == "0" for rank in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"))


def end_with_parent() -> None:
    """End this process as soon as the one of ours that started it is gone, killed or not: a sweep, or a job's first process.

    A thread looks at the parent, whatever the main thread is waiting for. The kernel gives orphans another parent at once.
    Processes that others start (a shell, torchrun, SLURM) end as those have it.
    """
    named, ours = os.environ.get(PARENT, ""), str(os.getpid())
    os.environ[PARENT] = ours  # for those that Lightning starts from here
    if not named.isdigit() or named == ours:
        return
    if os.getppid() != int(named):
        with contextlib.suppress(OSError):
            os.kill(int(named), 0)  # asks whether there is such a process
            return  # there is, and something else between us

    def watch() -> None:
        while os.getppid() == int(named):
            time.sleep(_LOOK)
        if os.environ[PARENT] != ours:  # it has left the group, whose first process may end before it
            return
        with contextlib.suppress(OSError, ValueError):  # the parent may have been the one that listened
            message = "the process that started this one is gone, so it ends; the same command goes on from here."
            print(f"error: {message}", file=sys.stderr, flush=True)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def as_first(value: T, group: Any = None) -> T:
    """What the first process has, in all processes of a group; where there is none yet, one's own."""
    if not grouped():
        return value
    import torch.distributed as dist

    values = [value]
    dist.broadcast_object_list(values, group=group)
    return values[0]


def patient_group() -> Any:
    """The same processes as a group whose exchanges wait for as long as the first one works alone; None for one process."""
    if not grouped():
        return None
    import torch.distributed as dist

    return dist.new_group(timeout=timedelta(days=30), backend="gloo")


def leave_group() -> None:
    """Leave the group of processes, all at the same time; one that is early must not take its store from the others.

    Once in a job, at its end: a process that is early for a second group would join the first one as long as that is there.
    """
    if grouped():
        import torch.distributed as dist

        dist.barrier()
        dist.destroy_process_group()
    if not first_process():
        os.environ[PARENT] = ""


def grouped() -> bool:
    """Whether this process is in a group."""
    import torch.distributed as dist

    return dist.is_available() and dist.is_initialized()
