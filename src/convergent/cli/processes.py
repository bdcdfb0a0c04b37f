"""The processes of one job: which of them decides, and what it says to the others. Light to import."""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

from convergent.errors import InputError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
_groups = count()  # that were made here, see `join_group`

PARENT = "CONVERGENT_PARENT"  # the environment variable in which a process tells those that it starts its number
JOB = "CONVERGENT_JOB"  # and in which a sweep tells each of its jobs its own
_LOOK = 1.0  # seconds between two looks at the parent
_PATIENCE = timedelta(days=30)  # while the first process works alone, or waits for another job
_ARRIVAL = timedelta(minutes=30)  # as torch allows the processes of a job to come
_STEP_PORTS = 97  # between the ports of two steps of one SLURM job, of which Lightning knows the job only


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
    """What the first process has, in all processes of a group, or before there is one in all that were started together.

    A process that is alone, or that Lightning started when the first one had decided, has its own.

    Raises:
        InputError: if the first process has ended, or the others do not come.
    """
    if not grouped():
        return value if _started_together() is None else _through_store(value)
    import torch.distributed as dist

    values = [value]
    dist.broadcast_object_list(values, group=group)
    return values[0]


def _started_together() -> tuple[int, int] | None:
    """The rank of this process and the number of all, where torchrun or SLURM's srun started several; None otherwise."""
    for mark, rank, world in (
        ("TORCHELASTIC_RUN_ID", "RANK", "WORLD_SIZE"),
        ("SLURM_STEP_ID", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
    ):
        if mark in os.environ and int(os.environ.get(world, "1")) > 1:
            return int(os.environ[rank]), int(os.environ[world])
    return None


@cache
def _store(rank: int, world: int) -> tuple[Any, Iterator[int]]:
    """What processes that were started together have in common before they are a group, and the exchanges so far.

    Jobs of a sweep, whose processes are started together once for all of them, have parts of their own.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        nodes = os.environ.get("SLURM_STEP_NODELIST", os.environ.get("SLURM_NODELIST", "127.0.0.1"))
        first_nodes = re.sub(r"\[([^],-]+)[^]]*\]", r"\1", nodes)  # host[5-9,12],other has host5 first
        os.environ.setdefault("MASTER_ADDR", re.split("[, ]", first_nodes)[0])
        step = int(os.environ["SLURM_STEP_ID"]) * _STEP_PORTS
        port = 15_000 + (int(os.environ.get("SLURM_JOB_ID", "0")[-4:]) + step) % 10_000
        os.environ.setdefault("MASTER_PORT", str(port))  # Lightning's own for the first step
    from torch.distributed import PrefixStore, rendezvous  # type: ignore[attr-defined]

    store, _, _ = next(rendezvous("env://", rank, world, timeout=_ARRIVAL))
    return PrefixStore(f"convergent/{os.environ.get(JOB, '')}", store), count()


def _through_store(value: T) -> T:
    """What the first process has; it goes on when all others have it.

    Raises:
        InputError: if the first process has ended, or the others do not come.
    """
    rank, world = _started_together() or (0, 1)
    try:
        store, exchanges = _store(rank, world)
        key = str(next(exchanges))
        if rank == 0:
            store.set(key, pickle.dumps(value))
            store.wait([f"{key}/{other}" for other in range(1, world)], _ARRIVAL)
            return value
        store.wait([key], _PATIENCE)
        first: T = pickle.loads(store.get(key))
        store.set(f"{key}/{rank}", "")
    except RuntimeError:  # of a store that is gone, or that nobody comes to
        who = "other processes of this job do not come" if rank == 0 else "first process of this job has ended"
        raise InputError(f"The {who}, so this one ends; the same command does what is left.") from None
    return first


def join_group(device: torch.device, size: int) -> None:
    """Make the group of the processes that torchrun or SLURM started together, `size` of them; others Lightning makes.

    Each job of a sweep needs one, with its own part of the store that is there for all of them: a process that is early
    would read where the others were in the job before.
    """
    together = _started_together()
    if together is None or together[1] != size or grouped():
        return
    import torch.distributed as dist

    store = dist.PrefixStore(f"group/{next(_groups)}", _store(*together)[0])  # type: ignore[attr-defined]
    backend, device_id = ("gloo", None) if device.type == "cpu" else ("nccl", device)  # as Lightning has it
    rank, world = together
    dist.init_process_group(backend, timeout=_ARRIVAL, world_size=world, rank=rank, store=store, device_id=device_id)


def patient_group() -> Any:
    """The same processes as a group whose exchanges wait for as long as the first one works alone; None for one process."""
    if not grouped():
        return None
    import torch.distributed as dist

    return dist.new_group(timeout=_PATIENCE, backend="gloo")


def leave_group() -> None:
    """Leave the group of processes, all at the same time; one that is early must not take its store from the others.

    Once in a job, at its end: a process that is early for a second group of Lightning's would join the first one as long as
    that is there.
    """
    if grouped():
        import torch.distributed as dist

        dist.barrier()
        dist.destroy_process_group()
    if not first_process():
        os.environ[PARENT] = ""


def grouped() -> bool:
    """Whether this process is in a group."""
    if "torch" not in sys.modules:
        return False
    import torch.distributed as dist

    return dist.is_available() and dist.is_initialized()
