"""The RV coefficient: linear CKA of standardised units, and the same less what chance gives.

Axes: `a` units of net a, `b` units of net b.
"""

from __future__ import annotations

from convergent.core.pairs import Pair
from convergent.similarity.shared import shared, vary


def rv(pair: Pair) -> float | None:
    """|corr_ab|^2 / (|corr_aa| |corr_bb|) in Frobenius' norm: every unit counts alike, unlike in `cka.cka`.

    Between 0 and 1. Ignores a gain per unit, permutations and every net twice; not rotations.

    Returns:
        None where all units of a net are constant.

    Source: Robert, Escoufier 1976, "A unifying tool for linear multivariate statistical methods: the RV-coefficient".
    """
    if not vary(pair):
        return None
    aa, ab, bb = _squares(pair)
    return float(ab / (aa * bb) ** 0.5)


def rv_adjusted(pair: Pair) -> float | None:
    """(RV - E) / (1 - E), E being the mean of RV where the samples of one net are permuted: 0 by chance, at most 1.

    Permuting samples supposes that they are independent. Ignores what `rv` ignores.

    Returns:
        None where all units of a net are constant, or RV is 1 whatever is permuted.

    Source: El Ghaziri, Qannari 2015, "Measures of association between two datasets; application to sensory data"; the mean:
        Kazi-Aoual et al. 1995.
    """
    if (value := rv(pair)) is None:
        return None
    aa, _, bb = _squares(pair)
    p, q = int(pair.active_a.sum()), int(pair.active_b.sum())
    by_chance = p * q / (aa * bb) ** 0.5 / (pair.count - 1)
    return (value - by_chance) / (1 - by_chance) if by_chance < 1 else None


def _squares(pair: Pair) -> tuple[float, float, float]:
    a, b = sorted((pair.a, pair.b), key=lambda units: units.start)

    def made() -> tuple[float, float, float]:
        aa, ab, bb = (float(pair.total.corr(*nets).square().sum()) for nets in ((a, a), (a, b), (b, b)))
        return aa, ab, bb

    return shared(pair, "rv", made, a, b)
