"""What chance gives: the same nets on randomly rotated axes, and what a score is worth beside them.

Axes: `a` and `b` units of two nets, `d` draws, `k` blocks of images.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from convergent.core.moments import Moments
from convergent.core.pairs import Pair
from convergent.core.rotation import rotated_before, rotation
from convergent.errors import InputError
from convergent.methods.solvers.sparse_partners import sparse_best_units

__all__ = [
    "best", "excess", "excess_over", "p_values", "rotated", "rotated_before", "rotated_best", "rotation", "threshold",
]  # fmt: skip


def rotated(pair: Pair, seed: int = 0) -> Pair:
    """The pair with net b's active units replaced by a random rotation of their z-scores; constant units stay constant.

    Net b's span stays what it was, and so does every score that sees nothing but the span (least squares from b, CCA).
    Scores of single units fall if b's own axes mean something, and if its units are sparse: for rectified units this null is
    too low, and `rotated_before` the one that holds its level (docs/chance.md). Samples are not needed, and blocks stay
    apart, so that held-out scores and intervals work. To rotate net a: `rotated(pair.flip(), seed).flip()`.

    Returns:
        A pair whose b holds q units of mean 0, uncorrelated and of variance 1 only if b's z-scores (by all blocks) were. It
        has no joint histograms, for these do not follow from those of the units.

    Source: Gurnee et al. 2024, "Universal neurons in GPT2 language models".
    """
    total, whole = pair.total, pair.moments
    active = pair.active_b.nonzero()[:, 0]
    turn_bb = torch.zeros(pair.q, pair.q, dtype=torch.float64)  # rows and columns of constant units stay 0
    turn_bb[active[:, None], active] = rotation(len(active), torch.Generator().manual_seed(seed))
    turn_bb = total.scale_u[pair.b, None] * turn_bb
    # only the means' distance from the total's is turned: large means would eat the digits
    mean_kb = (whole.mean_u[:, pair.b] - total.mean_u[pair.b]) @ turn_bb
    a, b = slice(0, pair.p), slice(pair.p, pair.p + pair.q)
    scatter_kuu = whole.scatter_uu.new_empty(len(whole.count), b.stop, b.stop)
    for old_uu, new_uu in zip(whole.scatter_uu, scatter_kuu):  # block by block, for the record may fill the memory
        new_uu[a, a] = old_uu[pair.a, pair.a]
        new_uu[a, b] = old_uu[pair.a, pair.b] @ turn_bb
        new_uu[b, a] = new_uu[a, b].T
        turned_bb = turn_bb.T @ old_uu[pair.b, pair.b] @ turn_bb
        new_uu[b, b] = (turned_bb + turned_bb.T) / 2  # products of three matrices round to not quite symmetric
    moments = Moments(whole.count, torch.cat([whole.mean_u[:, pair.a], mean_kb], 1), scatter_kuu)
    return replace(pair, moments=moments, a=a, b=b, joint=None, parts=None)


def best(pair: Pair, absolute: bool = False) -> Tensor:
    """Each unit of b's highest correlation with a unit of a, shape (q,); 0 for constant units of b."""
    if pair.sparse:
        return sparse_best_units(pair, absolute=absolute)[1]
    return torch.where(pair.active_b, _best(pair.corr_ab[pair.active_a], absolute), 0.0)


def rotated_best(pair: Pair, draws: int = 5, seed: int = 0, absolute: bool = False, turn: str = "a") -> Tensor:
    """Highest correlations on randomly rotated axes: what the best of many partners gives without units of their own.

    It is too low for rectified units, see `rotated`.

    Args:
        pair: the two nets.
        draws: how many rotations.
        seed: of the first of them, which is what `rotated` draws with the same seed.
        absolute: take the highest |r| instead of the signed correlation.
        turn: the net whose z-scores are rotated: "a", the candidates, so that each of b's units has a null of its own
            (Gurnee et al.), or "b": a pooled null of any directions of b, whose columns are no particular units.

    Returns:
        Shape (draws, active units of b): constant ones are left out, for their zeros would lower every quantile.

    Raises:
        InputError: if `turn` is not "a" or "b", or there is no draw.

    Source: Gurnee et al. 2024, "Universal neurons in GPT2 language models".
    """
    if turn not in ("a", "b"):
        raise InputError(f'turn needs to be "a" or "b", the net to be rotated, not {turn!r}.')
    if draws < 1:
        raise InputError(f"A null needs at least 1 draw, not {draws}.")
    generator = torch.Generator().manual_seed(seed)
    corr_ab, corr_bb = pair.corr_ab[pair.active_a][:, pair.active_b], pair.corr_bb[pair.active_b][:, pair.active_b]
    corr_aa = pair.corr_aa[pair.active_a][:, pair.active_a]
    best_db = []
    for _ in range(draws):
        turned_ab = _turned(corr_ab.T, corr_aa, generator).T if turn == "a" else _turned(corr_ab, corr_bb, generator)
        best_db.append(_best(turned_ab, absolute))
    return torch.stack(best_db)


def excess(pair: Pair, draws: int = 5, seed: int = 0, absolute: bool = False) -> Tensor:
    """Each unit of b's best correlation less the mean of its best with `draws` rotations of a, shape (q,); 0 for constant.

    Theirs rotates raw activations by rows of Gaussians; ours z-scores, as correlations do, by an orthogonal matrix. Of
    rectified units it is above 0 without anything in common but a space, by up to 0.26 in docs/chance.md, see `rotated`.
    `absolute` takes the highest |r| instead of the signed correlation.

    Raises:
        InputError: if there is no draw.

    Source: Gurnee et al. 2024, "Universal neurons in GPT2 language models", there averaged over nets a.
    """
    excess_b = best(pair, absolute)
    excess_b[pair.active_b] -= rotated_best(pair, draws, seed, absolute).mean(0)
    return excess_b


def excess_over(pair: Pair, rotated_a: Sequence[Pair]) -> Tensor:
    """Each unit of b's best correlation less the mean of its best with net a on rotated axes, shape (q,)."""
    return torch.where(pair.active_b, best(pair) - torch.stack([best(rotated) for rotated in rotated_a]).mean(0), 0.0)


def p_values(value_b: Tensor, null: Tensor) -> Tensor:
    """Share of null values at least as large, each value counted among them: (1 + number) / (1 + all), like `value_b`.

    Without the ones a value above all of few draws would have p = 0, more than they can tell.

    Both may have any shape; null values are pooled.

    Raises:
        InputError: if the null is empty.

    Source: Phipson, Smyth 2010, "Permutation p-values should never be zero".
    """
    if null.numel() == 0:
        raise InputError("p-values need at least one null value, but there is none; take more draws.")
    null = null.flatten().to(torch.float64).sort().values
    below_b = torch.searchsorted(null, value_b.to(torch.float64).contiguous())
    return (1.0 + len(null) - below_b) / (1.0 + len(null))


def threshold(null: Tensor, level: float = 0.05) -> float:
    """The (1 - level) quantile of the pooled null values: what exceeds it, and nothing else, has p <= level.

    Null values, of any shape, are pooled.

    Raises:
        InputError: if the level is not between 0 and 1, or there are too few null values to reach it.
    """
    if not 0 < level < 1:
        raise InputError(f"The level of a threshold needs to be between 0 and 1, not {level}.")
    above = int(level * (1 + null.numel()) + 1e-9) - 1  # null values that may lie at or above a value with p <= level
    if above < 0:
        raise InputError(
            f"A threshold at level {level:g} needs at least {1 / level - 1:.0f} null values, not {null.numel()}; "
            "take more draws."
        )
    return float(null.flatten().sort(descending=True).values[above])


def _turned(corr_ab: Tensor, corr_bb: Tensor, generator: torch.Generator) -> Tensor:
    """Correlations of a's units with a random rotation of b's z-scores, all of which vary."""
    turn_bb = rotation(len(corr_bb), generator)
    variance_b = (turn_bb * (corr_bb @ turn_bb)).sum(0)
    return (corr_ab @ turn_bb / variance_b.sqrt()).clamp(-1, 1)


def _best(corr_ab: Tensor, absolute: bool) -> Tensor:
    corr_ab = corr_ab.abs() if absolute else corr_ab
    return corr_ab.amax(0) if len(corr_ab) else corr_ab.new_zeros(corr_ab.shape[1])
