"""An alignment of a sparse record: every unit of b has one predictor or none, and only these pairs are ever looked at.

Axes: `a` units of net a, `b` units of net b, `j` units of b that have a partner.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from convergent.core.alignment import Alignment
from convergent.core.prediction import Prediction, r2
from convergent.core.sparse_moments import Correlations, SparseMoments, at

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from convergent.core.pairs import Pair


class PartnerAlignment(Alignment):
    """Its `map_ab` is a sparse tensor with at most one entry for each unit of b."""

    @classmethod
    def of(cls, pair: Pair, partner_b: Tensor, solver: Mapping[str, float] | None = None) -> Self:
        """The alignment in which every unit of b is predicted from a partner, -1 for none."""
        j = (partner_b >= 0).nonzero()[:, 0]
        r_j = corr_of(pair, partner_b[j], j)
        map_ab = torch.sparse_coo_tensor(torch.stack([partner_b[j], j]), r_j, (pair.p, pair.q), check_invariants=True)
        return cls(pair, map_ab.coalesce(), solver=dict(solver or {}))

    @cached_property
    def _entries(self) -> tuple[Tensor, Tensor, Tensor]:
        """The partners, the units of b that have them, and weights, shape (j,) each."""
        a, j = self.map_ab.indices()
        return a, j, self.map_ab.values()

    @cached_property
    def predictors_b(self) -> Tensor:
        """How many units of a predict each unit of b, shape (q,)."""
        _, j, weight_j = self._entries
        return torch.zeros(self.pair.q, dtype=torch.long).index_put((j,), (weight_j != 0).long())

    @cached_property
    def partner_b(self) -> Tensor:
        """The unit of a that predicts each unit of b, shape (q,); -1 for none."""
        a, j, weight_j = self._entries
        return torch.full((self.pair.q,), -1).index_put((j,), torch.where(weight_j != 0, a, -1))

    @cached_property
    def r_b(self) -> Tensor:
        """Correlation of each unit of b with its partner, shape (q,)."""
        _, j, weight_j = self._entries
        return torch.zeros(self.pair.q, dtype=torch.float64).index_put((j,), weight_j)

    @cached_property
    def score_b(self) -> Tensor:
        """Share of each unit's variance explained on the images of the fit, shape (q,)."""
        return self.r_b.square()

    def _held_out(self) -> Tensor:
        error_b, sst_b = torch.zeros(2, self.pair.q, dtype=torch.float64)
        for fit, rest in self.pair.folds():
            alignment = self.refit(choices=False)(fit)
            assert isinstance(alignment, PartnerAlignment)
            error, sst = alignment.errors(rest)
            error_b, sst_b = error_b + error, sst_b + sst
        return r2(error_b, sst_b)

    @cached_property
    def _of_folds(self) -> tuple[Tensor, list[Prediction]]:
        return self._held_out(), []

    def errors(self, on: Pair) -> tuple[Tensor, Tensor]:
        """Squared errors of the predictions and of the fit's means on other samples, see `prediction.errors`."""
        fit, there = self.pair.total, on.total
        count, gap_u = there.count, there.mean_u - fit.mean_u
        scatter_u = there.count * there.sd_u.square()
        a, j, weight_j = self._entries
        gap_b, sst_b = gap_u[on.b], scatter_u[on.b] + count * gap_u[on.b].square()
        raw_j = fit.scale_u[on.a][a] * weight_j * fit.sd_u[on.b][j]
        off_j = gap_u[on.a][a] * raw_j
        cross_j = raw_j * _scatter_of(on, a, j) + count * off_j * gap_b[j]
        square_j = raw_j.square() * scatter_u[on.a][a] + count * off_j.square()
        return sst_b.index_add(0, j, square_j - 2 * cross_j), sst_b


def correlations(pair: Pair) -> Correlations:
    """The correlations of a pair whose record is sparse, net a's units first."""
    return Correlations.of(cast(SparseMoments, pair.total), flipped=pair.a.start > pair.b.start)


def corr_of(pair: Pair, a: Tensor, b: Tensor) -> Tensor:
    """The correlations of some pairs of units, whatever the record."""
    if not pair.sparse:
        return pair.corr_ab[a, b]
    total = pair.total
    sd_u, scale_u = total.sd_u * total.active_u, total.scale_u
    covariance = _scatter_of(pair, a, b) / total.count.clamp(min=1)
    both = scale_u[pair.a][a] * scale_u[pair.b][b]
    return (covariance * both * (sd_u[pair.a][a] > 0)).clamp(-1, 1)


def _scatter_of(pair: Pair, a: Tensor, b: Tensor) -> Tensor:
    """Centred sums of products of some pairs of units of a sparse record."""
    total = cast(SparseMoments, pair.total)
    rows, columns = (a, b) if pair.a.start < pair.b.start else (b, a)
    raw = torch.from_numpy(np.asarray(at(total.products[0], rows.numpy(), columns.numpy()), dtype=np.float64))
    return raw - total.count * total.mean_u[pair.a][a] * total.mean_u[pair.b][b]
