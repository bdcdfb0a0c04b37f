"""Clusters: quality and composition of clusters, their spread, and the subspaces that nets share.

Axes: `a` and `b` units of two nets, `u` units of both side by side, `c` clusters, `r` runs, `x` similarities.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

import torch
from torch import Tensor

from convergent.analysis.cluster_agreement import mean_agreement, mean_similarity, share_above
from convergent.analysis.reports import Report
from convergent.analysis.shared_subspaces import KINDS, SharedSubspace, shared_subspaces, summed_up
from convergent.core.alignment import Alignment
from convergent.core.cluster_quality import Quality, net_of
from convergent.core.pairs import Pair
from convergent.methods.spectral import SpectralClustering
from convergent.options import whole

_ABOVE = torch.linspace(0, 1, 51).double()
_MOST = 32  # units of one net in a cluster that the histogram of sizes tells apart; larger ones are counted with these


def clusters(alignment: Alignment, seeds: Annotated[int, whole(1)] = 10) -> Report | None:
    """The clusters' quality, composition, spread (`spread_runs`) and shared subspaces; None for methods without clusters."""
    if alignment.labels_a is None or alignment.labels_b is None:
        return None
    pair, label_u = alignment.pair, _labels(alignment)
    others = spread_runs(alignment, seeds)
    quality, spaces = _quality(pair, label_u), shared_subspaces(pair, label_u)
    scalars, curves = _similarities(pair, [_quality(pair, other_u) for other_u in others])
    mixed_c = (quality.units_ci > 0).all(1)
    unequal_c = mixed_c & (quality.units_ci[:, 0] != quality.units_ci[:, 1])
    scalars["rand"] = mean_agreement(others)
    if len(mixed_c):
        scalars["mixed"] = float(mixed_c.double().mean())
    if mixed_c.any():
        scalars["unequal"] = float(unequal_c.sum() / mixed_c.sum())
    scalars |= {f"subspace_{name}": value for name, value in summed_up(spaces).items()}
    return Report.of(
        pair,
        scalars=scalars,
        tables={"clusters": _rows(quality, {space.cluster: space for space in spaces})},
        curves={"similarity": {"similarity": _ABOVE.tolist(), **curves}, "units_of_one_net": _sizes(quality)},
    )


def spread_runs(alignment: Alignment, seeds: int) -> list[Tensor]:
    """Clusterings of one pair that should be alike, each of shape (u,).

    Of k-means those of so many seeds; of all else those without each fold of the images, which the held-out scores are made
    of, or the clustering itself where there are none.
    """
    pair, method = alignment.pair, alignment.refit(choices=False)
    if isinstance(method, SpectralClustering) and method.assign == "kmeans":
        return [_labels(replace(method, seed=method.seed + run)(pair)) for run in range(seeds)]
    if not pair.holds_out:
        return [_labels(alignment)]
    return [_labels(method(fit)) for fit, _ in pair.folds()]


def _labels(alignment: Alignment) -> Tensor:
    """The cluster of each unit in the order of the pair's moments, shape (u,)."""
    pair, labels_a, labels_b = alignment.pair, alignment.labels_a, alignment.labels_b
    assert labels_a is not None
    assert labels_b is not None
    return torch.cat([labels_a, labels_b] if pair.a.start < pair.b.start else [labels_b, labels_a])


def _quality(pair: Pair, label_u: Tensor) -> Quality:
    return Quality.of(pair.total.corr_uu, net_of(pair), label_u)


def _similarities(pair: Pair, runs: Sequence[Quality]) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Share of units in clusters above each similarity, and the area under it: means over the runs, and deviations."""
    active = int(pair.total.active_u.sum())
    areas: dict[str, float] = {}
    curves: dict[str, list[float]] = {}
    for name in ("between", "within"):
        of_runs = [(getattr(run, f"{name}_c"), run.units_ci.sum(1), active) for run in runs]
        share_rx = torch.stack([share_above(*run, _ABOVE) for run in of_runs])
        area_r = torch.tensor([mean_similarity(*run) for run in of_runs]).double()
        areas |= {
            f"similarity_{name}": area_r.mean().item(),
            f"similarity_{name}_spread": area_r.std(correction=0).item(),
        }
        curves |= {name: share_rx.mean(0).tolist(), f"{name}_spread": share_rx.std(0, correction=0).tolist()}
    return areas, curves


def _rows(quality: Quality, spaces: Mapping[int, SharedSubspace]) -> list[dict[str, Any]]:
    """A row per cluster, the largest first; empty cells where a cluster is too small to have a number."""
    rows = []
    for cluster, (units_a, units_b) in enumerate(quality.units_ci.tolist()):
        row: dict[str, Any] = {"cluster": cluster, "units_a": units_a, "units_b": units_b}
        for name, value_c in (("between", quality.between_c), ("within", quality.within_c)):
            row[f"similarity_{name}"] = _rounded(float(value_c[cluster]))
        space = summed_up([spaces[cluster]]) if cluster in spaces else {}
        for kind in KINDS:
            for name in (f"{kind}_correlation", f"{kind}_explained"):
                row[name] = _rounded(space.get(name, torch.nan))
        rows.append(row)
    return rows


def _sizes(quality: Quality) -> dict[str, list[float]]:
    """How many clusters have how many units of each net."""
    counted = [Counter(min(units, _MOST) for units in units_c) for units_c in quality.units_ci.T.tolist()]
    sizes = range(_MOST + 1)
    return {"units_of_one_net": list(map(float, sizes))} | {
        f"clusters_{net}": [float(count[size]) for size in sizes] for net, count in zip("ab", counted)
    }


def _rounded(value: float) -> float | None:
    return round(value, 6) if value == value else None  # NaN equals nothing
