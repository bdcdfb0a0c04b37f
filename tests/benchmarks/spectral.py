"""Spectral clustering of two nets' units beside scikit-learn's SpectralClustering, in time and under another order of nodes.

All get the same graph, correlations of rectified units above the threshold, and are asked for a number of clusters that is
not the number of groups in it, as is usual. Stability is the adjusted Rand index between the clusters of the graph as it
comes and of the graph with its nodes in other orders (with k-means also with other seeds); 1 is the same. One thread,
process CPU time, ways interleaved, medians of some rounds. Lines of JSON, the last one with the targets:

    python tests/benchmarks/spectral.py
"""

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))  # before imports

import argparse
import json
import statistics
import time
import warnings

import numpy as np
import sklearn
import torch
from sklearn.cluster import SpectralClustering
from sklearn.metrics import adjusted_rand_score

from convergent.methods.solvers.clustering import Clustering
from streaming import machine

CLUSTERS, GROUPS, THRESHOLD = 40, 25, 0.1
TARGETS_S = {384: 0.5, 2048: 3.0}  # of one core, for our default, by units of either net


def graph(units):
    """The graph of two nets of so many units."""
    random = np.random.default_rng(0)
    latent_ng = random.standard_normal((4000, GROUPS))
    weight_gu = random.standard_normal((GROUPS, 2 * units)) * (random.random((GROUPS, 2 * units)) < 0.12)
    corr_uu = np.corrcoef(np.maximum(latent_ng @ weight_gu + random.standard_normal((4000, 2 * units)), 0).T)
    np.fill_diagonal(corr_uu, 0)
    return np.where(corr_uu >= THRESHOLD, corr_uu, 0)


def sklearns(assign):
    def labels(weight_uu, seed):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of parts that nothing joins, which it clusters all the same
            clustering = SpectralClustering(CLUSTERS, affinity="precomputed", assign_labels=assign, random_state=seed)
            return clustering.fit(weight_uu).labels_

    return labels


def ours(number, **options):
    return lambda weight_uu, seed: Clustering(number, seed=seed, **options)(weight_uu).label_u


WAYS = {
    "ours": ours(CLUSTERS),
    "ours, number by eigengap": ours(None),
    "ours, unnormalised": ours(CLUSTERS, laplacian="unnormalised"),
    "ours, k-means": ours(CLUSTERS, assign="kmeans"),
    "scikit-learn, cluster_qr": sklearns("cluster_qr"),
    "scikit-learn, k-means": sklearns("kmeans"),
}


def seconds(way, *given):
    """CPU seconds of this process, and the clusters."""
    start = time.process_time()
    result = way(*given)
    return time.process_time() - start, result


def main():
    """Measure, and judge by the targets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, nargs="+", default=[128, 384, 2048], help="of either net")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    about = {"sklearn": sklearn.__version__, "clusters": CLUSTERS, "threshold": THRESHOLD}
    print(json.dumps(machine() | about), flush=True)
    targets = {}
    for units in options.units:
        weight_uu = graph(units)
        spent, first, stable = ({name: [] for name in WAYS} for _ in range(3))
        for turn in range(options.rounds):
            order = np.random.default_rng(turn).permutation(2 * units) if turn else np.arange(2 * units)
            for name, way in WAYS.items():
                taken, label_u = seconds(way, weight_uu[np.ix_(order, order)], turn)
                spent[name].append(taken)
                back_u = np.empty_like(label_u)
                back_u[order] = label_u
                if turn:
                    stable[name].append(adjusted_rand_score(first[name], back_u))
                else:
                    first[name] = back_u
        for name in WAYS:
            rounds = [round(taken, 3) for taken in spent[name]]
            line = {"units": units, "way": name, "cpu_s": statistics.median(spent[name]), "rounds_s": rounds}
            print(json.dumps(line | {"rand": min(stable[name], default=1.0)}), flush=True)
        if units in TARGETS_S:
            targets[units] = (
                statistics.median(spent["ours"]) <= TARGETS_S[units] and min(stable["ours"], default=1) == 1
            )
    print(json.dumps({"targets": targets}))


if __name__ == "__main__":
    main()
