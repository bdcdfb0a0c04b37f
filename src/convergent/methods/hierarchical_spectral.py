"""Hierarchical spectral clustering: good clusters are accepted, the rest is re-clustered.

Axes: `u` and `v` units of all nets side by side.
"""

from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from convergent.core.cluster_quality import Quality
from convergent.methods.solvers.clustering import Clusters, ordered
from convergent.methods.solvers.spectra import Graph
from convergent.methods.spectral import SpectralClustering
from convergent.options import number, whole


@dataclass(frozen=True)
class HierarchicalSpectralClustering(SpectralClustering):
    """Spectral clustering, round after round, of the units that are not yet in a good cluster.

    A cluster is good if its units correlate `good` or more with those of the other nets in it, on average; it is accepted,
    and what is left is re-clustered, a given number of clusters shrinking with it. After a round without a good cluster all
    further ones cut twice as finely. It ends when all are assigned, when clusters have two units or fewer on average, or
    after `rounds`: the clusters of the last round are accepted as they are. Units whose every neighbour was accepted
    before are unassigned.

    Attributes:
        good: mean correlation between nets that a cluster needs in order to be accepted before the last round.
        rounds: how many there may be.

    Source: Li et al. 2016, supplement S.3.
    """

    good: Annotated[float, number(-1, 1, why=", as correlations are")] = 0.3
    rounds: Annotated[int, whole(1)] = 10

    def cut(self, corr_uu: Tensor, net_u: Tensor, number: int | None) -> Clusters:
        """The clusters of units with these correlations, see `SpectralClustering.cluster`."""
        weight_uu, label_u, finer = self.graph(corr_uu), np.full(len(net_u), -1), 1
        rest = np.flatnonzero(weight_uu.any(1))
        whole, first, graph = len(rest), None, None
        for number_of_round in range(self.rounds):
            if not len(rest):
                break
            of_rest = None if number is None else max(round(number * len(rest) / whole), 1) * finer
            bounds = [min(bound * finer, len(rest)) for bound in self.bounds]
            graph = graph or Graph(weight_uu, self.laplacian, rest)
            clusters = replace(self.clustering, number=of_rest, bounds=bounds).cut(graph)
            first = first or clusters
            last = number_of_round == self.rounds - 1 or 2 * clusters.number >= len(rest)
            between_c = Quality.of(corr_uu, net_u, torch.from_numpy(clusters.label_u)).between_c
            accepted_u = np.append((between_c >= self.good).numpy() | last, False)[clusters.label_u]
            label_u[accepted_u] = label_u.max() + 1 + clusters.label_u[accepted_u]
            rest = np.flatnonzero((clusters.label_u >= 0) & ~accepted_u)
            graph, finer = (None, finer) if accepted_u.any() else (graph, 2 * finer)
        parts, gap = (first.parts, first.gap) if first else (0, 0.0)
        return Clusters(ordered(label_u), parts, int((label_u < 0).sum()), gap)
