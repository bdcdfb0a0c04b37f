"""Sums of products of codes that are nearly all zero: the pass's sparse products beside dense ones, and what matches them.

Codes of two nets with so many features of which so many are active in a sample, in batches of 512, as a net gives them:
dense, float32. `even`: every feature as often as any other, so that nearly every pair of features meets once at most, the
worst case for sums that are sparse; `uneven`: frequencies fall as a power law, as those of trained autoencoders do. Half of
net b's features follow one of net a's. Sparse: all that the pass does, from the batch to the finished record, in float64.
Dense: the matrix products between the nets alone, by the pass's own float64 and fastest float32 products, added to float64
sums, of a strip of net a's features, extrapolated to all; neither buffers nor products within nets.

One thread, process CPU time, medians of interleaved rounds. Lines of JSON, the last one with the targets:

    python tests/benchmarks/sparse_codes.py
"""

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))  # before imports

import argparse
import json
import time
from statistics import median

import torch
from scipy.optimize import linear_sum_assignment

from convergent.core.alignment import align
from convergent.core.packing import Packing
from convergent.core.partner_alignment import corr_of
from convergent.core.products import chosen, portable
from convergent.methods.matching import Matching
from convergent.methods.semimatching import SemiMatching
from convergent.streaming.activity import Activity
from convergent.streaming.sparse_accumulate import SparseAccumulator
from streaming import machine

BATCH, STRIP = 512, 512  # samples; features of net a that are multiplied densely
CASES = (  # features, active, samples, kind
    (16_384, 64, 16_384, "even"),
    (16_384, 64, 16_384, "uneven"),
    (4_096, 32, 32_768, "uneven"),
    (1_024, 16, 32_768, "uneven"),
    (1_024, 32, 32_768, "uneven"),
)
FASTER, ERROR = 50, 1e-12  # at 16,384 features; of a correlation


def codes(features, active, samples, kind):
    """Batches of both nets' codes: the active features and their values, (n, active) each."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.ones(features) if kind == "even" else torch.arange(1, features + 1).float().reciprocal()
    weight = weight.log()[torch.randperm(features, generator=generator)]
    order = torch.randperm(features, generator=generator)
    for _ in range(samples // BATCH):
        noise = torch.rand(BATCH, features, generator=generator)
        first = (weight - noise.log().neg().log()).topk(active).indices  # drawn without replacement, by weight
        other = torch.randint(features, first.shape, generator=generator)
        of_nets = first, torch.where(first % 2 == 0, order[first], other)
        yield [(unit, 0.2 + torch.rand(unit.shape, generator=generator)) for unit in of_nets]


def given(both, features):
    """A batch as nets give it, (n, features) each, float32."""
    return [torch.zeros(BATCH, features).scatter_(1, unit, value) for unit, value in both]


def by_sparse(features, samples, batches):
    """Seconds and the record of the pass's own way."""
    widths, packing = {"a": features, "b": features}, Packing.of([features, features], within=False)
    sums = SparseAccumulator("sae", widths, 1, 1, packing, Activity(features, 0.0, 0.0, 0.0), sparse=True)
    seconds = 0.0
    for both in batches:
        x_of = given(both, features)
        start = time.process_time()
        sums.begin([0] * BATCH)
        for net, x_nc in zip("ab", x_of):
            sums.write(net, x_nc[:, :, None])
        sums.end()
        seconds += time.process_time() - start
    start = time.process_time()
    sums.close()
    record = sums.moments(samples)
    return seconds + time.process_time() - start, record


def by_dense(features, batches, dtype, product):
    """Seconds, extrapolated to all features of net a, and the sums of a strip of these."""
    strip, some = min(STRIP, features), 8
    sums = torch.zeros(strip, features, dtype=torch.float64)
    seconds = 0.0
    for first in range(0, len(batches), some):  # 4,096 samples a product, as in the pass
        x_of = [given(both, features) for both in batches[first : first + some]]
        a_is, b_js = (torch.cat([both[net] for both in x_of]).T for net in (0, 1))
        a_is, b_js = a_is[:strip].to(dtype).contiguous(), b_js.to(dtype).contiguous()
        start = time.process_time()
        sums += product(a_is, b_js)
        seconds += time.process_time() - start
    return seconds * features / strip, sums


def measured(features, active, samples, kind, rounds):
    """A case's line: seconds of both ways, ratios, the largest difference, and the methods on the sparse record."""
    batches = list(codes(features, active, samples, kind))
    few = batches[:8]  # 4,096 samples for the dense way, which takes as long for any others
    ways = {"float32": chosen("auto", torch.device("cpu"), torch.float32), "float64": portable}
    times = {"sparse": [], "float32": [], "float64": []}
    for _ in range(rounds):
        seconds, record = by_sparse(features, samples, batches)
        times["sparse"].append(seconds)
        for name, product in ways.items():
            seconds, sums = by_dense(features, few, getattr(torch, name), product)
            times[name].append(seconds * samples / (len(few) * BATCH))
    of_few = by_sparse(features, len(few) * BATCH, few)[1].products[0, 1][0].toarray()[: len(sums)]
    squares = [[x.double().square().sum(0) for x in given(both, features)] for both in few]
    scale_a, scale_b = (sum(of).sqrt() for of in zip(*squares))
    scale = (scale_a[: len(sums), None] * scale_b).clamp(min=1e-30)
    error = float(((torch.from_numpy(of_few) - sums).abs() / scale).max())
    line = {name: median(every) for name, every in times.items()}
    pair = record.pair("a", "b")
    for name, method in (("semimatching", SemiMatching()), ("matching", Matching())):
        start = time.process_time()
        alignment = align(method, pair)
        line |= {f"{name}_s": time.process_time() - start, f"{name}_r": alignment.r_b.mean().item()}
    line |= {"gap": alignment.solver["gap"]}
    if features <= 4_096:
        corr = pair.corr_ab[pair.active_a][:, pair.active_b].numpy()
        start = time.process_time()
        best = linear_sum_assignment(corr, maximize=True)
        line["scipy_s"] = time.process_time() - start
        line["from_scipys"] = float(corr[best].sum() - alignment.r_b.sum())
    b = (alignment.partner_b >= 0).nonzero()[:, 0]
    assert torch.allclose(corr_of(pair, alignment.partner_b[b], b), alignment.r_b[b])
    return {
        "features": features, "active": active, "samples": samples, "kind": kind,
        "entries": record.products[0, 1][0].nnz / features**2, "error": error,
        "over_float32": line["float32"] / line["sparse"], "over_float64": line["float64"] / line["sparse"], **line,
    }  # fmt: skip


def main():
    """Measure, and judge by the targets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cases", type=int, nargs="+", default=list(range(len(CASES))))
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(json.dumps(machine()), flush=True)
    targets = {}
    for case in options.cases:
        line = measured(*CASES[case], options.rounds)
        print(json.dumps(line), flush=True)
        name = f"{line['features']} {line['kind']}"
        targets[f"{name}: {ERROR:g}"] = line["error"] <= ERROR
        if line["features"] == CASES[0][0]:
            targets[f"{name}: {FASTER} times faster"] = line["over_float64"] >= FASTER  # the same digits
    print(json.dumps({"targets": targets}))


if __name__ == "__main__":
    main()
