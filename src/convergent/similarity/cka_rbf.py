"""CKA with Gaussian kernels: near samples count, far ones hardly do."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from convergent.core.pairs import Pair
from convergent.options import number
from convergent.similarity.grams import normalised
from convergent.similarity.sampled import distances, of_samples


@of_samples
def cka_rbf(pair: Pair, width: Annotated[float, number(0, above=True)] = 0.5) -> float | None:
    """CKA of Gaussian kernels whose standard deviation is `width` times the median distance, without bias.

    At most about 1, and 0 on average for unrelated nets, where samples are independent (a sample of pooled activations is).
    Ignores rotations, permutations, a common scale of a net's units and every unit twice.

    Returns:
        None without samples, with fewer than four, or where a net has no distances.

    Source: Kornblith, Norouzi, Lee, Hinton 2019 (kernels); Song et al. 2012, equation 5 (no bias).
    """
    if (both := distances(pair)) is None or len(both[0]) < 4:
        return None
    n, grams = len(both[0]), []
    above = torch.ones(n, n, dtype=torch.bool).triu_(1)
    for distance_nn in both:
        median = float(distance_nn[above].median())
        if median == 0:
            return None
        grams.append(distance_nn.div_(-2 * width**2 * median).exp_().fill_diagonal_(0))

    def hsic(k_nn: Tensor, l_nn: Tensor) -> float:
        row_n, other_n = k_nn.sum(0), l_nn.sum(0)
        whole = row_n.sum() * other_n.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (row_n @ other_n)
        return float(torch.tensordot(k_nn, l_nn, 2) + whole)

    return normalised(torch.tensor([[hsic(k, other) for other in grams] for k in grams], dtype=torch.float64))
