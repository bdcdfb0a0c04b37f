"""Which units of net b take which places of net a's, group by group: by what units do on images, by weights, or by chance.

Axes: `a` and `b` units of a group in two nets, `h` and `d` units with others within them (heads) and these.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from convergent.analysis.consensus import consensus
from convergent.analysis.several import SeveralNets
from convergent.core.alignment import Method, name_of
from convergent.core.layer_moments import LayerMoments
from convergent.core.moments import Moments
from convergent.core.pairs import Pair
from convergent.core.ties import best_assignment
from convergent.errors import InputError
from convergent.function.merging.axes import Axis
from convergent.function.merging.ties import Group, Ties
from convergent.methods.matching import Matching

# What says how well units of two nets go together: of a group and its axis, or one of its inner axes, a matrix (a, b).
Similarity = Callable[[Pair], Tensor]
Measured = Mapping[str, LayerMoments]  # the moments of the groups' points, of all nets


def correlation(pair: Pair) -> Tensor:
    """Correlations, shape (a, b)."""
    return pair.corr_ab


def covariance(pair: Pair) -> Tensor:
    """Covariances, shape (a, b)."""
    return pair.cov_ab


def summed(group: Group, measured: Measured, a: str, b: str, similarity: Similarity) -> Tensor:
    """The similarities of a group's units in two nets, summed over all layers that have these units, shape (a, b)."""
    return torch.stack([similarity(measured[point].pair(a, b)) for point in group.points]).sum(0)


def by_images(
    ties: Ties, measured: Measured, a: str, b: str, method: Method, similarity: Similarity = correlation
) -> dict[Axis, Tensor]:
    """The order of net b's units in which they are most similar to net a's on images, group by group.

    Groups that no module's output has (heads of torch's own attention) are not in it: nobody measures them.

    Args:
        ties: of both nets.
        measured: moments of the groups' points.
        a: name of the net whose units stay where they are.
        b: name of the net whose units are reordered.
        method: one to one, which is given the correlations, summed over layers; units that never vary in either net are
            paired with what is left.
        similarity: what is summed in their place.

    Raises:
        InputError: if the method is not one to one.
    """
    order: dict[Axis, Tensor] = {}
    for group in ties.groups:
        if group.points:
            weight_ab = summed(group, measured, a, b, similarity)
            if group.inner:
                order |= nested(group, {}, dict.fromkeys(group.inner, weight_ab))
            else:
                order[group.atom] = one_to_one(method, weight_ab, group.name)
    return order


def one_to_one(method: Method, weight_ab: Tensor, where: str) -> Tensor:
    """Which unit of b a method pairs with each unit of a, by their summed similarities, shape (a,); the rest in order.

    Raises:
        InputError: if it gives a unit several partners, or shares one.
    """
    alignment = method(pair_of(weight_ab, where))
    partner_b = torch.where(alignment.predictors_b > 0, alignment.map_ab.abs().argmax(0), -1)
    paired_b = (partner_b >= 0).nonzero()[:, 0]
    if bool((alignment.predictors_b > 1).any()) or len(torch.unique(partner_b[paired_b])) < len(paired_b):
        raise InputError(
            f"Merging needs a method that is one to one, as matching, but {name_of(method)} gives units of {where} several "
            "partners or shared ones; choose method=matching."
        )
    order_a = torch.full_like(partner_b, -1)
    order_a[partner_b[paired_b]] = paired_b
    order_a[order_a < 0] = (partner_b < 0).nonzero()[:, 0]
    return order_a


def pair_of(weight_ab: Tensor, where: str) -> Pair:
    """A pair whose correlations are in proportion to some similarities, so that a method can be asked which go together."""
    p, q = weight_ab.shape
    scatter_uu = torch.eye(p + q, dtype=torch.float64)
    scaled_ab = weight_ab.double() / max(float(weight_ab.abs().max()), 1e-300)
    scatter_uu[:p, p:], scatter_uu[p:, :p] = scaled_ab, scaled_ab.T
    moments = Moments(torch.ones(1, dtype=torch.float64), torch.zeros(1, p + q, dtype=torch.float64), scatter_uu[None])
    return Pair(moments, slice(0, p), slice(p, p + q), layer=where)


def nested(group: Group, of_atom: Mapping[Axis, Tensor], of_inner: Mapping[Axis, Tensor]) -> dict[Axis, Tensor]:
    """The best order of units that have others within them, and of these: the optimum of both together.

    Args:
        group: with inner axes.
        of_atom: similarities (h, h) of the outer units themselves, where there are any.
        of_inner: similarities (h d, h d) of the inner units.
    """
    h = group.atom.size
    value_ab = sum(of_atom.values(), torch.zeros(h, h, dtype=torch.float64)).double()
    partner: dict[Axis, Tensor] = {}
    for inner, weight in of_inner.items():
        d = inner.size
        weight_abde = weight.double().reshape(h, d, h, d).transpose(1, 2)
        best = [[best_assignment(weight_abde[a, b].numpy())[1] for b in range(h)] for a in range(h)]
        partner[inner] = torch.from_numpy(np.array(best))  # (h of a, h of b, d)
        value_ab = value_ab + weight_abde.gather(3, partner[inner][..., None])[..., 0].sum(2)
    order_h = torch.from_numpy(best_assignment(value_ab.numpy())[1])
    return {group.atom: order_h} | {inner: of[torch.arange(h), order_h] for inner, of in partner.items()}


def by_consensus(ties: Ties, measured: Measured, nets: Sequence[str]) -> dict[str, dict[Axis, Tensor]]:
    """The order of every net's units in which all nets agree with one another as well as can be, by the net's name.

    The first net's units stay where they are. Groups with inner axes, and those that nobody measures, are not in it.
    """
    orders: dict[str, dict[Axis, Tensor]] = {net: {} for net in nets}
    for group in ties.groups:
        if group.points and not group.inner:
            corr = {
                (i, j): summed(group, measured, nets[i], nets[j], correlation) / len(group.points)
                for i, j in combinations(range(len(nets)), 2)
            }
            every = torch.ones(group.atom.size, dtype=torch.bool)
            units_gk = consensus(SeveralNets(list(nets), corr, [every] * len(nets))).units_gk
            units_gk = units_gk[units_gk[:, 0].argsort()]
            for net, units_g in zip(nets, units_gk.T):
                orders[net][group.atom] = units_g
    return orders


MATCHING = Matching()
