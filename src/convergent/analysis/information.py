"""Mutual information of units with their partners, in nats, beside the partners that correlation gives.

Axes: `a` units of net a, `b` units of net b.
"""

from dataclasses import replace
from typing import Any

from torch import Tensor

from convergent.analysis.reports import Report
from convergent.core.alignment import Alignment
from convergent.core.histogram_source import counting_of
from convergent.core.mutual_information import information
from convergent.core.pairs import Pair
from convergent.methods.matching import Matching
from convergent.methods.mutual_information import MutualInformation, histograms_of
from convergent.methods.semimatching import SemiMatching

BEST = 8  # pairs that the paper shows


def nats(alignment: Alignment) -> Report | None:
    """Nats with each partner, beside correlation's partners; None without joint histograms or for several predictors."""
    pair, method = alignment.pair, alignment.method
    if pair.joint is None or bool((alignment.predictors_b > 1).any()):
        return None
    if not isinstance(method, MutualInformation):
        counting = counting_of(method)
        method = MutualInformation() if counting is None else replace(MutualInformation(), bins=counting.bins)
    histograms, (first, second) = histograms_of(pair, method.bins)
    nats_ab = information(histograms, first, second, method.correct)
    by_r = Matching() if method.assignment == "matching" else SemiMatching()
    partner_b, other_b = alignment.partner_b, by_r(pair).partner_b
    b = (partner_b >= 0).nonzero()[:, 0]
    if not len(b):
        return Report.of(pair)
    nats_b = nats_ab[partner_b[b], b]
    b = b[nats_b.argsort(descending=True, stable=True)]
    rows = [_row(pair, nats_ab, unit, int(partner_b[unit]), int(other_b[unit])) for unit in b.tolist()]
    same = [row["same"] for row in rows]
    scalars = {
        "nats": float(nats_b.mean()),
        "mean_abs_r": sum(abs(row["r"]) for row in rows) / len(rows),
        "same_partner": sum(same) / len(rows),
        f"same_partner_of_best_{BEST}": sum(same[:BEST]) / len(same[:BEST]),
    }
    curve = {"rank": list(range(1, len(rows) + 1)), "nats": [row["nats"] for row in rows]}
    return Report.of(pair, scalars=scalars, tables={"partners": rows}, curves={"rank": curve})


def _row(pair: Pair, nats_ab: Tensor, unit: int, partner: int, by_r: int) -> dict[str, Any]:
    """What there is to say of one unit of b."""
    return {
        "unit": unit,
        "partner": partner,
        "nats": round(nats_ab[partner, unit].item(), 6),
        "r": round(pair.corr_ab[partner, unit].item(), 6),
        "partner_by_r": by_r,
        "nats_by_r": round(nats_ab[by_r, unit].item(), 6) if by_r >= 0 else None,
        "best_r": round(pair.corr_ab[by_r, unit].item(), 6) if by_r >= 0 else None,
        "same": int(partner == by_r),
    }
