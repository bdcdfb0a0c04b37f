"""Rank correlation of the distances between samples in two nets."""

from __future__ import annotations

import numpy as np
import torch

from convergent.core.pairs import Pair
from convergent.similarity.sampled import distances, of_samples


@of_samples
def rsa_spearman(pair: Pair) -> float | None:
    """Spearman's correlation between the two nets' squared Euclidean distances between samples, ties at their mean rank.

    Between -1 and 1. Ignores rotations, permutations, a common scale of a net's units and every unit twice.

    Returns:
        None without samples, with fewer than three, or where a net has no distances that differ.

    Source: Kriegeskorte, Mur, Bandettini 2008, "Representational similarity analysis".
    """
    if (both := distances(pair)) is None or len(both[0]) < 3:
        return None
    from scipy.stats import rankdata

    i, j = torch.triu_indices(len(both[0]), len(both[0]), 1)
    ranks = [rankdata(distance_nn[i, j].numpy()) for distance_nn in both]
    return float(np.corrcoef(*ranks)[0, 1]) if all(np.ptp(rank) > 0 for rank in ranks) else None
