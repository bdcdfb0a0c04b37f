"""Measures that moments do not determine: they are of a sample of the samples, and say so."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from convergent.core.pairs import Pair
from convergent.similarity.measure import Measure
from convergent.similarity.shared import vary

M = TypeVar("M", bound=Callable[..., float | None])

MOST = 5_000  # samples


def of_samples(measure: M) -> M:
    """Mark a measure that needs samples: a pass then keeps some."""
    measure.of_samples = True  # type: ignore[attr-defined]
    return measure


def needs_samples(measure: Measure) -> bool:
    """Whether a measure, or what it is a partial of, is marked so."""
    return bool(getattr(getattr(measure, "func", measure), "of_samples", False))


def sampled(pair: Pair) -> tuple[Tensor, Tensor] | None:
    """Some samples of both nets, float64, shapes (n, p) and (n, q), less their means; None where there are none.

    Of more than `MOST` samples as many are drawn, always the same ones.
    """
    if pair.samples is None or not vary(pair):
        return None
    n = len(pair.samples[0])
    rows = torch.randperm(n, generator=torch.Generator().manual_seed(0))[:MOST].sort().values
    x_na, x_nb = (x[rows].double() for x in pair.samples)
    return x_na - x_na.mean(0), x_nb - x_nb.mean(0)


def distances(pair: Pair) -> tuple[Tensor, Tensor] | None:
    """Squared Euclidean distances between these samples in both nets, shape (n, n) each."""
    if (both := sampled(pair)) is None:
        return None

    def made(x_nu: Tensor) -> Tensor:
        energy_n = x_nu.square().sum(1)
        return (energy_n[:, None] + energy_n - 2 * x_nu @ x_nu.T).clamp_(min=0).fill_diagonal_(0)

    return made(both[0]), made(both[1])
