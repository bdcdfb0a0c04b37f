"""Mutual nearest neighbours: whether the samples nearest to a sample are the same in both nets."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from convergent.core.pairs import Pair
from convergent.options import whole
from convergent.similarity.sampled import of_samples, sampled


@of_samples
def neighbours(pair: Pair, k: Annotated[int, whole(1)] = 10) -> float | None:
    """The mean share of a sample's k nearest samples in one net that are among its k nearest in the other.

    Between 0 and 1, k / (n - 1) by chance, which falls with the sample: compare values of equal samples only. Euclidean
    distances. Ignores rotations, permutations, a common scale of a net's units and every unit twice.

    Returns:
        None without samples, with k or fewer others, or where a net is constant.

    Source: Huh, Cheung, Wang, Isola 2024, "The platonic representation hypothesis" (mutual k-NN).
    """
    if (both := sampled(pair)) is None or len(both[0]) - 1 <= k:
        return None
    from sklearn.neighbors import NearestNeighbors

    near_nk, other_nk = (NearestNeighbors(n_neighbors=k).fit(x.numpy()).kneighbors(return_distance=False) for x in both)
    return float(np.mean([len(np.intersect1d(*rows)) for rows in zip(near_nk, other_nk)]) / k)
