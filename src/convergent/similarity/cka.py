"""Linear CKA: how alike the similarities between samples are that two nets' units give.

Axes: `a` units of net a, `b` units of net b, `i` and `j` the two nets.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import torch

from convergent.core.pairs import Pair
from convergent.similarity.grams import Grams, normalised
from convergent.similarity.shared import block_products, cov, squares


def cka(pair: Pair) -> float:
    """|cov_ab|^2 / (|cov_aa| |cov_bb|) in Frobenius' norm: linear centred kernel alignment, the biased estimate.

    Between 0 and 1; it does not change under rotations of either net's space or a common scale of its units, but under the
    scale of single units, which here, unlike in correlations, counts. With few samples beside units it is too high.

    Returns:
        0 where all units of a net are constant.

    Source: Kornblith, Norouzi, Lee, Hinton 2019, "Similarity of neural network representations revisited", equation 3 with
        linear kernels.

    >>> import torch
    >>> x_n2 = torch.randn(100, 2)
    >>> round(cka(Pair.of(x_n2, 3 * x_n2.flip(1))), 6)
    1.0
    """
    aa, ab, bb = (squares(pair, *nets) for nets in ((pair.a, pair.a), (pair.a, pair.b), (pair.b, pair.b)))
    return ab / (aa**0.5 * bb**0.5) if aa > 0 and bb > 0 else 0.0


def cka_debiased(pair: Pair) -> float | None:
    """Linear CKA without the bias of few images, whatever the samples of an image have to do with each other.

    Every |cov|^2 is the mean of tr(C_k' C_l) over pairs of different blocks of images, C_k being the covariances in block k
    about its own means. At most about 1, and 0 on average for unrelated nets: it may be below. Ignores what `cka` ignores.

    Returns:
        None with fewer than two blocks of two samples, or where the images are too few to tell a net's own |cov|^2 from 0.

    Source: a U-statistic over blocks of images; with one sample in each it would be the estimate of Song et al. 2012.
    """
    nets = (pair.a, pair.b)
    return normalised(torch.tensor([[block_products(pair, i, j) for j in nets] for i in nets], dtype=torch.float64))


def cka_debiased_samples(pair: Pair) -> float | None:
    """Linear CKA by the unbiased estimate of HSIC that everyone uses: it treats samples as independent.

    Where they are not (positions of an image, tokens of a text) it is too high, see `cka_debiased`. Ignores what `cka`
    ignores.

    Returns:
        None with fewer than four samples, where a net's own HSIC is no more than 0, or without energies of samples.

    Source: Song, Smola, Gretton, Bedo, Borgwardt 2012, "Feature selection via dependence maximization", equation 5;
        Nguyen, Raghu, Kornblith 2021.
    """
    if (grams := Grams.of(pair)) is None or (n := grams.count) < 4:
        return None
    trace_ij = grams.product_ij - grams.diagonal_ij  # of Gram matrices without their diagonals
    whole_ij = grams.trace_i[:, None] * grams.trace_i / ((n - 1) * (n - 2))
    return normalised((trace_ij + whole_ij - 2 / (n - 2) * grams.diagonal_ij) / (n * (n - 3)))


class Null(NamedTuple):
    """What CKA is where the samples of one net are permuted."""

    mean: float
    sd: float


def permutation_null(pair: Pair) -> Null | None:
    """Mean and standard deviation of `cka` over all permutations of net b's samples, in closed form.

    Permuting samples supposes that they are independent; for positions and tokens the null by shuffled images is the
    right one.

    Returns:
        None with fewer than four samples, a constant net, or without energies of samples.

    Source: Kazi-Aoual, Hitier, Sabatier, Lebreton 1995, "Refined approximations to permutation tests for multivariate
        inference", the first two moments of tr(K P L P').
    """
    if (grams := Grams.of(pair)) is None or (n := grams.count) < 4 or not bool((grams.trace_i > 0).all()):
        return None
    trace_i, square_i, fourth_i = grams.trace_i, grams.product_ij.diagonal(), grams.diagonal_ij.diagonal()
    spread = ((n - 1) * square_i - trace_i.square()).prod() * 2 / ((n - 1) ** 2 * (n + 1) * (n - 2))
    peaked_i = n * (n + 1) * fourth_i - (n - 1) * (trace_i.square() + 2 * square_i)
    variance = spread + peaked_i.prod() / ((n + 1) * n * (n - 1) * (n - 2) * (n - 3))
    scale = square_i.prod().sqrt()
    return Null(float(trace_i.prod() / (n - 1) / scale), float(variance.clamp(min=0).sqrt() / scale))


def cka_ceiling(pair: Pair) -> float | None:
    """What CKA is between a net on half of the images and the same net on the others: what so many images allow.

    tr(C' C~) / (|C| |C~|) of the covariances within a net in every second block and in the other blocks, as geometric mean
    over both nets; at most 1. Ignores what `cka` ignores.

    Returns:
        None with fewer than two blocks, or where a net is constant in a half.
    """
    if pair.blocks < 2 or pair.parts is not None:
        return None
    (one, other), *_ = replace(pair, joint=None).folds(2)  # joint histograms have folds of their own
    value = 1.0
    for net in (pair.a, pair.b):
        norm = math.sqrt(squares(one, net, net) * squares(other, net, net))
        if norm == 0:
            return None
        value *= float((cov(one, net, net) * cov(other, net, net)).sum()) / norm
    return math.sqrt(max(value, 0.0))
