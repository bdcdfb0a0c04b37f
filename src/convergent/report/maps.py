"""The maps of a finished result as the page takes them: for each unit its scores and the units that predict it.

Axes: `a` units of net a, `b` units of net b, `m` partners of a unit that are listed, largest weight first.
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, DTypeLike
from torch import Tensor

from convergent.storage.csv_files import read_rows
from convergent.storage.tensors import opened

LISTED = 4  # partners of a unit, per method and net
_PER_TEN_THOUSAND = 1e4  # correlations and scores are whole numbers of 16 bits
_SCORES = ("r", "r2_held_out", "best_r", "excess")  # of scores.csv; some are absent with folds=0 or without nulls

Scores = Mapping[tuple[str, str, str], Mapping[str, Sequence[float]]]  # columns by layer, a, b


def packed(values: ArrayLike, kind: DTypeLike, scale: float = 1.0) -> str:
    """Numbers as base64 of a typed array, little-endian; scores are rounded to whole numbers and clipped to their range."""
    array = np.asarray(values)
    if scale != 1 or np.issubdtype(kind, np.integer):
        limits = np.iinfo(np.dtype(kind))
        array = np.rint(np.nan_to_num(array * scale, nan=limits.min)).clip(limits.min, limits.max)
    return base64.b64encode(np.ascontiguousarray(array, np.dtype(kind).newbyteorder("<")).tobytes()).decode()


def read_scores(file: Path) -> Scores:
    """The columns of scores.csv for each (layer, a, b)."""
    columns: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    for row in read_rows(file):
        of_pair = columns.setdefault((row["layer"], row["a"], row["b"]), {})
        for name in (*_SCORES, "predictors"):
            if name in row:
                of_pair.setdefault(name, []).append(float(row[name] or "nan"))
    return columns


def maps_of(
    folder: Path, layer: str, scores: Scores, correlations: Mapping[tuple[str, str], Tensor]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """For each ordered pair "a>b" the units of b: scores, the units of a with the largest weights, clusters.

    Correlations of net a's units with net b's, by (a, b), are used as far as they are known.
    """
    with opened(folder / "alignments" / f"{layer}.safetensors") as saved:
        names = list(saved.keys())
        for (of_layer, a, b), columns in scores.items():
            if of_layer != layer:
                continue
            head = f"{a} to {b}"
            p, q = saved.get_tensor(f"{head}/shape").tolist()
            partner_bm, weight_bm = largest(saved.get_tensor(f"{head}/index_ab"), saved.get_tensor(f"{head}/weight"), q)
            parts = {
                "listed": partner_bm.shape[1],
                "partner": packed(partner_bm, np.int32),
                "weight": packed(weight_bm, np.float32),
                "predictors": packed(columns["predictors"], np.int32),
            }
            parts |= {name: packed(columns[name], np.int16, _PER_TEN_THOUSAND) for name in _SCORES if name in columns}
            if (corr_ab := correlations.get((a, b))) is not None and corr_ab.shape == (p, q):
                corr_bm = corr_ab.T.gather(1, partner_bm.clamp(min=0))
                parts["corr"] = packed(torch.where(partner_bm >= 0, corr_bm, 0.0), np.int16, _PER_TEN_THOUSAND)
            for side in ("labels_a", "labels_b"):
                if f"{head}/{side}" in names:
                    parts[side] = packed(saved.get_tensor(f"{head}/{side}"), np.int32)
            yield f"{a}>{b}", parts


def largest(index_ab: Tensor, weight: Tensor, q: int) -> tuple[Tensor, Tensor]:
    """The units of a with the largest weights for each unit of b: numbers (-1 for none) and weights, shape (q, m).

    >>> largest(torch.tensor([[0, 1, 2], [0, 0, 1]]), torch.tensor([0.1, -0.5, 0.3]), 3)[0]
    tensor([[ 1,  0],
            [ 2, -1],
            [-1, -1]])
    """
    order = weight.abs().argsort(descending=True, stable=True)
    order = order[index_ab[1, order].argsort(stable=True)]
    unit_b = index_ab[1, order]
    count_b = torch.bincount(unit_b, minlength=q)
    rank = torch.arange(len(order)) - (count_b.cumsum(0) - count_b)[unit_b]
    m = max(1, min(LISTED, int(count_b.max()) if len(order) else 1))
    listed = rank < m
    partner_bm, weight_bm = torch.full((q, m), -1), torch.zeros(q, m, dtype=weight.dtype)
    partner_bm[unit_b[listed], rank[listed]] = index_ab[0, order][listed]
    weight_bm[unit_b[listed], rank[listed]] = weight[order][listed]
    return partner_bm, weight_bm
