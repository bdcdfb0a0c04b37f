"""How much memory there is, in containers and under limits of the process."""

import os
import subprocess
import sys

import pytest
import torch

from conftest import PROJECT
from convergent import memory
from convergent.core import blocks
from convergent.core.pairs import Pair
from convergent.errors import InputError
from convergent.memory import available_memory, check_memory

MEBI = 2**20


def system(tmp_path, cgroup, free=64, **files):
    """A file system that tells of memory: of the machine so many gibibytes, of control groups what the files say."""
    for name, text in {
        "proc/meminfo": f"MemTotal: 1 kB\nMemAvailable: {free * MEBI} kB\n",
        "proc/self/cgroup": cgroup,
    }.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    for name, text in files.items():
        file = tmp_path / "sys/fs/cgroup" / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path


CASES = {
    "no group": ("", {}, 64 * 1024),
    "version 2, unlimited": ("0::/job\n", {"job__memory.max": "max", "job__memory.current": "5"}, 64 * 1024),
    "version 2": (
        "0::/job\n",
        {"job__memory.max": f"{1536 * MEBI}", "job__memory.current": f"{600 * MEBI}"},
        936,
    ),
    "what files keep in memory is free": (
        "0::/job\n",
        {
            "job__memory.max": f"{1536 * MEBI}",
            "job__memory.current": f"{600 * MEBI}",
            "job__memory.stat": f"anon {400 * MEBI}\ninactive_file {150 * MEBI}\nactive_file {50 * MEBI}\n",
        },
        1136,
    ),
    "a group around it": (
        "0::/all/job\n",
        {
            "all__job__memory.max": "max",
            "all__job__memory.current": "5",
            "all__memory.max": f"{1000 * MEBI}",
            "all__memory.current": f"{100 * MEBI}",
        },
        900,
    ),
    "a container sees its own group as the root": (
        "0::/\n",
        {"memory.max": f"{1000 * MEBI}", "memory.current": f"{300 * MEBI}"},
        700,
    ),
    "version 1": (
        "9:name=systemd:/\n4:cpu,memory:/job\n0::/\n",
        {
            "memory__job__memory.limit_in_bytes": f"{1000 * MEBI}",
            "memory__job__memory.usage_in_bytes": f"{400 * MEBI}",
            "memory__job__memory.stat": f"cache 5\ntotal_inactive_file {100 * MEBI}\n",
        },
        700,
    ),
    "version 1, whose group's folder the container does not see": (
        "4:memory:/docker/123\n",
        {"memory__memory.limit_in_bytes": f"{1000 * MEBI}", "memory__memory.usage_in_bytes": f"{400 * MEBI}"},
        600,
    ),
    "version 1, unlimited": (
        "4:memory:/\n",
        {"memory__memory.limit_in_bytes": "9223372036854771712", "memory__memory.usage_in_bytes": "5"},
        64 * 1024,
    ),
    "more taken than allowed": ("0::/job\n", {"job__memory.max": "5", "job__memory.current": "6"}, 0),
}


@pytest.mark.parametrize(("cgroup", "files", "mebibytes"), CASES.values(), ids=CASES)
def test_a_container_allows_less_than_the_machine_has(tmp_path, cgroup, files, mebibytes):
    assert available_memory(system(tmp_path, cgroup, **files)) == mebibytes * MEBI


def test_a_system_that_tells_nothing_has_no_limit(tmp_path):
    assert available_memory(tmp_path) == float("inf")


@pytest.mark.parametrize("limit", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_limits_of_the_process_count(limit):
    code = f"""
import resource
from convergent.memory import available_memory
before = available_memory()
resource.setrlimit(resource.{limit}, (2**34, 2**34))
assert available_memory() < min(before + 1, 2**34)
print("less")
"""
    path = {"PYTHONPATH": str(PROJECT / "src")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | path)
    assert done.stdout == "less\n", done.stderr


def test_what_does_not_fit_is_reported_before_it_is_begun(monkeypatch):
    with pytest.raises(InputError, match=r"^The sums take 3.0 GB of memory, but 2.0 GB are free; take less\.$"):
        check_memory(3e9, "The sums", "take less", free=2e9)
    monkeypatch.setattr(memory, "available_memory", lambda: 1e6)
    with pytest.raises(InputError, match=r"moments of 200 units in 20 blocks take .* GB .*blocks=5"):
        Pair.of(torch.randn(100, 100), torch.randn(100, 100))
    assert blocks.check_memory is check_memory
