"""What the report page shows of an experiment, gathered from its finished results: any method's, whatever it is called.

Axes: `a` units of net a, `b` units of net b, `m` partners of a unit that are listed, largest weight first.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, DTypeLike
from torch import Tensor

from convergent.core.layer_moments import LayerMoments
from convergent.errors import InputError
from convergent.figures.style import NULL_MEANINGS, look_of, null_words
from convergent.progress import track
from convergent.report.opening import opening
from convergent.report.sprites import Sprites
from convergent.storage.csv_files import read_rows
from convergent.storage.tensors import opened
from convergent.streaming.patches import Patches, load_patches
from convergent.streaming.saved_moments import SavedMoments

log = logging.getLogger(__name__)

KINDS = ("patches", "bottom", "ascent")  # of pictures of units: folders beside the moments
LISTED = 4  # partners of a unit, per method and net
WIDEST_MATRIX = 512  # units of a layer whose correlations are drawn
LONGEST_TABLE = 20_000  # rows of a method's own table
_PER_TEN_THOUSAND = 1e4  # correlations and scores are kept as whole numbers of 16 bits
_FIGURES = ("mean_r", "r2_held_out", "r2_in_sample", "predictors")
_MARKS = {  # of plotly, by those of matplotlib
    "s": "square", "o": "circle", "D": "diamond", "^": "triangle-up", "v": "triangle-down", "P": "cross", "X": "x",
    "p": "pentagon", "h": "hexagon", "<": "triangle-left", ">": "triangle-right", "d": "diamond-tall", "H": "hexagon2",
    "*": "star",
}  # fmt: skip
_OWN_FILES = ("scores.csv", "groups.csv")


@dataclass
class ReportData:
    """What goes into the page.

    Attributes:
        about: everything but large arrays, as JSON takes it.
        parts: by name, the same for what is read when it is looked at: maps of a result and layer, a method's own tables.
        chunks: base64 by name: pictures and matrices, decoded when they are looked at.
    """

    about: dict[str, Any]
    parts: dict[str, Any] = field(default_factory=dict)
    chunks: dict[str, str] = field(default_factory=dict)


def gather(root: Path, name: str, found: Mapping[str, Mapping[str, Any]], picture_bytes: float) -> ReportData:
    """Read what the finished results of an experiment hold.

    Args:
        root: folder of outputs/.
        name: of the experiment.
        found: summary.json of each result by its label; pictures, matrices and activity are those of the first.
        picture_bytes: that all pictures together may take.
    """
    folder = root / "outputs" / "align" / name
    first = next(iter(found.values()))
    nets = list(dict.fromkeys(pair["a"] for pair in first["pairs"]))
    layers = list(dict.fromkeys(layer for summary in found.values() for layer in summary["layers"]))
    about = {"name": name, "nets": nets, "layers": layers, "images": first["images"], "opening": opening(found)}
    data = ReportData(about)
    data.about["results"] = [_result(label, summary) for label, summary in found.items()]
    data.about["across"] = next((summary["across"] for summary in found.values() if summary.get("across")), {})
    data.about["nulls"] = [
        {"name": null, "words": null_words(null), "meaning": meaning}
        for null, meaning in NULL_MEANINGS.items()
        if any(f"mean_best_r_{null}" in figures for of in found.values() for figures in of["layers"].values())
    ]
    data.about["units"] = {layer: {} for layer in layers}
    moments = root / str(first.get("moments", "none"))
    measured = [str(net) for net in first.get("nets", ())]
    pictures = {kind: _patches(moments / kind) for kind in KINDS} if measured else {}
    tiles = [of.top.image_ck.numel() for kind in pictures.values() for nets_ in kind.values() for of in nets_.values()]
    sprites = Sprites(sum(tiles), picture_bytes)
    correlations: dict[str, dict[tuple[str, str], Tensor]] = {}
    for layer in track(layers, "reading layers"):
        if (file := moments / f"{layer}.safetensors").is_file():
            with left_out_if_damaged():
                correlations[layer] = _measured(data, SavedMoments().load(file, layer, measured), nets)
        for kind, of_kind in pictures.items():
            for net, patches in of_kind.get(layer, {}).items():
                if net in nets:
                    _pictured(data, layer, net, patches, sprites, kind)
    scores = {label: _scores(folder / label / "scores.csv") for label in track(found, "reading scores")}
    for number, label in enumerate(found):
        for layer in found[label]["layers"]:
            maps = dict(_maps(folder / label, layer, scores[label], correlations.get(layer, {})))
            data.parts[f"maps {number} {layer}"] = maps
        tables = _tables(folder / label)
        data.about["results"][number]["tables"] = list(tables)
        data.parts |= {f"table {number} {table}": rows for table, rows in tables.items()}
    return data


def packed(values: ArrayLike, kind: DTypeLike, scale: float = 1.0) -> str:
    """Numbers as base64 of a typed array, little-endian; scores are rounded to whole numbers and kept within their range."""
    array = np.asarray(values)
    if scale != 1 or np.issubdtype(kind, np.integer):
        limits = np.iinfo(np.dtype(kind))
        array = np.rint(np.nan_to_num(array * scale, nan=limits.min)).clip(limits.min, limits.max)
    return base64.b64encode(np.ascontiguousarray(array, np.dtype(kind).newbyteorder("<")).tobytes()).decode()


def _result(label: str, summary: Mapping[str, Any]) -> dict[str, Any]:
    """One result: how it is called and drawn, its figures per layer and pair."""
    look = look_of(label)
    return {
        "label": label,
        "words": look.words,
        "colour": look.colour,
        "mark": _MARKS[look.mark],
        "images": summary["images"],
        "layers": summary["layers"],
        "pairs": [
            {key: pair[key] for key in ("layer", "a", "b", *_FIGURES) if key in pair} for pair in summary["pairs"]
        ],
    }


def _tables(folder: Path) -> dict[str, dict[str, Any]]:
    """The tables that a result has of its own, by name."""
    tables = {}
    for file in sorted(folder.glob("*.csv")):
        if file.name not in _OWN_FILES:
            rows = list(read_rows(file))
            shown = [[_number(cell) for cell in row.values()] for row in rows[:LONGEST_TABLE]]
            tables[file.stem] = {"headings": list(rows[0]) if rows else [], "rows": shown, "total": len(rows)}
    return tables


def _measured(data: ReportData, moments: LayerMoments, nets: Sequence[str]) -> dict[tuple[str, str], Tensor]:
    """Keep mean activations and correlation matrices of some nets in a layer; returns the correlations between nets."""
    layer, found = moments.layer, {}
    share_k = moments.count_k / moments.count_k.sum()
    mean_u = (share_k[:, None] * moments.mean_ku).sum(0)
    for net, units in zip(moments.nets, moments.units):
        if net in nets:
            told = {"count": units.stop - units.start, "mean": packed(mean_u[units], np.float32)}
            data.about["units"][layer][net] = told
    for i, j in moments.pairs:
        if not {moments.nets[i], moments.nets[j]} <= set(nets):
            continue
        pair = moments.pair(i, j)
        a, b = pair.name_a, pair.name_b
        found[a, b], found[b, a] = pair.corr_ab, pair.corr_ab.T
        if max(pair.p, pair.q) <= WIDEST_MATRIX:
            data.chunks[f"corr {layer} {a} {b}"] = packed(pair.corr_ab, np.int8, 127)
            data.chunks.setdefault(f"corr {layer} {a} {a}", packed(pair.corr_aa, np.int8, 127))
            data.chunks.setdefault(f"corr {layer} {b} {b}", packed(pair.corr_bb, np.int8, 127))
    return found


def _patches(folder: Path) -> dict[str, dict[str, Patches]]:
    """The patches of one kind by layer and net; none where they were not collected."""
    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        with left_out_if_damaged():
            found[file.stem] = load_patches(file)
    return found


@contextmanager
def left_out_if_damaged() -> Iterator[None]:
    """Tell of a damaged file and go on without what it holds."""
    try:
        yield
    except InputError as error:
        log.warning("%s The report goes without it.", error)


def _pictured(data: ReportData, layer: str, net: str, patches: Patches, sprites: Sprites, kind: str) -> None:
    units = data.about["units"][layer].setdefault(net, {"count": len(patches.top.image_ck)})
    if not patches.tile_ckhwd.numel():
        return
    pages, about = sprites.of(patches)
    names = [f"{kind} {layer} {net} {page}" for page in range(len(pages))]
    units.setdefault("pictures", {})[kind] = about | {
        "pages": names,
        "activation": packed(patches.top.activation_ck, np.float32),
        "image": packed(patches.top.image_ck, np.int32),
    }
    for name, page in zip(names, pages):
        data.chunks[name] = base64.b64encode(page).decode()


def _scores(file: Path) -> dict[tuple[str, str, str], dict[str, list[float]]]:
    """The columns of scores.csv for each (layer, a, b)."""
    columns = ("r", "r2_held_out", "best_r", "excess", "predictors")
    found: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    for row in read_rows(file):
        of_pair = found.setdefault((row["layer"], row["a"], row["b"]), {name: [] for name in columns if name in row})
        for name in of_pair:
            of_pair[name].append(float(row[name] or "nan"))
    return found


def _maps(
    folder: Path,
    layer: str,
    scores: Mapping[tuple[str, str, str], Mapping[str, list[float]]],
    correlations: Mapping[tuple[str, str], Tensor],
) -> Iterable[tuple[str, dict[str, Any]]]:
    """For each ordered pair "a>b" the units of b: scores, the units of a with the largest weights, clusters."""
    with opened(folder / "alignments" / f"{layer}.safetensors") as saved:
        names = list(saved.keys())
        for of_layer, a, b in scores:
            if of_layer != layer:
                continue
            head = f"{a} to {b}"
            index_ab, weight = saved.get_tensor(f"{head}/index_ab"), saved.get_tensor(f"{head}/weight")
            p, q = saved.get_tensor(f"{head}/shape").tolist()
            partner_bm, weight_bm = largest(index_ab, weight, q)
            columns = scores[layer, a, b]
            told = {
                "listed": partner_bm.shape[1],
                "partner": packed(partner_bm, np.int32),
                "weight": packed(weight_bm, np.float32),
                "used": packed(columns["predictors"], np.int32),
                **{
                    short: packed(columns[name], np.int16, _PER_TEN_THOUSAND)
                    for short, name in (
                        ("r", "r"),
                        ("held", "r2_held_out"),
                        ("best", "best_r"),
                        ("excess", "excess"),
                    )
                    if name in columns  # nothing is held out with folds=0
                },
            }
            if (corr_ab := correlations.get((a, b))) is not None and corr_ab.shape == (p, q):
                corr_bm = corr_ab.T.gather(1, partner_bm.clamp(min=0))
                told["corr"] = packed(torch.where(partner_bm >= 0, corr_bm, 0.0), np.int16, _PER_TEN_THOUSAND)
            for side in ("labels_a", "labels_b"):
                if f"{head}/{side}" in names:
                    told[side] = packed(saved.get_tensor(f"{head}/{side}"), np.int32)
            yield f"{a}>{b}", told


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
    kept = rank < m
    partner_bm = torch.full((q, m), -1)
    weight_bm = torch.zeros(q, m, dtype=weight.dtype)
    partner_bm[unit_b[kept], rank[kept]] = index_ab[0, order][kept]
    weight_bm[unit_b[kept], rank[kept]] = weight[order][kept]
    return partner_bm, weight_bm


def _number(cell: str) -> str | float:
    try:
        return float(cell)
    except ValueError:
        return cell
