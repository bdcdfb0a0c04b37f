"""How well a rotation takes one net's units to another's: Procrustes, as cosine, as distance, and partly whitened.

Axes: `a` and `b` units of the two nets, `e` and `f` their principal axes.
"""

from __future__ import annotations

from math import acos, sqrt
from typing import Annotated

import torch
from torch import Tensor

from convergent.core.pairs import Pair
from convergent.options import number
from convergent.similarity.shared import axes, between, nuclear, shared, variance, vary


def procrustes(pair: Pair) -> float | None:
    """|cov_ab|_* / sqrt(tr cov_aa tr cov_bb): the cosine between the nets after the best rotation of one of them.

    Between 0 and 1; also the normalised Bures similarity (NBS) of the nets' Gram matrices. Ignores rotations, permutations,
    a common scale of a net's units and every unit twice.

    Returns:
        None where all units of a net are constant.

    Source: Ding, Denain, Steinhardt 2021, "Grounding representation similarity through statistical testing"; Harvey,
        Lipshutz, Williams 2024, "Duality of Bures and shape distances" (that both are the same).
    """
    if not vary(pair):
        return None
    return min(nuclear(pair) / sqrt(variance(pair, pair.a) * variance(pair, pair.b)), 1.0)


def bures(pair: Pair) -> float | None:
    """sqrt(2 - 2 NBS): the Bures distance between the nets' Gram matrices, each scaled to trace 1.

    Between 0 (the same) and sqrt(2). Ignores what `procrustes` ignores, of which it is a function.

    Returns:
        None where all units of a net are constant.

    Source: Bures 1969; Tang et al. 2020, "Similarity of neural networks with gradients" (NBS).
    """
    value = procrustes(pair)
    return None if value is None else sqrt(2 - 2 * value)


def shape(pair: Pair, alpha: Annotated[float, number(0, 1)] = 0.5) -> float | None:
    """The angle between the nets, in radians, after the best rotation of partly whitened units: a metric.

    Units are multiplied by alpha + (1 - alpha) cov^(-1/2): 1 leaves them as they are (the angle is then acos of
    `procrustes`), 0 whitens them, which is an angle of canonical correlations. Each net is scaled beforehand so that the
    variance of its principal components, weighted by itself, has mean 1.

    Between 0 (the same) and pi / 2. Ignores rotations, permutations, a common scale of a net's units and every unit twice.

    Returns:
        None where all units of a net are constant.

    Source: Williams, Kunz, Kornblith, Linderman 2021, "Generalized shape metrics on neural representations", section 3 (who
        leave the scale to their user).
    """
    if not vary(pair):
        return None

    def made() -> float:
        root_e, root_f = (_partly_whitened(axes(pair, net)[0], alpha) for net in (pair.a, pair.b))
        product = torch.linalg.svdvals(root_e[:, None] * between(pair) * root_f).sum()
        return acos(min(float(product / (root_e.norm() * root_f.norm())), 1.0))

    return shared(pair, ("shape", alpha), made, *sorted((pair.a, pair.b), key=lambda units: units.start))


def _partly_whitened(root_e: Tensor, alpha: float) -> Tensor:
    """Standard deviations along the axes afterwards."""
    scaled_e = root_e * (root_e.square().sum() / root_e.pow(4).sum()).sqrt()
    return alpha * scaled_e + (1 - alpha)
