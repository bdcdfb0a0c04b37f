"""Measures from moments beside packages that take samples: CPU seconds, memory, difference; and two bars of their own.

ckatorch and rsatoolbox make Gram matrices and matrices of distances; ours have the moments beforehand, whose time is told
apart. Each way runs in a child process, whose peak memory beyond its start counts. One thread. Lines of JSON, the last one
with the targets:

    PEERS=FOLDER python tests/benchmarks/similarity.py     # pip install --target FOLDER ckatorch rsatoolbox ...
"""

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))  # before imports

import argparse
import json
import multiprocessing
import resource
import sys
import time

import torch

from streaming import machine  # isort: skip  (which finds the package)

from convergent.core.energies import Energies
from convergent.core.moments import Moments
from convergent.core.pairs import Pair
from convergent.similarity.cka import permutation_null
from convergent.similarity.every import MEASURES, similarities

UNITS = 128
SIZES = (2_000, 4_000)
PERMUTATIONS, PERMUTED = 5_000, 500


def samples(n, units=UNITS):
    generator = torch.Generator().manual_seed(0)
    shared = torch.randn(n, 16, generator=generator).double()
    mixed = (shared @ torch.randn(16, units, generator=generator).double() for _ in "ab")
    return [torch.relu(x + 4 * torch.randn(n, units, generator=generator)) for x in mixed]


def by_rsatoolbox(method):
    from rsatoolbox.data import Dataset
    from rsatoolbox.rdm import calc_rdm, compare

    def value(x_na, x_nb):
        one, other = (calc_rdm(Dataset((x - x.mean(0)).numpy()), method="euclidean") for x in (x_na, x_nb))
        return float(compare(one, other, method=method).item())

    return value


def by_ckatorch(unbiased):
    from ckatorch.core import cka_base, cka_batch

    return lambda *x: float(cka_batch(*(of[None] for of in x)) if unbiased else cka_base(*x))


def by_pot(x_na, x_nb):
    import ot

    z_na, z_nb = ((x - x.mean(0)) / x.std(0, correction=0) for x in (x_na, x_nb))
    corr_ab = (z_na.T @ z_nb / len(z_na)).numpy()
    weights = [[1 / units] * units for units in corr_ab.shape]
    return float((ot.emd(*weights, (1 - corr_ab).copy()) * corr_ab).sum())


PEERS = {  # measure: package, what makes its function
    "cka": ("ckatorch", lambda: by_ckatorch(unbiased=False)),
    "cka_debiased_samples": ("ckatorch", lambda: by_ckatorch(unbiased=True)),
    "rsa_pearson": ("rsatoolbox", lambda: by_rsatoolbox("corr")),
    "rsa_cosine": ("rsatoolbox", lambda: by_rsatoolbox("cosine")),
    "soft_matching": ("POT", lambda: by_pot),
}


def child(run, *arguments):
    """(Value, CPU seconds, MB of memory beyond the start) of a function in a process of its own."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()

    def measured():
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        value = run(*arguments)
        spent = time.process_time() - start
        theirs.send((value, spent, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3))

    process = context.Process(target=measured)
    process.start()
    theirs.close()
    result = ours.recv()
    process.join()
    return result


def one_by_one(n):
    x = samples(n)
    _, making, memory = child(lambda: Pair.of(*x).total.count.item())
    yield {"samples": n, "measure": "moments", "seconds": making, "mb": memory}
    for name, (package, make) in PEERS.items():
        pair, theirs = Pair.of(*x), make()
        pair.total.corr_uu  # noqa: B018  (what all measures share)
        value, spent, memory = child(MEASURES[name], pair)
        other, other_spent, other_memory = child(theirs, *x)
        yield {
            "samples": n, "measure": name, "seconds": spent, "mb": memory, "package": package,
            "their_seconds": other_spent, "their_mb": other_memory, "difference": abs(value - other),
        }  # fmt: skip


def after_a_pass(n=1_000_000, units=512):
    """RSA over a million samples, once their moments are there; these are made of fewer samples, many times."""
    of = Pair.of(*samples(4_000, units), blocks=1)
    times = n / 4_000
    moments = Moments(of.moments.count * times, of.moments.mean_u, of.moments.scatter_uu * times)
    energies = of.energies
    energies = Energies(
        energies.units, energies.centre_u, energies.mean_ki, energies.with_energies_kij * times,
        energies.with_units_kiu * times,
    )  # fmt: skip
    pair = Pair(moments, of.a, of.b, energies=energies)
    start = time.process_time()
    MEASURES["rsa_pearson"](pair)
    return {"rsa_samples": n, "units": 2 * units, "seconds": time.process_time() - start}


def permuted(n=500):
    """The null of CKA in closed form beside permutations of one net's samples, of which some are timed."""
    x_na, x_nb = samples(n, 40)
    pair = Pair.of(x_na, x_nb)
    start = time.process_time()
    null = permutation_null(pair)
    ours = time.process_time() - start
    gram_a, gram_b = ((x - x.mean(0)) @ (x - x.mean(0)).T for x in (x_na, x_nb))
    scale, values = float(gram_a.norm() * gram_b.norm()), []
    start = time.process_time()
    for _ in range(PERMUTED):
        order = torch.randperm(n)
        values.append(float((gram_a * gram_b[order][:, order]).sum()) / scale)
    theirs = (time.process_time() - start) * PERMUTATIONS / PERMUTED
    drawn = torch.tensor(values, dtype=torch.float64)
    return {
        "null": list(null), "drawn": [float(drawn.mean()), float(drawn.std())], "seconds": ours, "their_seconds": theirs,
        "errors": float(abs(drawn.mean() - null.mean) / drawn.std() * PERMUTED**0.5), "times_faster": theirs / ours,
    }  # fmt: skip


def all_of(units, n=8_000):
    """All measures that follow from moments but regression, of two nets."""
    pair = Pair.of(*samples(n, units))
    start = time.process_time()
    similarities(pair.weighted(torch.ones(pair.blocks)))  # of one block: nothing is held out
    return {"all_measures_units": units, "seconds": time.process_time() - start}


def main():
    """Measure, and judge by the targets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default=os.environ.get("PEERS", ""))
    sys.path.append(parser.parse_args().peers)
    torch.set_num_threads(1)
    print(json.dumps(machine() | {"units": UNITS}), flush=True)
    every = []
    for n in SIZES:
        for line in one_by_one(n):
            every.append(line)
            print(json.dumps(line), flush=True)
    million, null = after_a_pass(), permuted()
    for line in (million, null, *map(all_of, (128, 512, 1024))):
        print(json.dumps(line), flush=True)
    targets = {
        "equal": all(line.get("difference", 0) < 1e-10 for line in every),
        "a_million_samples_in_a_second": million["seconds"] <= 1,
        "null_within_3_errors": null["errors"] < 3,
        "null_1000_times_faster": null["times_faster"] >= 1000,
    }
    print(json.dumps({"targets": targets}))


if __name__ == "__main__":
    main()
