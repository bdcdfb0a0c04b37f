"""Correlations of two nets' activations: the pass's accumulator beside what one would use instead, on the same samples.

The pass and the streaming packages read batches (n images, c units, p positions) from a small pool, over and over; the
others are given what their users need to have, all samples in one float32 matrix, laid out as they like it best (the
seconds of filling it are told apart). One thread, process CPU time, ways interleaved, medians of some rounds; peak
memory beyond imports and pool, of each way in a process of its own. Lines of JSON, the last one with the targets:

    uv pip install --target /tmp/peers --no-deps welford-torch einops batchstats  # if wanted; else left out
    uv pip install --target /tmp/peers dask
    python tests/benchmarks/alternatives.py --peers /tmp/peers
"""

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))  # before imports

import argparse
import importlib
import json
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchmetrics import PearsonCorrCoef

from convergent.core.products import chosen
from streaming import Batch, machine, streamed

UNITS = 256  # of either net
IMAGES, POSITIONS = 64, 49  # of a batch, 3136 samples
POOL = 4  # batches that are read over and over
BLOCKS = 64  # of images, that a pass keeps unless asked otherwise
PAIRINGS = 4  # that torchmetrics is timed on, of the 256 shifts that pair each unit of one net with each of the other
PAIRED_ROWS = 512  # samples of an update of torchmetrics: by trial its fastest, they stay in cache


@dataclass(frozen=True)
class Way:
    """One way to correlations: `run` takes batches, or the stored matrix (u, s) if `stored`."""

    run: Callable
    stored: bool = False
    needs: str = ""  # a module, without which the way is left out


def ours(products: str, dtype: torch.dtype, blocks: int, batches: list[Batch]) -> np.ndarray:
    product = chosen(products, torch.device("cpu"), dtype)
    return streamed(batches, sum(len(batch[0]) for batch in batches), dtype, product, blocks).corr_uu.numpy()


def samples_of(batch: Batch) -> Tensor:
    """A batch as packages want it: (s, u)."""
    return torch.cat([x_ncp.transpose(1, 2).flatten(0, 1) for x_ncp in batch], 1)


def by_welford_torch(batches: list[Batch]) -> np.ndarray:
    covariance = importlib.import_module("welford_torch").OnlineCovariance()
    for batch in batches:
        covariance.add_all(samples_of(batch))
    return covariance.corrcoef.numpy()


def by_batchstats(batches: list[Batch]) -> np.ndarray:
    correlation = importlib.import_module("batchstats").BatchCorr()
    for batch in batches:
        correlation.update_batch(samples_of(batch).numpy(), assume_valid=True)
    return correlation()


def by_sklearn(x_us: Tensor) -> np.ndarray:
    from sklearn.covariance import EmpiricalCovariance

    cov_uu = EmpiricalCovariance(store_precision=False).fit(x_us.numpy().T).covariance_
    sd_u = np.sqrt(cov_uu.diagonal())
    return cov_uu / sd_u / sd_u[:, None]


def by_dask(x_us: Tensor) -> np.ndarray:
    array = importlib.import_module("dask.array")
    rows = array.from_array(x_us.numpy(), chunks=(len(x_us), 8192))
    return array.corrcoef(rows).compute(scheduler="synchronous")


WAYS = {
    "ours_float64": Way(partial(ours, "portable", torch.float64, 1)),
    "ours_float32_portable": Way(partial(ours, "portable", torch.float32, 1)),
    "ours_float32_auto": Way(partial(ours, "auto", torch.float32, 1)),
    f"ours_float64_{BLOCKS}_blocks": Way(partial(ours, "portable", torch.float64, BLOCKS)),
    f"ours_float32_auto_{BLOCKS}_blocks": Way(partial(ours, "auto", torch.float32, BLOCKS)),
    "numpy.corrcoef": Way(lambda x_us: np.corrcoef(x_us.numpy()), stored=True),
    "numpy.corrcoef_float32": Way(lambda x_us: np.corrcoef(x_us.numpy(), dtype=np.float32), stored=True),
    "torch.corrcoef": Way(lambda x_us: torch.corrcoef(x_us).numpy(), stored=True),
    "sklearn_EmpiricalCovariance": Way(by_sklearn, stored=True, needs="sklearn.covariance"),
    "dask.array.corrcoef": Way(by_dask, stored=True, needs="dask.array"),
    "welford_torch": Way(by_welford_torch, needs="welford_torch"),
    "batchstats": Way(by_batchstats, needs="batchstats"),
}


def pool(units: int) -> list[Batch]:
    """Seeded batches: rectified activations with a latent in common; made in place, which leaves no memory behind."""
    generator = torch.Generator().manual_seed(0)

    def activations(latent_n1p: Tensor) -> Tensor:
        x_ncp = torch.empty(IMAGES, units, POSITIONS).normal_(generator=generator)
        return x_ncp.add_(latent_n1p).clamp_(min=0)

    latents = [torch.empty(IMAGES, 1, POSITIONS).normal_(generator=generator) for _ in range(POOL)]
    return [(activations(latent_n1p), activations(latent_n1p)) for latent_n1p in latents]


def stream(batches: list[Batch], samples: int) -> list[Batch]:
    """At least so many samples, of batches over and over; the list holds references only."""
    return list(islice(cycle(batches), -(-samples // (IMAGES * POSITIONS))))


def store(batches: list[Batch]) -> Tensor:
    """All samples in one matrix (u, s), allocated once and filled batch by batch."""
    p, q = (x_ncp.shape[1] for x_ncp in batches[0])
    x_us = torch.empty(p + q, len(batches) * IMAGES * POSITIONS)
    for batch, into_us in zip(batches, x_us.split(IMAGES * POSITIONS, 1)):
        for x_ncp, into_cs in zip(batch, into_us.split([p, q])):
            into_cs.unflatten(1, (IMAGES, POSITIONS)).copy_(x_ncp.transpose(0, 1))
    return x_us


def paired(x_sa: Tensor, twice_sb: Tensor, pairings: range) -> Tensor:
    """Correlations by torchmetrics of units a and a + pairing, (pairings, a); one update has as many pairs as units.

    Net b's units come twice, so that a shifted pairing is a slice and nothing is copied.
    """
    values = []
    for shift in pairings:
        metric = PearsonCorrCoef(num_outputs=x_sa.shape[1])
        for x_na, x_nb in zip(x_sa.split(PAIRED_ROWS), twice_sb[:, shift : shift + x_sa.shape[1]].split(PAIRED_ROWS)):
            metric.update(x_na, x_nb)
        values.append(metric.compute())
    return torch.stack(values)


def exact(x_us: Tensor) -> np.ndarray:
    """Correlations in float64 and two passes, in strips so that not all is there in float64."""
    mean_u = x_us.mean(1, dtype=torch.float64)
    scatter_uu = torch.zeros(len(x_us), len(x_us), dtype=torch.float64)
    for part_us in x_us.split(16384, 1):
        part_us = part_us.double() - mean_u[:, None]
        scatter_uu.addmm_(part_us, part_us.T)
    sd_u = scatter_uu.diagonal().sqrt()
    return (scatter_uu / sd_u / sd_u[:, None]).numpy()


def seconds(run: Callable) -> tuple[tuple[float, float], object]:
    """CPU seconds of this process, (all, the system's part of them), and what came out."""
    start = resource.getrusage(resource.RUSAGE_SELF)
    result = run()
    stop = resource.getrusage(resource.RUSAGE_SELF)
    system = stop.ru_stime - start.ru_stime
    return (stop.ru_utime - start.ru_utime + system, system), result


def timed(ways: dict[str, Way], samples: int, rounds: int) -> dict[str, dict]:
    """Seconds of every way, interleaved, and how far its correlations are from float64."""
    batches = stream(pool(UNITS), samples)
    x_us = store(batches)
    expected_uu = exact(x_us)
    x_sa, x_sb = (part_us.T for part_us in x_us.split(UNITS))
    x_sa, twice_sb = x_sa.contiguous(), torch.cat([x_sb, x_sb], 1).contiguous()
    unit_a = np.arange(UNITS)
    pairings = range(0, UNITS, UNITS // PAIRINGS)
    expected_ka = np.stack([expected_uu[unit_a, UNITS + (unit_a + shift) % UNITS] for shift in pairings])
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in ["storing", *ways, "torchmetrics"]}
    error = {}
    # glibc keeps memory of up to the largest size that was once freed, 32 MB at most, instead of asking the system for
    # it again, page by page, at half of the time of some ways here. A process that has run a net is in that state.
    freed = torch.empty(2**23 - 2**12)
    del freed
    for _ in range(rounds):
        for name, way in ways.items():
            taken, corr_uu = seconds(partial(way.run, x_us if way.stored else batches))
            spent[name].append(taken)
            error[name] = float(np.abs(corr_uu - expected_uu).max())
        taken, corr_ka = seconds(partial(paired, x_sa, twice_sb, pairings))
        spent["torchmetrics"].append(tuple(part * UNITS / len(pairings) for part in taken))
        error["torchmetrics"] = float(np.abs(corr_ka.numpy() - expected_ka).max())
        spent["storing"].append(seconds(partial(store, batches))[0])
    lines = {}
    for name, taken in spent.items():
        whole, system = zip(*taken)
        lines[name] = {"way": name, "cpu_s": statistics.median(whole), "of_it_system_s": statistics.median(system)}
        lines[name] |= {"rounds_s": [round(s, 3) for s in whole], "max_error": error.get(name)}
    lines["torchmetrics"]["extrapolated"] = (
        f"from {len(pairings)} of {UNITS} shifted pairings, all samples; between the nets only, all else is also within"
    )
    return lines


def resident(field: str) -> int:
    """Bytes of this process's memory: VmRSS now, VmHWM at most."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith(field))


def peak(name: str, samples: int) -> int:
    """Bytes that a way takes at most, beyond imports and pool; in a process that did nothing else.

    Linux's own high-water mark, for `ru_maxrss` starts from that of the process which started this one.
    """
    way = WAYS[name]
    few = stream(pool(4), BLOCKS * POSITIONS)  # an image for every block
    way.run(store(few) if way.stored else few)  # loads what is loaded late
    batches = stream(pool(UNITS), samples)
    if (clear := Path("/proc/self/clear_refs")).exists():
        clear.write_text("5")  # the high-water mark starts anew
    before = resident("VmRSS")
    way.run(store(batches) if way.stored else batches)
    return resident("VmHWM") - before


def peaks(name: str, samples: int, peers: str) -> float:
    """MB of `peak` in a process of its own."""
    command = [sys.executable, __file__, "--peers", peers, "--samples", str(samples), "--peak", name]
    exact = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed is gone: the peak is of what is in use
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=exact)
    return int(done.stdout) / 1e6


def importable(needs: str) -> bool:
    """Whether the module is there; it is loaded with that, before anything is measured."""
    try:
        importlib.import_module(needs or "numpy")
    except ImportError as error:
        print(f"{needs} is left out: {error}", file=sys.stderr)
        return False
    return True


def main() -> None:
    """Measure, and judge by the targets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=200_000, help="rounded up to whole batches")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", default="", help="folder with packages that are not in the environment")
    parser.add_argument("--peak", choices=WAYS, help="only tell this way's peak memory, in bytes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.peers:
        sys.path.append(options.peers)  # last: what is in the environment goes first
    if options.peak:
        assert importable(WAYS[options.peak].needs)
        print(peak(options.peak, options.samples))
        return
    ways = {name: way for name, way in WAYS.items() if importable(way.needs)}
    about = {"numpy": np.__version__, "samples": options.samples, "units": 2 * UNITS}
    print(json.dumps(machine() | about), flush=True)
    memory = {name: peaks(name, options.samples, options.peers) for name in ways}
    flat = {
        name: {samples: peaks(name, samples, options.peers) for samples in (50_000, 200_000, 800_000)}
        for name in ways
        if name.startswith("ours")
    }
    lines = timed(ways, options.samples, options.rounds)
    least = {dtype: lines[f"ours_{dtype}"]["cpu_s"] for dtype in ("float64", "float32_auto")}
    for name, line in lines.items():
        storing = lines["storing"]["cpu_s"] if name in ways and ways[name].stored else 0.0
        line |= {f"over_ours_{dtype}": line["cpu_s"] / s for dtype, s in least.items()}
        line |= {f"with_storing_over_ours_{dtype}": (line["cpu_s"] + storing) / s for dtype, s in least.items()}
        print(json.dumps(line | {"peak_mb": memory.get(name)}), flush=True)
    print(json.dumps({"peak_mb_by_samples": flat}))
    targets = {}
    for dtype in least:
        mb = flat[f"ours_{dtype}"]
        targets[dtype] = {
            "numpy_5_times_slower": lines["numpy.corrcoef"][f"over_ours_{dtype}"] >= 5,
            "tenth_of_numpys_memory": 10 * memory[f"ours_{dtype}"] <= memory["numpy.corrcoef"],
            "flat_50k_to_800k": mb[800_000] <= 1.05 * mb[50_000],
            "torchmetrics_200_times_slower": lines["torchmetrics"][f"over_ours_{dtype}"] >= 200,
        }
    print(json.dumps({"targets": targets}))


if __name__ == "__main__":
    main()
