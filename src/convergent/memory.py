"""How much memory there is: what the machine has free, less where a container or a limit of the process allows less."""

from __future__ import annotations

import math
import mmap
import platform
import resource
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from convergent.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

_UNLIMITED = 1 << 60  # control groups of the first version write a number of this size for none
_HUGE = 1 << 23  # bytes: less is hardly faster
_VERSION_1 = "memory.limit_in_bytes", "memory.usage_in_bytes"


def available_memory(root: Path = Path("/")) -> float:
    """Bytes that this process can still have without swapping or being killed; infinite where the system does not say."""
    return max(0.0, min((math.inf, *_free(root), *_of_groups(root), *_of_limits(root))))


def memory_of_process() -> float:
    """Bytes that each process of a job can still have where those of a machine share it; the same in all of them."""
    import torch.distributed as dist

    free = available_memory()
    if not (dist.is_available() and dist.is_initialized()):
        return free
    every: list[tuple[str, float]] = [("", free)] * dist.get_world_size()
    dist.all_gather_object(every, (platform.node(), free))
    beside = Counter(host for host, _ in every)
    return min(of_one / beside[host] for host, of_one in every)


def check_memory(needed: float, what: str, advice: str, free: float | None = None) -> None:
    """Refuse what does not fit, before it is begun: `what`, in the plural, needs so many bytes and so many are free.

    Raises:
        InputError: if more is needed than there is.
    """
    free = available_memory() if free is None else free
    if needed > free:
        raise InputError(f"{what} take {needed / 1e9:.1f} GB of memory, but {free / 1e9:.1f} GB are free; {advice}.")


def huge_zeros(*shape: int) -> Tensor:
    """Zeros in float64 in memory of huge pages where the system has such: it gives them five times as fast as small ones."""
    import torch

    size = math.prod(shape)
    if size * 8 < _HUGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.zeros(shape, dtype=torch.float64)
    try:
        pages = mmap.mmap(-1, size * 8, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        pages.madvise(mmap.MADV_HUGEPAGE)
    except OSError:  # no memory, which torch says in its own words, or a system without huge pages
        return torch.zeros(shape, dtype=torch.float64)
    return torch.frombuffer(pages, dtype=torch.float64).view(shape)


def _free(root: Path) -> Iterator[float]:
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            yield float(line.split()[1]) * 1024


def _of_groups(root: Path) -> Iterator[float]:
    """What the control groups of this process leave, of either version, the groups around its own among them.

    What a group's files keep in memory is given back where it is needed, so it counts as free.
    """
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / ("memory" if controllers else "")
        most, used = _VERSION_1 if controllers else ("memory.max", "memory.current")
        group = top / path.lstrip("/")
        for folder in (group, *group.parents):
            limit, taken = _number(folder / most), _number(folder / used)
            if limit is not None and taken is not None and limit < _UNLIMITED:
                yield limit - taken + _cache(folder)
            if folder == top:
                break


def _cache(folder: Path) -> float:
    """Bytes of files in memory that a control group can give back."""
    stat = dict(line.split(maxsplit=1) for line in _lines(folder / "memory.stat") if " " in line)
    return sum(float(stat.get(f"total_{kind}", stat.get(kind, 0))) for kind in ("inactive_file", "active_file"))


def _of_limits(root: Path) -> Iterator[float]:
    """What limits of the process leave: of its addresses (ulimit -v) and of its data (ulimit -d)."""
    status = dict(line.split(":", 1) for line in _lines(root / "proc/self/status") if ":" in line)
    for limit, name in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        most = resource.getrlimit(limit)[0]
        if most != resource.RLIM_INFINITY and name in status:
            yield most - float(status[name].split()[0]) * 1024


def _number(file: Path) -> float | None:
    lines = _lines(file)
    return float(lines[0]) if lines and lines[0].strip().isdigit() else None


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []
