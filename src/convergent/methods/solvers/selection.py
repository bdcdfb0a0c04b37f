"""The best one, two, three ... units: how many of net a's units one of net b's needs, whatever their weights.

Axes: `a` units of net a, `b` units of net b, `m` number of predictors per unit.
"""

import torch
from torch import Tensor

from convergent.core.ties import first_best

_COPY = 1e-6  # of a unit's variance that the chosen ones leave: less says nothing new
_ROOM = 30_000_000  # numbers that are kept of some targets at once


def forward_selection(corr_aa: Tensor, corr_ab: Tensor, most: int = 8) -> Tensor:
    """The units of a that predict each unit of b best, each the one that helps most beside those chosen before it.

    Args:
        corr_aa: correlations within a, shape (a, a), float64; rows of constant units are 0.
        corr_ab: correlations with the targets, shape (a, b).
        most: how many units at the most.

    Returns:
        Their numbers, shape (m, b); -1 where no unit is left that helps.

    Source: Chen, Billings, Luo 1989, "Orthogonal least squares methods and their application to non-linear system
        identification" (forward orthogonal selection).

    >>> corr_aa = torch.tensor([[1.0, 0.8], [0.8, 1.0]]).double()
    >>> forward_selection(corr_aa, torch.tensor([[0.9], [0.7]]).double()).T
    tensor([[0, 1]])
    """
    most = min(most, len(corr_aa))
    targets = max(1, _ROOM // (len(corr_aa) * (most + 3)))
    batches = [corr_ab[:, first : first + targets] for first in range(0, max(1, corr_ab.shape[1]), targets)]
    return torch.cat([_select(corr_aa, some_at, most) for some_at in batches], 1)


def _select(corr_aa: Tensor, corr_ab: Tensor, most: int) -> Tensor:
    """One batch of targets: a Cholesky factorisation of the chosen units' correlations, grown by a row a step."""
    left_ba, spread_ba = corr_ab.T.clone(), corr_aa.diagonal().repeat(corr_ab.shape[1], 1)
    b = torch.arange(len(left_ba), device=left_ba.device)
    rows_ba: list[Tensor] = []
    chosen_mb = torch.full((most, len(b)), -1, device=left_ba.device)
    for m in range(most):
        free_ba = spread_ba > _COPY
        gain_ba = torch.where(free_ba, left_ba.square() / spread_ba.where(free_ba, torch.ones_like(spread_ba)), 0.0)
        next_b = torch.from_numpy(first_best(gain_ba.cpu().numpy().T)).to(b)
        gain_b = gain_ba[b, next_b]
        chosen_mb[m] = torch.where(gain_b > 0, next_b, -1)
        root_b1 = spread_ba[b, next_b].clamp(min=_COPY).sqrt()[:, None]
        row_ba = (corr_aa[next_b] - sum((row[b, next_b][:, None] * row for row in rows_ba), torch.zeros(()))) / root_b1
        left_ba = left_ba - row_ba * (left_ba[b, next_b][:, None] / root_b1)
        spread_ba = (spread_ba - row_ba.square()).scatter(1, next_b[:, None], 0.0)
        rows_ba.append(row_ba)
    return chosen_mb


def selected_weights(corr_aa: Tensor, corr_ab: Tensor, most: int = 8) -> tuple[Tensor, Tensor]:
    """The best units of a for each unit of b, and their least-squares weights where 1, 2, ... `most` of them are used.

    Returns:
        Units in the order in which they are chosen, shape (i, b), and weights, shape (m, i, b): the first m of them at most
        are not 0. Where no unit is left that helps, the number is 0 and so is the weight.
    """
    chosen_ib = forward_selection(corr_aa, corr_ab, most)
    there_ib, chosen_ib = chosen_ib >= 0, chosen_ib.clamp(min=0)
    # no chosen unit is a copy of others; in place of one that is not there stands one that is correlated with nothing
    both_bij = (there_ib[:, None] & there_ib).movedim(-1, 0)
    gram_bij = (
        corr_aa[chosen_ib[:, None], chosen_ib].movedim(-1, 0).where(both_bij, torch.eye(len(chosen_ib)).to(corr_aa))
    )
    factor_bij, corr_bi1 = torch.linalg.cholesky(gram_bij), (corr_ab.gather(0, chosen_ib) * there_ib).T[..., None]
    weight_mib = corr_ab.new_zeros(len(chosen_ib), *chosen_ib.shape)
    for m in range(len(chosen_ib)):
        first = slice(m + 1)
        weight_mib[m, first] = torch.cholesky_solve(corr_bi1[:, first], factor_bij[:, first, first])[..., 0].T
    return chosen_ib, weight_mib
