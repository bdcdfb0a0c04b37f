"""What few units and all units gain on each block of images, and what these gains say beyond their noise.

A gain is how much smaller the squared error is than that of predicting the mean, in b's own units.

Axes: `a` units of net a, `b` units of net b, `m` predictors per unit, `i` and `j` these units, `k` blocks of images.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from convergent.analysis.intervals import of_sum
from convergent.core.moments import Moments
from convergent.core.pairs import Pair
from convergent.core.prediction import errors
from convergent.core.regression import best_ridge, predictors, ridge_map
from convergent.methods.solvers.selection import selected_weights

CODES = ("local", "slightly_distributed", "distributed", "undecided", "unpredicted")
FEW = 8  # units that a slightly distributed code uses at the most
_WITHIN = 0.95  # of what all explain
_LEVEL = 0.95  # of the intervals over blocks of images beyond which a difference must be


@dataclass(frozen=True, eq=False)
class Gains:
    """Gains on each block of images; nothing is summed up before its noise is known.

    Attributes:
        count_k: samples of each block, shape (k,).
        total_kb: squared error of predicting the mean, on blocks left out of the fit, shape (k, b).
        all_kb: gain by all units, least squares with the best ridge, on blocks left out, shape (k, b).
        best_kmb: gain by the best 1, 2, ... 8 units, chosen forward, least squares, on blocks left out, shape (k, m, b).
        fitted_kmb: the same on the very blocks that they were chosen and fitted on, shape (k, m, b).
    """

    count_k: Tensor
    total_kb: Tensor
    all_kb: Tensor
    best_kmb: Tensor
    fitted_kmb: Tensor

    @classmethod
    def of(cls, pair: Pair, b: Tensor) -> Gains:
        """Those of some units of b, numbers of shape (b,), in a pair that holds images out."""
        n = min(pair.held_out_folds, pair.blocks)
        of_block: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
        for fold, (fit, _) in enumerate(pair.folds()):
            few, map_ab = _Few.of(fit, b), ridge_map(fit, best_ridge(fit, b), units_b=b)
            for k in range(fold, pair.blocks, n):
                block = _block(pair, k)
                gain_mb, total_b = few.gains(fit, block)
                of_block[k] = total_b, total_b - errors(map_ab, fit, block)[0][b], gain_mb
        few = _Few.of(pair, b)
        fitted_kmb = torch.stack([few.gains(pair, _block(pair, k))[0] for k in range(pair.blocks)])
        total_kb, all_kb, best_kmb = (torch.stack(parts) for parts in zip(*(of_block[k] for k in range(pair.blocks))))
        return cls(pair.moments.count, total_kb, all_kb, best_kmb, fitted_kmb)

    def codes(self) -> Tensor:
        """The code of each unit, its number in `CODES`, shape (b,).

        A unit is predicted at all if what all units gain is above 0 by more than its noise. So many of the best units do as
        well as all if, on images left out, they gain more than 95% of what all do; they cannot if they gain less even on
        the images that they were chosen and fitted on. Each by more than its noise between blocks of images (95%).
        Local: one unit does; slightly distributed: one cannot, some two to eight do; distributed: eight cannot;
        undecided: these images do not tell.
        """
        predicted_b = self._sure(self.all_kb)
        enough_kmb = _WITHIN * self.all_kb[:, None]
        does_mb = self._sure(self.best_kmb - enough_kmb)
        cannot_mb = self._sure(enough_kmb - self.fitted_kmb)
        code_b = torch.full(predicted_b.shape, CODES.index("undecided"))
        code_b[cannot_mb[-1]] = CODES.index("distributed")
        code_b[cannot_mb[0] & does_mb.any(0)] = CODES.index("slightly_distributed")
        code_b[does_mb[0]] = CODES.index("local")
        code_b[~predicted_b] = CODES.index("unpredicted")
        return code_b

    def _sure(self, gain_k: Tensor) -> Tensor:
        """Whether the sum over blocks is above 0 by more than its noise."""
        return of_sum(gain_k, self.count_k, _LEVEL).low > 0


@dataclass(frozen=True, eq=False)
class _Few:
    """The best few units of each of b's, as they are chosen, and their weights where m of them are used, else 0."""

    b: Tensor
    chosen_ib: Tensor
    weight_mib: Tensor

    @classmethod
    def of(cls, fit: Pair, b: Tensor) -> _Few:
        corr_aa, corr_ab = predictors(fit)
        return cls(b, *selected_weights(corr_aa, corr_ab[:, b], FEW))

    def gains(self, fit: Pair, on: Pair) -> tuple[Tensor, Tensor]:
        """Gains, shape (m, b), and the mean's squared errors, shape (b,): `prediction.errors` for maps of few units."""
        b, chosen_ib, moments = self.b, self.chosen_ib, on.total
        gap_u = moments.mean_u - fit.total.mean_u
        gap_ib, gap_b = gap_u[fit.a][chosen_ib], gap_u[fit.b][b]
        raw_mib = self.weight_mib * fit.total.scale_u[fit.a][chosen_ib] * fit.total.sd_u[fit.b][b]
        within_ijb = (
            moments.scatter_uu[fit.a, fit.a][chosen_ib[:, None], chosen_ib] + moments.count * gap_ib[:, None] * gap_ib
        )
        cross_ib = moments.scatter_uu[fit.a, fit.b][chosen_ib, b] + moments.count * gap_ib * gap_b
        total_b = moments.scatter_uu.diagonal()[fit.b][b] + moments.count * gap_b.square()
        square_mb = (torch.einsum("mib,ijb->mjb", raw_mib, within_ijb) * raw_mib).sum(1)
        return 2 * (raw_mib * cross_ib).sum(1) - square_mb, total_b


def _block(pair: Pair, k: int) -> Pair:
    """The pair of one block of images alone."""
    moments, block = pair.moments, slice(k, k + 1)
    return pair.of_moments(Moments(moments.count[block], moments.mean_u[block], moments.scatter_uu[block]))
