"""Which pictures of units there are to draw for an alignment: whatever its method, what its record allows."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from convergent.core.alignment import Alignment
from convergent.core.layer_moments import LayerMoments
from convergent.core.pairs import Pair
from convergent.figures.contact_sheets import clusters, extremes, filters, groups, matches, mosaic, predictors
from convergent.figures.contexts import contexts
from convergent.streaming.patches import Patches
from convergent.streaming.unit_contexts import UnitContexts

PICTURED = 200  # units of a layer in a table with pictures

Drawings = dict[str, Callable[[], "Figure"]]


def drawings_of(
    alignment: Alignment,
    patches: Sequence[Mapping[str, Patches]],
    tables: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
) -> Drawings:
    """Contact sheets of a pair of nets by name: matches, predictors and clusters, as far as there are any.

    Patches are by net: those that excite units most, then other kinds, of which matches are drawn. Groups of units that the
    rows of analyses' tables name, as numbers with spaces between them in `units_a` and `units_b`, are drawn as pictures.
    """
    drawings: Drawings = {}
    pair = alignment.pair
    for number, kind in enumerate(patches):
        if not (both := _both(pair, kind)):
            continue
        if number == 0:
            drawings |= _sheets(alignment, *both)
            for name, rows in (tables or {}).items():
                if members := _members(rows):
                    drawings[f"{name}-units"] = partial(groups, f"{pair.layer}: {name}", pair, members, *both)
        elif bool((alignment.predictors_b > 0).any()):
            made = both[1].tile_ckhwd.shape[1] == 1  # for the unit, else those that silence it
            drawings["matches-ascent" if made else "matches-bottom"] = partial(matches, alignment, *both)
    return drawings


def contexts_of_pair(alignment: Alignment, texts: Mapping[str, UnitContexts]) -> Drawings:
    """The contexts of matched units of language models, by net."""
    nets = alignment.pair.name_a, alignment.pair.name_b
    if not set(nets) <= set(texts) or not bool((alignment.partner_b >= 0).any()):
        return {}
    return {"contexts": partial(contexts, alignment, texts[nets[0]], texts[nets[1]])}


def _members(rows: Sequence[Mapping[str, Any]], shown: int = 6) -> list[tuple[str, list[int], list[int]]]:
    """The first groups of a table that have several units of both nets, four and four before all others."""
    members = []
    for row in rows:
        if all(isinstance(row.get(side), str) for side in ("units_a", "units_b")):
            of_a, of_b = ([int(unit) for unit in row[side].split()] for side in ("units_a", "units_b"))
            if min(len(of_a), len(of_b)) > 1:
                scalars = [f"{key} {value:.2f}" for key, value in row.items() if isinstance(value, float)]
                members.append(("\n".join([f"{len(of_a)} + {len(of_b)} units", *scalars[:2]]), of_a, of_b))
    return sorted(members, key=lambda group: (len(group[1]), len(group[2])) != (4, 4))[:shown]


def _both(pair: Pair, patches: Mapping[str, Patches]) -> tuple[Patches, Patches] | None:
    a, b = patches.get(pair.name_a), patches.get(pair.name_b)
    return None if a is None or b is None or not a.tile_ckhwd.numel() or not b.tile_ckhwd.numel() else (a, b)


def _sheets(alignment: Alignment, a: Patches, b: Patches) -> Drawings:
    drawings: Drawings = {}
    if int((alignment.predictors_b > 0).sum()) > 1:
        drawings["matches"] = partial(matches, alignment, a, b)
    if bool((alignment.predictors_b > 1).any()):
        drawings["predictors"] = partial(predictors, alignment, a, b)
    labels = [set(labels.tolist()) for labels in (alignment.labels_a, alignment.labels_b) if labels is not None]
    if len(labels) == 2 and labels[0] & labels[1] - {-1}:
        drawings["clusters-units"] = partial(clusters, alignment, a, b)  # `clusters` are the methods' matrices
    return drawings


def pictured_rows(alignment: Alignment, patches: Mapping[str, Patches]) -> list[dict[str, Any]]:
    """A row per unit of b that has a partner, best first: its patches, its main partner's, and what the map says of it."""
    pair = alignment.pair
    both = _both(pair, patches)
    if both is None:
        return []
    a, b = both
    order = alignment.r_b.argsort(descending=True, stable=True)
    order = order[alignment.partner_b[order] >= 0][:PICTURED]
    return [
        {
            "layer": pair.layer,
            "unit": unit,
            pair.name_b: mosaic(b, unit),
            "partner": int(alignment.partner_b[unit]),
            pair.name_a: mosaic(a, int(alignment.partner_b[unit])),
            "r": round(float(alignment.r_b[unit]), 4),
            "predictors per unit": int(alignment.predictors_b[unit]),
            "explained in sample": round(float(alignment.score_b[unit]), 4),
        }
        for unit in order.tolist()
    ]


def activity_of(layer: LayerMoments, patches: Mapping[str, Patches]) -> Figure:
    """The most and the least active units of a layer."""
    mean_c = {
        net: torch.where(layer.active(net), layer.mean_u[units], torch.nan)
        for net, units in zip(layer.nets, layer.units)
    }
    return extremes(layer.layer, mean_c, patches)


def filters_of(alignment: Alignment, modules: Mapping[str, nn.Module]) -> Drawings:
    """The filters of a first layer: of modules that begin with a convolution over pictures."""
    pair = alignment.pair
    weight_a, weight_b = (_first_weights(modules[net]) for net in (pair.name_a, pair.name_b))
    if weight_a is None or weight_b is None or (len(weight_a), len(weight_b)) != (pair.p, pair.q):
        return {}
    if not (alignment.partner_b >= 0).any():
        return {}
    return {"filters": partial(filters, alignment, weight_a, weight_b)}


def _first_weights(module: nn.Module) -> Tensor | None:
    """The weights of the convolution that a module begins with, if it reads pictures and its filters are of some size."""
    for inner in module.modules():
        if isinstance(inner, nn.Conv2d):
            seen = inner.in_channels in (1, 3) and min(inner.kernel_size) > 1
            return inner.weight.detach().cpu().float() if seen else None
    return None
