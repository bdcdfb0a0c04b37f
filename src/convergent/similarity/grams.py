"""Sums over samples and pairs of samples that Gram matrices would give, which no measure here makes.

Axes: `i` and `j` the two nets.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from convergent.core.pairs import Pair
from convergent.similarity.shared import squares


@dataclass(frozen=True, eq=False)
class Grams:
    """What is known of the centred Gram matrices K_i of two nets, shape (samples, samples) each.

    Attributes:
        count: number of samples, as a float, for its powers are large.
        product_ij: tr(K_i K_j), shape (2, 2).
        trace_i: tr K_i, shape (2,).
        diagonal_ij: products of their diagonals, shape (2, 2).
    """

    count: float
    product_ij: Tensor
    trace_i: Tensor
    diagonal_ij: Tensor

    @classmethod
    def of(cls, pair: Pair) -> Grams | None:
        """Those of a pair; None where the energies of its samples are not known."""
        if pair.energy_products is None:
            return None
        nets, n = (pair.a, pair.b), float(pair.count)
        squares_ij = torch.tensor([[squares(pair, i, j) for j in nets] for i in nets], dtype=torch.float64)
        return cls(n, squares_ij * n**2, *pair.energy_products)


def normalised(product_ij: Tensor) -> float | None:
    """A product of two nets as a share of their products with themselves; None unless these are above 0.

    >>> normalised(torch.tensor([[4.0, 3.0], [3.0, 9.0]]))
    0.5
    """
    within = product_ij.diagonal()
    return float(product_ij[0, 1] / within.prod().sqrt()) if bool((within > 0).all()) else None
