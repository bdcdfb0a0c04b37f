"""Mutual information of all pairs of two nets' units: one pass of counting beside scikit-learn pair by pair.

Both get the same float32 samples in one matrix and the same edges; scikit-learn's labels, which it needs, are made for it
outside of its time, ours includes all from samples to nats (the edges, which both need, are told apart). scikit-learn is
timed on some pairs drawn at random, and extrapolated. One thread, process CPU time, ways interleaved, medians of some
rounds. Lines of JSON, the last one with the targets:

    python tests/benchmarks/mutual_information.py
"""

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))  # before imports

import argparse
import json
import statistics
import time
from functools import partial

import sklearn
import torch
from sklearn.metrics import mutual_info_score

from convergent.core.coincidences import chosen
from convergent.core.histogram_counter import HistogramCounter
from convergent.core.histogram_edges import edges_of
from convergent.core.mutual_information import mutual_information
from streaming import machine

UNITS = 256  # of either net
SAMPLES = 32_768
PAIRS = 30  # that scikit-learn is timed on
FASTER, ERROR = 100, 1e-12  # the targets


def samples():
    """Seeded samples (u, s) of two nets: rectified, with a latent in common."""
    generator = torch.Generator().manual_seed(0)
    x_us = torch.randn(2 * UNITS, SAMPLES, generator=generator) + torch.randn(1, SAMPLES, generator=generator)
    return x_us.clamp(min=0)


def counted(x_us, edges_ue, counts):
    counter = HistogramCounter({"one": UNITS, "two": UNITS}, edges_ue, counts=counts)
    counter.add(x_us)
    return counter.histograms().pair("one", "two")


def by_sklearn(code_us, pairs):
    return torch.tensor([mutual_info_score(code_us[a], code_us[UNITS + b]) for a, b in pairs], dtype=torch.float64)


def seconds(run):
    """CPU seconds of this process, and what came out."""
    start = time.process_time()
    result = run()
    return time.process_time() - start, result


def main():
    """Measure, and judge by the targets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bins", type=int, nargs="+", default=[2, 4, 8, 10])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--counts", default="auto", help="backend of the products: auto, int8 or packed")
    options = parser.parse_args()
    torch.set_num_threads(1)
    about = {"sklearn": sklearn.__version__, "counts": chosen(options.counts, torch.device("cpu")).__name__}
    print(json.dumps(machine() | about | {"units": [UNITS, UNITS], "samples": SAMPLES, "pairs": UNITS**2}), flush=True)
    x_us = samples()
    drawn_k2 = torch.randint(UNITS, (PAIRS, 2), generator=torch.Generator().manual_seed(1)).tolist()
    targets = {}
    for bins in options.bins:
        edging, edges_ue = seconds(partial(edges_of, x_us, bins))
        code_us = torch.searchsorted(edges_ue, x_us).numpy()
        spent = {"counting": [], "mutual_information": [], "sklearn_extrapolated": []}
        for _ in range(options.rounds):
            taken, counts_abij = seconds(partial(counted, x_us, edges_ue, options.counts))
            spent["counting"].append(taken)
            taken, found_ab = seconds(partial(mutual_information, counts_abij))
            spent["mutual_information"].append(taken)
            taken, expected_k = seconds(partial(by_sklearn, code_us, drawn_k2))
            spent["sklearn_extrapolated"].append(taken * UNITS**2 / PAIRS)
        median = {name: statistics.median(taken) for name, taken in spent.items()}
        ours = median["counting"] + median["mutual_information"]
        error = max(abs(found_ab[a, b].item() - expected_k[k].item()) for k, (a, b) in enumerate(drawn_k2))
        faster = median["sklearn_extrapolated"] / ours
        line = {"bins": bins, "cpu_s": median, "edges_s": edging, "ours_s": ours, "sklearn_over_ours": faster}
        rounds = {name: [round(s, 3) for s in taken] for name, taken in spent.items()}
        print(json.dumps(line | {"max_error": error, "rounds_s": rounds}), flush=True)
        targets[bins] = {f"{FASTER}_times_faster": faster >= FASTER, "equal": error < ERROR}
    print(json.dumps({"targets": targets}))


if __name__ == "__main__":
    main()
