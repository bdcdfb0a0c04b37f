"""What the report page shows of an experiment, gathered from its finished results: any method's, whatever it is called."""

import base64
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from convergent.core.layer_moments import LayerMoments
from convergent.errors import InputError
from convergent.figures.style import NULL_MEANINGS, look_of, null_words
from convergent.progress import track
from convergent.report.dictionary import meanings
from convergent.report.function import in_short, sentences
from convergent.report.maps import maps_of, packed, read_scores
from convergent.report.merging import find_merges, merging_parts
from convergent.report.nouns import noun_of
from convergent.report.opening import opening
from convergent.report.sprites import Sprites
from convergent.storage.csv_files import read_rows
from convergent.streaming.patches import Patches, load_patches
from convergent.streaming.saved_moments import SavedMoments

log = logging.getLogger(__name__)

KINDS = ("patches", "bottom", "ascent")  # of pictures of units: folders beside the moments
WIDEST_MATRIX = 512  # units of a layer whose correlations are drawn
LONGEST_TABLE = 20_000  # rows of a method's own table
_SCALARS = ("mean_r", "r2_held_out", "r2_in_sample", "predictors")  # of each pair of nets
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


def gather(root: Path, name: str, summaries: Mapping[str, Mapping[str, Any]], picture_bytes: float) -> ReportData:
    """Read what the finished results of an experiment hold, given summary.json of each by its label.

    Pictures, which together take so many bytes at most, matrices and activity are those of the first.
    """
    folder, first = root / "outputs" / "align" / name, next(iter(summaries.values()))
    nets = list(dict.fromkeys(pair["a"] for pair in first["pairs"]))
    layers = list(dict.fromkeys(layer for summary in summaries.values() for layer in summary["layers"]))
    scalars = {key for summary in summaries.values() for of in summary["layers"].values() for key in of}
    data = ReportData(
        {
            "name": name,
            "nets": nets,
            "layers": layers,
            "images": first["images"],
            "noun": noun_of([first]),
            "opening": opening(summaries) + in_short(summaries),
            "function": sentences(summaries),
            "columns": {of: meaning for of, meaning in meanings().items() if of in _columns(folder, summaries)},
            "results": [_result(label, summary, folder / label) for label, summary in summaries.items()],
            "across": next((summary["across"] for summary in summaries.values() if summary.get("across")), {}),
            "nulls": [
                {"name": null, "words": null_words(null), "meaning": meaning}
                for null, meaning in NULL_MEANINGS.items()
                if f"mean_best_r_{null}" in scalars
            ],
            "units": {layer: {} for layer in layers},
            "merging": merging_parts(find_merges(root, name)),
        }
    )
    moments, measured = root / str(first.get("moments", "none")), [str(net) for net in first.get("nets", ())]
    pictures = {kind: _patches(moments / kind) for kind in KINDS} if measured else {}
    every = [of for kind in pictures.values() for of_net in kind.values() for of in of_net.values()]
    sprites = Sprites(sum(of.top.image_ck.numel() for of in every), picture_bytes)
    correlations: dict[str, dict[tuple[str, str], Tensor]] = {}
    for layer in track(layers, "reading layers"):
        if (file := moments / f"{layer}.safetensors").is_file():
            with left_out_if_damaged():
                correlations[layer] = _measured(data, SavedMoments().load(file, layer, measured), nets)
        for kind, of_kind in pictures.items():
            for net, patches in of_kind.get(layer, {}).items():
                if net in nets and patches.tile_ckhwd.numel():
                    units = data.about["units"][layer].setdefault(net, {"count": len(patches.top.image_ck)})
                    shown = _pictured(data.chunks, f"{kind} {layer} {net}", patches, sprites)
                    units.setdefault("pictures", {})[kind] = shown
    for number, label in enumerate(track(summaries, "reading scores")):
        scores = read_scores(folder / label / "scores.csv")
        for layer in summaries[label]["layers"]:
            maps = dict(maps_of(folder / label, layer, scores, correlations.get(layer, {})))
            data.parts[f"maps {number} {layer}"] = maps
        for file in _own_tables(folder / label):
            rows = list(read_rows(file))
            cells = [[_number(cell) for cell in row.values()] for row in rows[:LONGEST_TABLE]]
            table = {"headings": list(rows[0]) if rows else [], "rows": cells, "total": len(rows)}
            data.parts[f"table {number} {file.stem}"] = table
    return data


@contextmanager
def left_out_if_damaged() -> Iterator[None]:
    """Warn of a damaged file and go on without what it holds."""
    try:
        yield
    except InputError as error:
        log.warning("%s The report goes without it.", error)


def _result(label: str, summary: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """One result: how it is called and drawn, its scalars per layer and pair, the names of its own tables."""
    look = look_of(label)
    return {
        "label": label,
        "words": look.words,
        "colour": look.colour,
        "mark": _MARKS[look.mark],
        "images": summary["images"],
        "layers": summary["layers"],
        "pairs": [
            {key: pair[key] for key in ("layer", "a", "b", *_SCALARS) if key in pair} for pair in summary["pairs"]
        ],
        "tables": [file.stem for file in _own_tables(folder)],
    }


def _columns(folder: Path, summaries: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """The names of all columns that some result has."""
    rows = [row for summary in summaries.values() for row in (*summary["layers"].values(), *summary["pairs"])]
    files = [file for label in summaries for file in (folder / label).glob("*.csv")]
    return {name for row in rows for name in row} | {name for file in files for name in next(read_rows(file), {})}


def _own_tables(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.glob("*.csv")) if file.name not in _OWN_FILES]


def _measured(data: ReportData, moments: LayerMoments, nets: Sequence[str]) -> dict[tuple[str, str], Tensor]:
    """Put mean activations and correlation matrices of some nets in a layer into the data; returns those between nets."""
    layer, correlations = moments.layer, {}
    for net, units in zip(moments.nets, moments.units):
        if net in nets:
            mean = packed(moments.mean_u[units], np.float32)
            data.about["units"][layer][net] = {"count": units.stop - units.start, "mean": mean}
    for i, j in moments.pairs:
        if {moments.nets[i], moments.nets[j]} <= set(nets):
            pair = moments.pair(i, j)
            a, b = pair.name_a, pair.name_b
            correlations[a, b], correlations[b, a] = pair.corr_ab, pair.corr_ab.T
            if max(pair.p, pair.q) <= WIDEST_MATRIX:
                for down, across, corr in ((a, b, pair.corr_ab), (a, a, pair.corr_aa), (b, b, pair.corr_bb)):
                    if (chunk := f"corr {layer} {down} {across}") not in data.chunks:
                        data.chunks[chunk] = packed(corr, np.int8, 127)
    return correlations


def _patches(folder: Path) -> dict[str, dict[str, Patches]]:
    """The patches of one kind by layer and net; none where they were not collected."""
    patches = {}
    for file in sorted(folder.glob("*.safetensors")):
        with left_out_if_damaged():
            patches[file.stem] = load_patches(file)
    return patches


def _pictured(chunks: dict[str, str], name: str, patches: Patches, sprites: Sprites) -> dict[str, Any]:
    """Put a net's pictures into the chunks, page by page; returns how they are laid out, and what they are of."""
    pages, layout = sprites.of(patches)
    names = [f"{name} {page}" for page in range(len(pages))]
    chunks |= {page: base64.b64encode(content).decode() for page, content in zip(names, pages)}
    activation, image = packed(patches.top.activation_ck, np.float32), packed(patches.top.image_ck, np.int32)
    return layout | {"pages": names, "activation": activation, "image": image}


def _number(cell: str) -> str | float:
    try:
        return float(cell)
    except ValueError:
        return cell
