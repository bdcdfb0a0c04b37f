"""The processes of one job: which of them decides, and what it tells the others. Light to import."""

from __future__ import annotations

import os
from typing import TypeVar

_T = TypeVar("_T")


def first_process() -> bool:
    """Whether this is the one process of a job that decides, writes and speaks (Lightning, torchrun or SLURM started it)."""
    return all(os.environ.get(rank, "0") == "0" for rank in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"))


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


def _together() -> bool:
    import torch.distributed as dist

    return dist.is_available() and dist.is_initialized()
