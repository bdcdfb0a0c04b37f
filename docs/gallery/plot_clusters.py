"""
Clusters of both nets' units
============================

Four groups of units, of unequal sizes in the two nets. Spectral clustering of the graph of correlations recovers them,
although no unit need have a partner of its own.
"""

from dataclasses import replace

import torch

import convergent as cv
from convergent.figures.clusters import clusters

generator = torch.Generator().manual_seed(0)
sizes = {"a": (4, 9, 12, 7), "b": (8, 5, 10, 9)}
latent_ng = torch.randn(1500, 4, generator=generator)
x = []
for counts in sizes.values():
    group_u = torch.arange(4).repeat_interleave(torch.tensor(counts))
    group_u = group_u[torch.randperm(len(group_u), generator=generator)]
    x.append(latent_ng[:, group_u] + torch.randn(1500, len(group_u), generator=generator))

pair = replace(cv.Pair.of(*x), layer="a layer")
figure = clusters(cv.SpectralClustering()(pair))
