"""Whether groups of units of two nets span the same subspace, though no unit of one need equal a unit of the other.

Axes: `a` and `b` units of two nets, `i` and `j` some of them, `c` canonical directions, `d` draws.
"""

import torch
from torch import Tensor

from convergent.core.pairs import Pair
from convergent.core.regression import independent_axes
from convergent.errors import InputError

# Axes of less variance than this share of the largest are noise in moments that are sums of float32 products.
_NOISE = 1e-6

_FEW = (
    "Canonical correlations of {} with {} dimensions need more samples than {}, or some are 1 by necessity; read more "
    "images or compare smaller groups."
)


def canonical_correlations(pair: Pair, units_a: Tensor, units_b: Tensor) -> Tensor:
    """Correlations between the spans of a group of each net's units, the most similar directions first.

    Each is the cosine of a principal angle between the two spans and does not change under any invertible linear map of
    either group. In-sample, hence too high for groups that are large beside the number of samples: unrelated groups have
    squares that sum to i j / (n - 1).

    Args:
        pair: the two nets.
        units_a: numbers of a's units, shape (i,); constant ones are left out.
        units_b: numbers of b's units, shape (j,).

    Returns:
        Decreasing, between 0 and 1, shape (c,): as many as the smaller span has dimensions.

    Raises:
        InputError: if there are so few samples that some are 1 whatever the nets are.

    Source: Hotelling 1936, "Relations between two sets of variates"; Li et al. 2016, section 4 (subspaces that agree).

    >>> from convergent.core.pairs import Pair
    >>> x_n2 = torch.randn(100, 2)
    >>> pair = Pair.of(x_n2, x_n2 @ torch.tensor([[1.0, 1], [1, -1]]))
    >>> canonical_correlations(pair, torch.arange(2), torch.arange(2)).allclose(torch.ones(2).double())
    True
    """
    i, j = units_a[pair.active_a[units_a]], units_b[pair.active_b[units_b]]
    if not len(i) or not len(j):
        return torch.zeros(0, dtype=torch.float64)
    root_c, axes_ic = independent_axes(pair.corr_aa[i[:, None], i], _NOISE)
    root_d, axes_jd = independent_axes(pair.corr_bb[j[:, None], j], _NOISE)
    if len(root_c) + len(root_d) > pair.count - 1:
        raise InputError(_FEW.format(len(root_c), len(root_d), pair.count))
    between_cd = (axes_ic / root_c).T @ pair.corr_ab[i[:, None], j] @ (axes_jd / root_d)
    correlation_c: Tensor = torch.linalg.svdvals(between_cd).clamp(max=1)
    return correlation_c


def mean_canonical_correlation(pair: Pair, groups_a: Tensor, groups_b: Tensor) -> Tensor:
    """The mean of `canonical_correlations` for many groups at once, shape (d,); 0 where one of the two does not vary.

    Groups are numbers of units, shapes (d, i) and (d, j).

    Raises:
        InputError: if there are so few samples that some correlations are 1 whatever the nets are.
    """
    if groups_a.shape[1] + groups_b.shape[1] > pair.count - 1:
        raise InputError(_FEW.format(groups_a.shape[1], groups_b.shape[1], pair.count))
    white_dic, dimensions_a = _whitening(pair.corr_aa, groups_a)
    white_djc, dimensions_b = _whitening(pair.corr_bb, groups_b)
    between_dij = pair.corr_ab[groups_a[:, :, None], groups_b[:, None, :]]
    correlation_dc = torch.linalg.svdvals(white_dic.mT @ between_dij @ white_djc).clamp(max=1)
    mean_d: Tensor = correlation_dc.sum(1) / torch.minimum(dimensions_a, dimensions_b).clamp(min=1)
    return mean_d


def _whitening(corr_uu: Tensor, groups_di: Tensor) -> tuple[Tensor, Tensor]:
    """Principal axes of each group, scaled to variance 1, 0 for those that are noise; and how many are not."""
    variance_de, axes_die = torch.linalg.eigh(corr_uu[groups_di[:, :, None], groups_di[:, None, :]])
    there_de = variance_de > _NOISE * variance_de[:, -1:].clamp(min=1e-12)
    root_de = variance_de.where(there_de, torch.ones_like(variance_de)).sqrt()
    return axes_die * (there_de / root_de)[:, None], there_de.sum(1)


def random_groups(active_u: Tensor, size: int, draws: int, generator: torch.Generator) -> Tensor:
    """Groups of distinct units of those that are active, drawn at random, numbers of shape (draws, size).

    Raises:
        InputError: if there are fewer active units.
    """
    active = active_u.nonzero()[:, 0]
    if size > len(active):
        raise InputError(f"A group of {size} units needs as many active ones, but there are {len(active)}.")
    order_du = torch.rand(draws, len(active), generator=generator).argsort(1)
    return active[order_du[:, :size]]
