"""Representational similarity analysis: how alike the distances between all pairs of samples are in two nets.

Distances are squared Euclidean, over all n (n - 1) / 2 pairs of samples, none of which is visited: with the samples'
energies sums over pairs are sums over samples.

Axes: `i` and `j` the two nets.
"""

from __future__ import annotations

import torch
from torch import Tensor

from convergent.core.pairs import Pair
from convergent.similarity.grams import Grams, normalised


def rsa_pearson(pair: Pair) -> float | None:
    """Pearson's correlation between the two nets' matrices of squared Euclidean distances between samples.

    Between -1 and 1. Ignores rotations, permutations, a common scale of a net's units and every unit twice.

    Returns:
        None with fewer than three samples, where a net has no distances that differ, or without energies of samples.

    Source: Kriegeskorte, Mur, Bandettini 2008, "Representational similarity analysis".
    """
    if (sums := _sums(pair)) is None:
        return None
    product_ij, sum_i, pairs = sums
    return normalised(product_ij - sum_i[:, None] * sum_i / pairs) if pairs > 1 else None


def rsa_cosine(pair: Pair) -> float | None:
    """The cosine between the same matrices, not centred: between 0 and 1, and far above 0 even by chance.

    Ignores what `rsa_pearson` ignores.

    Returns:
        None where all units of a net are constant, or without energies of samples.

    Source: Diedrichsen et al. 2020, "Comparing representational geometries using whitened unbiased-distance-matrix
        similarity".
    """
    sums = _sums(pair)
    return None if sums is None else normalised(sums[0])


def _sums(pair: Pair) -> tuple[Tensor, Tensor, float] | None:
    """Over pairs of samples: sums of products of distances, shape (2, 2), of distances, shape (2,), and how many there are.

    With centred samples d = q + q' - 2 x . x', so that sum d d~ = n sum q q~ + (sum q) (sum q~) + 2 |X' X~|^2.
    """
    if (grams := Grams.of(pair)) is None:
        return None
    n, trace_i = grams.count, grams.trace_i
    product_ij = n * grams.diagonal_ij + torch.outer(trace_i, trace_i) + 2 * grams.product_ij
    return product_ij, n * trace_i, n * (n - 1) / 2
