"""The processes of one job: which of them decides, and what it tells the others. Light to import."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from typing import TypeVar

_T = TypeVar("_T")

PARENT = "CONVERGENT_PARENT"  # the environment variable in which a process tells those that it starts its number
_LOOK = 1.0  # seconds between two looks at the parent
_PARTED = threading.Event()  # this process has done its part of a job, whose first process may end before it


def first_process() -> bool:
    """Whether this is the one process of a job that decides, writes and speaks (Lightning, torchrun or SLURM started it)."""
    return all(os.environ.get(rank, "0") == "0" for rank in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"))


def end_with_parent() -> None:
    """End this process as soon as the one of ours that started it is gone, killed or not: a sweep, or a job's first process.

    A thread looks at the parent, so that it does not matter what the main thread is waiting for. The kernel gives orphans
    another parent at once, even while nobody has taken note of the dead one. Processes that others start (a shell, torchrun,
    SLURM) end as those have it.
    """
    named = os.environ.get(PARENT, "")
    os.environ[PARENT] = str(os.getpid())  # for those that Lightning starts from here
    if not named.isdigit() or int(named) == os.getpid():
        return
    if os.getppid() != int(named):
        with contextlib.suppress(OSError):
            os.kill(int(named), 0)  # asks whether there is such a process
            return  # there is, and something else between us
        _orphaned()
    threading.Thread(target=_watch, args=(int(named),), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        if _PARTED.wait(_LOOK):
            return
    _orphaned()


def _orphaned() -> None:
    with contextlib.suppress(OSError, ValueError):  # the parent may have been the one that listened
        message = "error: the process that started this one is gone, so it ends; the same command goes on from here."
        print(message, file=sys.stderr, flush=True)
    os._exit(1)


def as_first(value: _T) -> _T:
    """What the first process has, in all processes that have found one another; where there are none yet, one's own."""
    if not _together():
        return value
    import torch.distributed as dist

    told = [value]
    dist.broadcast_object_list(told)
    return told[0]


def part() -> None:
    """Leave the group of processes, all at the same time; one that is early must not take its store from the others.

    Once in a job, at its end: a process that is early for a second group would join the first one as long as that is there.
    """
    if _together():
        import torch.distributed as dist

        dist.barrier()
        dist.destroy_process_group()
    if not first_process():
        _PARTED.set()


def _together() -> bool:
    import torch.distributed as dist

    return dist.is_available() and dist.is_initialized()
