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
from convergent.methods.solvers.spectra import Graph, connected_parts
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
        weight_uu = self.graph(corr_uu)
        parts, graph = connected_parts(weight_uu), None
        label_u, gap, finer = np.full(len(net_u), -1), 0.0, 1
        whole = rest = np.sort(np.concatenate(parts)) if parts else np.empty(0, np.intp)
        for number_of_round in range(self.rounds):
            if not len(rest):
                break
            of_rest = None if number is None else max(round(number * len(rest) / len(whole)), 1) * finer
            bounds = [min(bound * finer, len(rest)) for bound in self.bounds]
            clustering = replace(self.clustering, number=of_rest, bounds=(max(bounds[0], 1), max(bounds[1], 1)))
            if graph is None:
                graph, corr_rest = Graph(weight_uu[np.ix_(rest, rest)], self.laplacian), corr_uu[rest][:, rest]
            clusters = clustering.cut(graph)
            gap = gap if number_of_round else clusters.gap
            last = number_of_round == self.rounds - 1 or 2 * clusters.number >= len(rest)
            quality = Quality.of(corr_rest, net_u[rest], torch.from_numpy(clusters.label_u))
            good_c = np.ones(clusters.number, bool) if last else (quality.between_c >= self.good).numpy()
            accepted = (
                (clusters.label_u >= 0) & good_c[clusters.label_u] if clusters.number else np.zeros(len(rest), bool)
            )
            label_u[rest[accepted]] = label_u.max() + 1 + clusters.label_u[accepted]
            finer *= 1 if accepted.any() else 2
            left = ~accepted & (clusters.label_u >= 0)
            rest, graph = rest[left], graph if left.all() else None
        return Clusters(ordered(label_u), len(parts), int((label_u < 0).sum()), gap)
