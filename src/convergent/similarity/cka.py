"""Linear CKA: how alike the similarities between samples are that two nets' units give.

Axes: `a` units of net a, `b` units of net b.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from convergent.core.pairs import Pair


def cka(pair: Pair) -> float:
    """|cov_ab|^2 / (|cov_aa| |cov_bb|) in Frobenius' norm: linear centred kernel alignment, the biased estimate.

    Between 0 and 1; it does not change under rotations of either net's space or a common scale of its units, but under the
    scale of single units, which here, unlike in correlations, counts. With few samples beside units it is too high.

    Returns:
        0 where all units of a net are constant.

    Source: Kornblith, Norouzi, Lee, Hinton 2019, "Similarity of neural network representations revisited", equation 3 with
        linear kernels.

    >>> from convergent.core.pairs import Pair
    >>> import torch
    >>> x_n2 = torch.randn(100, 2)
    >>> round(cka(Pair.of(x_n2, 3 * x_n2.flip(1))), 6)
    1.0
    """
    aa, ab, bb = (_squares(pair, *nets) for nets in ((pair.a, pair.a), (pair.a, pair.b), (pair.b, pair.b)))
    return float(ab / (aa.sqrt() * bb.sqrt())) if aa > 0 and bb > 0 else 0.0


def _squares(pair: Pair, rows: slice, columns: slice) -> Tensor:
    """The sum of squared covariances, of each net's units on one scale."""
    cov_ij, gain_u = pair.total.cov(rows, columns), pair.total.gain_u
    if gain_u is not None:  # powers of two, of each unit its own; the smallest is of the largest unit
        row_i, column_j = (gain_u[units].min() / gain_u[units] for units in (rows, columns))
        cov_ij = cov_ij * row_i[:, None] * column_j
    total: Tensor = cov_ij.square().sum()
    return total
