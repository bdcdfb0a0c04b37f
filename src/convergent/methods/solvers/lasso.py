"""The lasso, exactly: every unit of net b from few units of net a, for all of b's units together, from correlations alone.

For each target minimise (1 - R^2) / 2 + alpha |w|_1 = 1/2 - w.g + w.G w / 2 + alpha |w|_1, G the correlations within a and g
those with the target. Three steps. ADMM with one inverse for all targets comes near; it is one matrix product an iteration.
From their signs, a Cholesky factorisation per target, of the units in use or, of most, those not in use,
solves the problem on them exactly, and wrong units are exchanged at once. The duality gap then proves the optimum; targets
without proof go on.

Axes: `a` units of net a, `i` those that vary without copies, `b` targets, `m` targets that are being worked on,
`t` some of those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import torch
from torch import Tensor

from convergent.errors import InputError
from convergent.methods.solvers.supports import on_most, on_supports

_PROVED = 1e-10  # relative duality gap at which a solution is taken
_RELAX = 1.7  # over-relaxation, Boyd et al. section 3.4.3
_DUE = 0.1  # gap below which the signs are tried first
_SOON = 8  # iterations before a first look, at columns of few units in use
_FEW = 32  # such units, up to which signs are tried once whatever the gap, for little time is lost
_CHECK = 15  # iterations between further looks, at the gaps
_EXCHANGES = 10  # of wrong units, before ADMM goes on
_STAGES = ((torch.float32, 15), (torch.float64, 5))  # looks in either: float32 finds most supports in half the time
_MOST = 0.5  # of all units: a support of more goes by those not in it
_CONDITION = 1e7  # of G, up to which its inverse is good for supports of most units
_TRACE = 1e-11  # of ridge, where units may depend on one another
_COPY = 1e-14  # below 1, what rounding leaves of the correlation of a unit with its copy
_FLAT = 1e-2  # variance that is added to every axis before their mean is taken


@dataclass(frozen=True, eq=False)
class Solution:
    """The lasso's weights for one penalty, with their certificate.

    Attributes:
        map_ab: weights on standardised units, shape (p, q).
        gap_b: duality gap as a share of 1/2, the loss of predicting the mean, shape (q,): a bound of what is lost.
        kkt_b: how far the optimum's conditions are violated, as a correlation, shape (q,): units in use have
            |g - G w| = alpha with the weight's sign, all others no more than alpha.
    """

    map_ab: Tensor
    gap_b: Tensor
    kkt_b: Tensor


def lasso(corr_aa: Tensor, corr_ab: Tensor, penalties: Sequence[float], *, positive: bool = False) -> list[Solution]:
    """The lasso of every column of corr_ab for each penalty.

    Copies of one unit of a share the weight, for then the minimum is not unique.

    Args:
        corr_aa: correlations of the units that predict, shape (p, p), float64, any device; rows of constant units are 0.
        corr_ab: their correlations with the targets, shape (p, q).
        penalties: alpha as scikit-learn's `Lasso` has it, on standardised units; above 0, in any order.
        positive: only weights of 0 and above.

    Returns:
        One for each penalty.

    Raises:
        InputError: if a penalty is not above 0.

    Source: Boyd, Parikh, Chu, Peleato, Eckstein 2011, "Distributed optimization and statistical learning via ADMM",
        section 6.4; Osborne, Presnell, Turlach 2000, "On the lasso and its dual" (gap).

    >>> lasso(torch.eye(2).double(), torch.tensor([[0.5], [-0.2]]).double(), [0.3])[0].map_ab.T  # soft thresholding
    tensor([[0.2000, 0.0000]], dtype=torch.float64)
    """
    if wrong := [alpha for alpha in penalties if not alpha > 0]:
        raise InputError(f"A penalty of the lasso needs to be above 0, not {wrong[0]}.")
    given, (i, place_a, share_a) = _Problem(corr_aa, positive), _alike(corr_aa, positive)
    problem, corr_ib = _Problem(corr_aa[i][:, i], positive), corr_ab[i]
    near_ib, solutions = torch.zeros_like(corr_ib), dict[float, Solution]()
    for alpha in sorted(set(penalties), reverse=True):
        near_ib = problem.solve(corr_ib, alpha, near_ib)
        solutions[alpha] = given.proved(corr_ab, near_ib[place_a] * share_a[:, None], alpha)
    return [solutions[alpha] for alpha in penalties]


def _alike(corr_aa: Tensor, positive: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Units that vary, one of each set of copies: with several every system of theirs would be singular.

    Returns:
        Their numbers, shape (i,); for each unit of a its place among them, and its share of the weight there, negative for a
        copy of opposite sign, 0 for a constant unit, shape (a,).
    """
    a = torch.arange(len(corr_aa), device=corr_aa.device)
    like_aa = (corr_aa if positive else corr_aa.abs()) > 1 - _COPY
    like_aa.fill_diagonal_(True)  # however its correlation with itself was rounded
    first_a = like_aa.to(torch.uint8).argmax(1)
    first_a = torch.where(first_a[first_a] == first_a, first_a, a)
    active_a = corr_aa.diagonal() > 0
    active_a[0] |= ~active_a.any()  # of none that vary there is one, which gets no weight
    i, place_a = torch.unique(first_a[active_a]), torch.zeros_like(a)
    place_a[active_a] = torch.searchsorted(i, first_a[active_a])
    copies_i = torch.bincount(place_a[active_a], minlength=len(i))
    return i, place_a, corr_aa[a, first_a].sign() * active_a / copies_i[place_a]


@dataclass
class _Columns:
    """What is being worked on: a column per target."""

    target: Tensor  # its number, shape (m,)
    corr: Tensor  # with the units of a, shape (a, m)
    weight: Tensor  # of ADMM, shape (a, m)
    dual: Tensor  # of ADMM, scaled by 1 / rho, shape (a, m)
    due: Tensor  # the gap below which the signs are tried next, shape (m,)

    def select(self, some_m: Tensor) -> _Columns:
        return _Columns(*(getattr(self, name.name)[..., some_m] for name in fields(self)))


class _Problem:
    """The lasso from some units, to be solved from those that vary and are no copies of one another."""

    def __init__(self, corr_aa: Tensor, positive: bool) -> None:
        self.corr_aa, self.positive = corr_aa, positive

    @cached_property
    def precision(self) -> Tensor | None:
        """G^-1, where it has enough digits."""
        factor_aa, failed = torch.linalg.cholesky_ex(self.corr_aa)
        precision_aa = torch.cholesky_inverse(factor_aa) if not failed else factor_aa * torch.inf
        condition = torch.linalg.matrix_norm(self.corr_aa, 1) * torch.linalg.matrix_norm(precision_aa, 1)
        return precision_aa if condition < _CONDITION else None

    @cached_property
    def inverse(self) -> tuple[float, Tensor]:
        """ADMM's penalty rho, the geometric mean of the variances along G's axes, and (G + rho)^-1.

        Source: Ghadimi, Teixeira, Shames, Johansson 2015, "Optimal parameter selection for the alternating direction method
            of multipliers (ADMM): quadratic problems" (of the least and largest variance, which few targets see alone).
        """
        eye_aa = torch.eye(len(self.corr_aa), dtype=self.corr_aa.dtype, device=self.corr_aa.device)
        factor_aa = torch.linalg.cholesky(self.corr_aa + _FLAT * eye_aa)
        rho = float(factor_aa.diagonal().log().mean().exp().square())
        return rho, torch.cholesky_inverse(torch.linalg.cholesky(self.corr_aa + rho * eye_aa))

    def solve(self, corr_am: Tensor, alpha: float, near_am: Tensor) -> Tensor:
        """The weights of all columns, from such as may be near."""
        map_am = torch.zeros_like(corr_am)
        reach_m = (corr_am if self.positive else corr_am.abs()).amax(0)
        target = (reach_m > alpha).nonzero()[:, 0]  # the others' weights are 0
        if len(target):
            self._iterate(target, corr_am[:, target], alpha, near_am[:, target], map_am)
        return map_am

    def proved(self, corr_am: Tensor, map_am: Tensor, alpha: float) -> Solution:
        """Weights with their certificate."""
        left_am = corr_am - self.corr_aa @ map_am
        gap_m = self._gap(corr_am, left_am, map_am, alpha)
        return Solution(map_am, gap_m, self._violation(left_am, map_am, alpha))

    def _iterate(self, target: Tensor, corr_am: Tensor, alpha: float, near_am: Tensor, map_am: Tensor) -> None:
        """ADMM and polishing until every target is proved, or precision ends; results go into `map_am`."""
        rho, iterations = self.inverse[0], _SOON
        left_am = corr_am - self.corr_aa @ near_am if near_am.any() else corr_am
        dual_am = (left_am / rho).clamp(-alpha / rho, alpha / rho)
        live = _Columns(target, corr_am, near_am, dual_am, torch.full_like(corr_am[0], _DUE))
        for dtype, looks in _STAGES:
            corr_aa, inverse_aa = self.corr_aa.to(dtype), self.inverse[1].to(dtype)
            live.weight, live.dual = live.weight.to(dtype), live.dual.to(dtype)
            for _ in range(looks):
                corr_am = live.corr.to(dtype)
                self._admm(live, corr_am, inverse_aa, alpha / rho, rho, iterations)
                tried_m = (live.weight.count_nonzero(0) <= _FEW) & (live.due == _DUE)
                if iterations == _CHECK:
                    tried_m |= self._gap(corr_am, corr_am - corr_aa @ live.weight, live.weight, alpha) < live.due
                tried, iterations = tried_m.nonzero()[:, 0], _CHECK
                if not len(tried):
                    continue
                polished_at, proved_t = self._polish(live.corr[:, tried], alpha, live.weight[:, tried].double())
                map_am[:, live.target[tried[proved_t]]] = polished_at[:, proved_t]
                live.due[tried] *= 0.1
                on_m = torch.ones_like(tried_m)
                on_m[tried[proved_t]] = False
                live = live.select(on_m)
                if not len(live.target):
                    return
        map_am[:, live.target] = self._descend(live.corr, alpha, live.weight.double())

    def _admm(
        self, live: _Columns, corr_am: Tensor, inverse_aa: Tensor, step: float, rho: float, iterations: int
    ) -> None:
        for _ in range(iterations):
            smooth_am = inverse_aa @ torch.add(corr_am, live.weight - live.dual, alpha=rho)
            raw_am = smooth_am.mul_(_RELAX).add_(live.weight, alpha=1 - _RELAX).add_(live.dual)
            live.dual = raw_am.clamp(max=step) if self.positive else raw_am.clamp(-step, step)
            live.weight = raw_am - live.dual

    def _polish(self, corr_am: Tensor, alpha: float, near_am: Tensor) -> tuple[Tensor, Tensor]:
        """The exact solutions from weights whose signs are nearly right, and which of them are proved."""
        sign_am, weight_am = near_am.sign(), torch.zeros_like(corr_am)
        proved_m = torch.zeros_like(corr_am[0], dtype=torch.bool)
        todo = torch.arange(len(proved_m), device=corr_am.device)
        for _ in range(_EXCHANGES):
            sign_at, corr_at = sign_am[:, todo], corr_am[:, todo]
            weight_at = self._on(corr_at - alpha * sign_at, sign_at != 0)
            left_at = corr_at - self.corr_aa @ weight_at
            over_at = left_at if self.positive else left_at.abs()
            flipped_at = weight_at * sign_at < 0
            missed_at = (over_at > alpha * (1 + 1e-9)) & (sign_at == 0)
            gap_t = self._gap(corr_at, left_at, weight_at, alpha)
            right_t = ~(flipped_at | missed_at).any(0) & (gap_t < _PROVED)
            weight_am[:, todo], proved_m[todo] = weight_at, right_t
            sign_am[:, todo] = torch.where(missed_at, left_at.sign(), torch.where(flipped_at, 0.0, sign_at))
            todo = todo[~right_t]
            if not len(todo):
                break
        return weight_am, proved_m

    def _on(self, right_at: Tensor, used_at: Tensor) -> Tensor:
        """The solutions of linear systems on the units in use."""
        most_t = used_at.sum(0) > _MOST * len(used_at)
        if not most_t.any() or self.precision is None:
            return on_supports(self.corr_aa, right_at, used_at)
        weight_at = torch.empty_like(right_at)
        weight_at[:, most_t] = on_most(self.precision, right_at[:, most_t], used_at[:, most_t])
        weight_at[:, ~most_t] = on_supports(self.corr_aa, right_at[:, ~most_t], used_at[:, ~most_t])
        return weight_at

    def _descend(self, corr_am: Tensor, alpha: float, weight_am: Tensor) -> Tensor:
        """The exact solutions from any weights: steps that only go down, one unit in or out at a time, so they end.

        Source: Lee, Battle, Raina, Ng 2006, "Efficient sparse coding algorithms" (feature-sign search).
        """
        # a trace of ridge turns a direction without curvature into a long step, which ends where a weight reaches 0
        ridged_aa = self.corr_aa + _TRACE * torch.eye(len(corr_am), dtype=corr_am.dtype, device=corr_am.device)
        weight_am, sign_am = weight_am.clone(), weight_am.sign()
        todo = torch.arange(weight_am.shape[1], device=corr_am.device)
        for _ in range(5 * len(corr_am)):
            if not len(todo):
                break
            corr_at, sign_at, from_at = corr_am[:, todo], sign_am[:, todo], weight_am[:, todo]
            to_at = on_supports(ridged_aa, corr_at - alpha * sign_at, sign_at != 0)
            crossing_at = (to_at * sign_at < 0).double()
            share_at = torch.where(crossing_at > 0, from_at / torch.where(crossing_at > 0, from_at - to_at, 1.0), 1.0)
            share_t, first_t = share_at.min(0)
            weight_at = from_at + share_t * (to_at - from_at)
            whole_t = share_t >= 1
            t = torch.arange(len(todo), device=corr_am.device)
            for at in (weight_at, sign_at):
                at[first_t[~whole_t], t[~whole_t]] = 0.0
            left_at = corr_at - ridged_aa @ weight_at
            over_at = (left_at if self.positive else left_at.abs()).masked_fill(sign_at != 0, -torch.inf)
            over_t, next_t = over_at.max(0)
            into_t = whole_t & (over_t > alpha * (1 + 1e-9))
            sign_at[next_t[into_t], t[into_t]] = left_at[next_t[into_t], t[into_t]].sign()
            weight_am[:, todo], sign_am[:, todo] = weight_at, sign_at
            todo = todo[~whole_t | into_t]
        exact_am, proved_m = self._polish(corr_am, alpha, weight_am)
        return torch.where(proved_m, exact_am, weight_am)

    def _gap(self, corr_am: Tensor, left_am: Tensor, weight_am: Tensor, alpha: float) -> Tensor:
        """Relative duality gaps; the dual point is the residual, shrunk until it is feasible. Without cancellation."""
        most_m = (left_am if self.positive else left_am.abs()).amax(0).clamp(min=alpha)
        shrunk_m = alpha / most_m
        residual_m = (1 - (weight_am * (corr_am + left_am)).sum(0)).clamp(min=0)  # variance left
        slack_m = alpha * weight_am.abs().sum(0) - shrunk_m * (weight_am * left_am).sum(0)
        return residual_m * (1 - shrunk_m) ** 2 + 2 * slack_m

    def _violation(self, left_am: Tensor, weight_am: Tensor, alpha: float) -> Tensor:
        unused_am = ((left_am if self.positive else left_am.abs()) - alpha).clamp(min=0)
        used_am = (left_am - alpha * weight_am.sign()).abs()
        return torch.where(weight_am == 0, unused_am, used_am).amax(0)
