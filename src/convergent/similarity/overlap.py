"""How far the principal components that explain most of two nets' variance span the same subspace of samples.

Axes: `e` and `f` principal axes of net a and net b.
"""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from convergent.core.pairs import Pair
from convergent.options import number
from convergent.similarity.shared import between, dimensions, enough, vary


def overlap(pair: Pair, explained: Annotated[float, number(0, 1, above=True)] = 0.95) -> float | None:
    """The mean squared cosine of the principal angles between the spans of these components.

    Over as many directions as the smaller span has; between 0 and 1, on the samples of the fit. Ignores rotations,
    permutations, a common scale of a net's units and every unit twice.

    Args:
        pair: the two nets.
        explained: share of each net's variance that its components explain.

    Returns:
        None where a net is constant, or where so few samples make the spans meet whatever the nets are.

    Source: Björck, Golub 1973, "Numerical methods for computing angles between linear subspaces"; Krzanowski 1979.
    """
    cosines_ef = _cosines(pair, explained)
    return None if cosines_ef is None else min(float(cosines_ef.square().sum() / min(cosines_ef.shape)), 1.0)


def principal_angles(pair: Pair, explained: float = 0.95) -> Tensor | None:
    """The angles themselves in radians, the smallest first; as for `overlap`."""
    cosines_ef = _cosines(pair, explained)
    return None if cosines_ef is None else torch.linalg.svdvals(cosines_ef).clamp(max=1).acos()


def _cosines(pair: Pair, explained: float) -> Tensor | None:
    if not vary(pair):
        return None
    e, f = (dimensions(pair, net, explained) for net in (pair.a, pair.b))
    return between(pair)[:e, :f] if enough(pair, e, f) else None
