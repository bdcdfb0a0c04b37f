"""How far a statistic of a pair, or of many nets, may be from what more images or more nets would give.

Images are resampled by block, never positions: positions of one image depend on each other. Nets are resampled by net,
never by pair: pairs share nets.

Axes: `k` blocks of images, `d` draws, `i` and `j` nets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from scipy import stats
from torch import Tensor

from convergent.core.moments import Moments
from convergent.core.pairs import Pair
from convergent.errors import InputError

Statistic = Callable[[Pair], "Tensor | float"]


@dataclass(frozen=True, eq=False)
class Interval:
    """An estimate, float64 of the statistic's shape, its standard error, and where the true value lies by a probability.

    `level` is the probability that the interval covers, for each value on its own.
    """

    estimate: Tensor
    se: Tensor
    low: Tensor
    high: Tensor
    level: float

    def __repr__(self) -> str:
        if self.estimate.ndim:
            return f"Interval(of {tuple(self.estimate.shape)} estimates, {self.level:.0%})"
        return f"Interval({self.estimate:.4g}, {self.level:.0%} from {self.low:.4g} to {self.high:.4g})"

    @classmethod
    def of_t(cls, estimate: Tensor, se: Tensor, freedom: float, level: float) -> Interval:
        """The interval from Student's t with `freedom` degrees of freedom."""
        half = float(stats.t.ppf((1 + level) / 2, freedom)) * se
        return cls(estimate, se, estimate - half, estimate + half, level)

    def over_draws(self, value_d: Tensor, freedom: float) -> Interval:
        """The interval of a mean over random draws, shape (d,), where this, of some of them, is over images alone.

        The draws' own error is added to that of the images, which has so many degrees of freedom; a single draw has none
        that could be known.

        Source: Satterthwaite 1946, "An approximate distribution of estimates of variance components".
        """
        images, draws = self.se.square(), value_d.var() / len(value_d) if len(value_d) > 1 else torch.zeros(())
        if (variance := images + draws) > 0:
            freedom = float(variance.square() / (images.square() / freedom + draws.square() / max(len(value_d) - 1, 1)))
        return Interval.of_t(value_d.mean(), variance.sqrt(), freedom, self.level)


def jackknife(statistic: Statistic, pair: Pair, level: float = 0.95, groups: int | None = None) -> Interval:
    """The interval of a statistic over images, from leaving out one block of images at a time, or one group of blocks.

    Blocks weigh by their counts and need not be equal; Student's t then has as many degrees of freedom as so unequal blocks
    are worth. How a block's variance falls with its count is not supposed (where images have unequal numbers of samples that
    depend on each other it hardly falls). What a maximum over many partners gains by choosing stays in the estimate.

    Args:
        statistic: what it gives may have any shape but no NaN. It sees pairs with their blocks merged; `Pair.folds` divides
            the blocks that are left. The interval is symmetric: better give `torch.atanh` of a correlation near 1, and take
            `torch.tanh` of the ends.
        pair: at least 2 blocks; 20 or more make Student's quantile nearly the normal one.
        level: probability of covering.
        groups: of blocks that are left out together, see `Moments.in_groups`; where the statistic takes long, 20 or more do.

    Raises:
        InputError: if there are fewer than 2 blocks or groups, the level is not between 0 and 1, or the statistic is not
            finite.

    Source: Bell, McCaffrey 2002, "Bias reduction in standard errors for linear regression with multi-stage samples" (for a
        mean it is their estimator, with their degrees of freedom; for equal blocks it is the jackknife of Tukey 1958).

    >>> x_n = torch.arange(8.0)[:, None]
    >>> mean = jackknife(lambda pair: pair.total.mean_u[0], Pair.of(x_n, x_n))
    >>> round(mean.estimate.item(), 3), round(mean.se.item(), 3)  # the textbook's sd / sqrt(n)
    (3.5, 0.866)
    """
    _check(pair, level)
    n = pair.blocks if groups is None else min(groups, pair.blocks)
    if n < 2:
        raise InputError(
            f"A jackknife leaves out one of at least 2 groups of blocks, not of {groups}; 20 or more are usual."
        )
    estimate, group_k = _value(statistic, pair), torch.arange(pair.blocks) % n
    rests = enumerate(pair.moments.leave_one_out(groups))
    without_g = torch.stack([_value(statistic, _without(pair, group_k == g, rest)) for g, rest in rests])
    count_g = torch.zeros(n, dtype=torch.float64).index_add(0, group_k, pair.moments.count)
    return left_out_interval(estimate, without_g, count_g / count_g.sum(), level)


def left_out_interval(estimate: Tensor, without_k: Tensor, share_k: Tensor, level: float = 0.95) -> Interval:
    """The interval of `jackknife` from what the statistic is without each block, shape (k, ...), and the blocks' shares."""
    rest_k = (1 - share_k).reshape((-1,) + (1,) * estimate.ndim)
    part_k = rest_k * (estimate - without_k)  # share times (pseudo-value less estimate): digits of small differences
    return Interval.of_t(estimate, _error(part_k, share_k), freedom(share_k), level)


def of_sum(value_k: Tensor, count_k: Tensor, level: float = 0.95) -> Interval:
    """The interval of a sum over blocks of images, shape (k, ...), whose terms are independent and grow with the blocks.

    It is what `jackknife` gives for that sum over all samples as a mean, without refitting anything.
    """
    share_k = count_k / count_k.sum()
    estimate = value_k.sum(0)
    return Interval.of_t(estimate, _error(value_k, share_k), freedom(share_k), level)


def freedom(share_k: Tensor) -> float:
    """Degrees of freedom of a standard error over blocks with these shares (sum 1) of the samples; k - 1 for equal ones.

    Source: Satterthwaite 1946; Bell, McCaffrey 2002.

    >>> round(freedom(torch.full((20,), 0.05)), 6)
    19.0
    """
    leverage_k = share_k.square() / (1 - share_k)
    return 1 / float(share_k.square().sum() + leverage_k.sum().square() - leverage_k.square().sum())


def _error(part_k: Tensor, share_k: Tensor) -> Tensor:
    """Standard error of the sum of independent parts, one of each block."""
    share_k = share_k.reshape((-1,) + (1,) * (part_k.ndim - 1))
    return ((part_k - share_k * part_k.sum(0)).square() / (1 - share_k)).sum(0).sqrt()


def bootstrap(statistic: Statistic, pair: Pair, draws: int = 200, level: float = 0.95, seed: int = 0) -> Interval:
    """The interval of a statistic over images, from drawing blocks of images with replacement.

    The interval is the basic one, which mirrors the draws about the estimate: matches chosen on a draw's fewer images
    correlate too highly, and percentiles would count that bias twice. Few blocks make draws too alike: a draw has k - 1
    blocks therefore, and the tails are cut off as far out as Student's t would. Where one block holds, say, a third of the
    samples, and these depend on each other, it covers 85% and not 95%: take the jackknife.

    Args:
        statistic: as for `jackknife`.
        pair: at least 2 blocks, better 20.
        draws: how many; 200 do for the standard error, the interval's ends want 1,000.
        level: probability of covering.
        seed: of the draws, whose generator is their own.

    Raises:
        InputError: if there are fewer than 2 blocks or 2 draws, the level is not between 0 and 1, or the statistic is
            not finite.

    Source: Davison, Hinkley 1997, "Bootstrap methods and their application", equation 5.6; Rao, Wu 1988 (k - 1
        of k); Hesterberg 2015, "What teachers should know about the bootstrap" (tails).
    """
    _check(pair, level)
    if draws < 2:
        raise InputError(f"A bootstrap needs at least 2 draws, not {draws}; 200 or more are usual.")
    generator = torch.Generator().manual_seed(seed)
    estimate = _value(statistic, pair)
    drawn_dk = torch.randint(pair.blocks, (draws, pair.blocks - 1), generator=generator)
    weights = (torch.bincount(drawn_k, minlength=pair.blocks).double() for drawn_k in drawn_dk)
    value_d = torch.stack([_value(statistic, pair.weighted(weight_k)) for weight_k in weights])
    share_k = pair.moments.count / pair.moments.count.sum()
    tail = float(stats.norm.cdf(-stats.t.ppf((1 + level) / 2, freedom(share_k))))
    ends = torch.quantile(value_d, torch.tensor([1 - tail, tail], dtype=torch.float64), dim=0)
    return Interval(estimate, value_d.std(0), 2 * estimate - ends[0], 2 * estimate - ends[1], level)


def over_nets(value_ij: Tensor, level: float = 0.95, bounds: tuple[float, float] | None = None) -> Interval:
    """The interval of the mean over all pairs of nets, from leaving out one net at a time.

    k nets make k (k - 1) / 2 pairs, but only k independent things: taking the pairs for independent claims far too much.
    Unbiased where each net adds its own part to its pairs; wider than needed where pairs differ by noise of their own.
    With `bounds`, near which shares are skewed, the interval is Wilson's, for as many independent draws as have the same
    standard error. It stays inside the bounds; where all values are at a bound its ends are NaN.

    Args:
        value_ij: a value for each pair of k nets, shape (k, k), symmetric or not; the diagonal is ignored, and one
            direction of a pair may be NaN where the other is given.
        level: probability of covering.
        bounds: least and largest possible value, such as (0, 1) for shares; none by default.

    Raises:
        InputError: if there are fewer than 3 nets, a pair has no finite value, or the level is not between 0 and 1.

    Source: Arvesen 1969, "Jackknifing U-statistics"; Wilson 1927; with an effective number of draws: Dean, Pagano 2015,
        "Evaluating confidence interval methods for binomial proportions in clustered surveys".

    >>> over_nets(torch.tensor([[1.0, 0.2, 0.3], [0.2, 1.0, 0.4], [0.3, 0.4, 1.0]])).estimate
    tensor(0.3000, dtype=torch.float64)
    """
    _check_level(level)
    k = len(value_ij)
    if value_ij.shape != (k, k) or k < 3:
        raise InputError(
            "An interval over nets needs a square table of values of at least 3 nets, not of shape "
            f"{tuple(value_ij.shape)}; train more nets."
        )
    value_ij = value_ij.detach().to("cpu", torch.float64)
    value_ij = torch.stack([value_ij, value_ij.T]).nanmean(0).masked_fill(torch.eye(k, dtype=torch.bool), 0.0)
    if not torch.isfinite(value_ij).all():
        i, j = (~torch.isfinite(value_ij)).nonzero()[0].tolist()
        raise InputError(
            f"An interval over nets needs a finite value of every pair, but nets {i} and {j} have {value_ij[i, j]}; "
            "measure that pair or leave a net out."
        )
    estimate = value_ij.sum() / (k * (k - 1))
    without_i = (value_ij.sum() - 2 * value_ij.sum(1)) / ((k - 1) * (k - 2))
    se = ((without_i - without_i.mean()).square().sum() * (k - 1) / k).sqrt()
    if bounds is None:
        return Interval.of_t(estimate, se, k - 1, level)
    least, width = bounds[0], bounds[1] - bounds[0]
    share = (estimate - least) / width
    variance = share * (1 - share)  # of a draw; at a bound 0, so that what follows is 0 / 0
    weight = (float(stats.t.ppf((1 + level) / 2, k - 1)) * se / width).square() / variance
    centre, half = (share + weight / 2) / (1 + weight), (weight * variance + weight.square() / 4).sqrt() / (1 + weight)
    low, high = (least + width * end for end in (centre - half, centre + half))
    return Interval(estimate, se, low, high, level)


def _without(pair: Pair, out_k: Tensor, rest: Moments) -> Pair:
    """The pair without some blocks of images, whose moments are `rest`."""
    parts = pair.moments, (~out_k).double()
    return replace(pair.of_moments(Moments.stack([rest])), parts=parts, energies=pair.energies)


def _value(statistic: Statistic, pair: Pair) -> Tensor:
    value = torch.as_tensor(statistic(pair), dtype=torch.float64)
    if not torch.isfinite(value).all():
        raise InputError(
            f"An interval needs a statistic that is finite on every part of the images, not {value[~value.isfinite()][0]}; "
            "leave out what is undefined, such as constant units."
        )
    return value


def _check(pair: Pair, level: float) -> None:
    _check_level(level)
    if pair.blocks < 2:
        raise InputError(
            f"An interval over images needs at least 2 blocks of images, not {pair.blocks}; measure with more blocks."
        )


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise InputError(f"The level of an interval needs to be between 0 and 1, such as 0.95, not {level}.")
