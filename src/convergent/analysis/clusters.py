"""What clusterings have to tell: quality and composition of clusters, their spread, and the subspaces that nets share.

Axes: `a` and `b` units of two nets, `u` units of both side by side, `c` clusters, `r` runs, `x` similarities.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from convergent.analysis.cluster_quality import Quality, mean_agreement, mean_similarity, net_of, share_above
from convergent.analysis.findings import Findings
from convergent.analysis.shared_subspaces import KINDS, SharedSubspace, shared_subspaces, summed_up
from convergent.figures.clusters import clusters
from convergent.figures.composition import composition
from convergent.figures.similarity import similarity
from convergent.figures.subspaces import subspaces

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure
    from torch import Tensor

    from convergent.core.alignment import Alignment
    from convergent.core.pairs import Pair
    from convergent.methods.spectral import SpectralClustering

_ABOVE = torch.linspace(0, 1, 51).double()
_MOST = 32  # units of one net in a cluster that the histogram of sizes tells apart; larger ones are counted with these


def tell_of(method: SpectralClustering, pair: Pair, alignment: Alignment) -> Findings:
    """What there is to tell of one pair's clusters."""
    assert alignment.labels_a is not None
    assert alignment.labels_b is not None
    label_u = torch.empty(pair.p + pair.q, dtype=torch.long)
    label_u[pair.a], label_u[pair.b] = alignment.labels_a, alignment.labels_b
    runs = spread_runs(method, pair)
    quality, spaces = _quality(pair, label_u), shared_subspaces(pair, label_u)
    areas, curves = _similarities(pair, [_quality(pair, run_u) for run_u in runs])
    mixed_c = (quality.units_ci > 0).all(1)
    unequal_c = mixed_c & (quality.units_ci[:, 0] != quality.units_ci[:, 1])
    figures = areas | {"rand": mean_agreement(runs)}
    if len(mixed_c):
        figures["mixed"] = float(mixed_c.double().mean())
    if mixed_c.any():
        figures["unequal"] = float(unequal_c.sum() / mixed_c.sum())
    figures |= {f"subspace_{name}": value for name, value in summed_up(spaces).items()}
    return Findings.of(
        pair,
        figures=figures,
        tables={"clusters": _rows(quality, {space.cluster: space for space in spaces})},
        curves={"similarity": {"similarity": _ABOVE.tolist(), **curves}, "units_of_one_net": _sizes(quality)},
        drawings={"clusters": lambda: clusters(pair, alignment)},
    )


def overview_of(told: Sequence[Findings]) -> Mapping[str, Figure]:
    """Quality, composition and subspaces over all layers and pairs of nets."""
    return {
        "similarity": similarity(told),
        "composition": composition(told),
        "subspaces": subspaces(told),
    }


def spread_runs(method: SpectralClustering, pair: Pair) -> list[Tensor]:
    """Clusterings of one pair that should be alike: other seeds of k-means, or else all images but a part of them.

    Each has shape (u,). As many as `method.runs`, at most one per block of images where these are what is left out, and the
    clustering itself where there is but one block.
    """
    if method.assign == "kmeans":
        return [_labels(replace(method, seed=method.seed + run), pair) for run in range(method.runs)]
    if min(method.runs, pair.blocks) < 2:
        return [_labels(method, pair)]
    return [_labels(method, fit) for fit, _ in pair.folds(method.runs)]


def _labels(method: SpectralClustering, pair: Pair) -> Tensor:
    return torch.from_numpy(method.cluster(pair.total, net_of(pair), pair.layer).label_u)


def _quality(pair: Pair, label_u: Tensor) -> Quality:
    return Quality.of(pair.total.corr_uu, net_of(pair), label_u)


def _similarities(pair: Pair, runs: Sequence[Quality]) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Share of units in clusters above each similarity, and the area under it: means over the runs, and deviations."""
    active = int(pair.total.active_u.sum())
    areas: dict[str, float] = {}
    curves: dict[str, list[float]] = {}
    for name in ("between", "within"):
        given = [(getattr(run, f"{name}_c"), run.units_ci.sum(1), active) for run in runs]
        share_rx = torch.stack([share_above(*one, _ABOVE) for one in given])
        area_r = torch.tensor([mean_similarity(*one) for one in given]).double()
        areas |= {
            f"similarity_{name}": float(area_r.mean()),
            f"similarity_{name}_spread": float(area_r.std(correction=0)),
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
