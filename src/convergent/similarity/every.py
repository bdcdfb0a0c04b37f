"""All measures of this package by name, and what each of them ignores.

Axes: `n` samples, `u` units of one net.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from convergent.core.pairs import Pair
from convergent.similarity.cca import cca, pwcca, svcca
from convergent.similarity.cka import cka, cka_ceiling, cka_debiased, cka_debiased_samples
from convergent.similarity.cka_rbf import cka_rbf
from convergent.similarity.gulp import gulp
from convergent.similarity.measure import Measure
from convergent.similarity.neighbours import neighbours
from convergent.similarity.overlap import overlap
from convergent.similarity.procrustes import bures, procrustes, shape
from convergent.similarity.ridge import ridge_ab, ridge_ba
from convergent.similarity.rsa import rsa_cosine, rsa_pearson
from convergent.similarity.rsa_spearman import rsa_spearman
from convergent.similarity.rv import rv, rv_adjusted
from convergent.similarity.soft_matching import soft_matching

# In the order in which tables and figures have them.
MEASURES: Mapping[str, Measure] = {
    "cka": cka,
    "cka_debiased": cka_debiased,
    "cka_debiased_samples": cka_debiased_samples,
    "cka_ceiling": cka_ceiling,
    "rv": rv,
    "rv_adjusted": rv_adjusted,
    "rsa_pearson": rsa_pearson,
    "rsa_cosine": rsa_cosine,
    "cca": cca,
    "svcca": svcca,
    "pwcca": pwcca,
    "procrustes": procrustes,
    "shape": shape,
    "bures": bures,
    "gulp": gulp,
    "ridge_ab": ridge_ab,
    "ridge_ba": ridge_ba,
    "soft_matching": soft_matching,
    "soft_matching_partial": partial(soft_matching, mass=0.9),
    "overlap_90": partial(overlap, explained=0.9),
    "overlap_95": partial(overlap, explained=0.95),
    "overlap_99": partial(overlap, explained=0.99),
}

# Of a sample of the samples, for what does not follow from moments.
OF_SAMPLES: Mapping[str, Measure] = {"neighbours": neighbours, "cka_rbf": cka_rbf, "rsa_spearman": rsa_spearman}

# Whose time grows with the cube of the units, for they decompose matrices: minutes for some thousand units.
CUBIC = frozenset(name for name in MEASURES if not name.startswith(("cka", "rv", "rsa")))

# Without those that alignments by least squares say, and take their time for.
QUICK: Mapping[str, Measure] = {name: of for name, of in MEASURES.items() if not name.startswith("ridge")}

DISTANCES = ("shape", "bures", "gulp")  # 0 for nets that are the same; all others are 1
AXES = ("soft_matching", "soft_matching_partial")  # respect them


def similarities(pair: Pair) -> dict[str, float]:
    """Every measure of a pair that follows from its moments and is defined, by name: a second or so for 500 units a net.

    >>> x_n2 = torch.randn(100, 2)
    >>> {name: round(value, 6) for name, value in similarities(Pair.of(x_n2, x_n2)).items() if name in ("cka", "bures")}
    {'cka': 1.0, 'bures': 0.0}
    """
    values = {name: measure(pair) for name, measure in MEASURES.items()}
    return {name: value for name, value in values.items() if value is not None}


def _rotation(x_nu: Tensor) -> Tensor:
    rotation_uu: Tensor = torch.linalg.qr(torch.randn(x_nu.shape[1], x_nu.shape[1], dtype=x_nu.dtype))[0]
    return rotation_uu


# What may be done to the units of either net.
TRANSFORMATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "rotation": lambda x_nu: x_nu @ _rotation(x_nu),
    "common scale": lambda x_nu: 3.7 * x_nu,
    "invertible map": lambda x_nu: x_nu @ _rotation(x_nu) * torch.linspace(0.5, 2, x_nu.shape[1]) @ _rotation(x_nu),
    "permutation": lambda x_nu: x_nu[:, torch.randperm(x_nu.shape[1])],
    "gain per unit": lambda x_nu: x_nu * torch.linspace(0.5, 2, x_nu.shape[1]),
    "every unit twice": lambda x_nu: torch.cat([x_nu, x_nu], 1),
    "one unit twice": lambda x_nu: torch.cat([x_nu, x_nu[:, :1]], 1),
}

_GEOMETRY = frozenset({"rotation", "common scale", "permutation", "every unit twice"})
_SPAN = frozenset(TRANSFORMATIONS)
_UNITS = frozenset({"common scale", "permutation", "gain per unit", "every unit twice"})
_OTHERS = {
    "cca": _SPAN,
    "pwcca": _GEOMETRY - {"rotation"},
    "ridge_ab": _UNITS - {"every unit twice"},
    "ridge_ba": _UNITS - {"every unit twice"},
    **dict.fromkeys(("rv", "rv_adjusted", *AXES), _UNITS),
}
# Done to either net, leaves the measure as it is (tested).
IGNORES: Mapping[str, frozenset[str]] = {name: _OTHERS.get(name, _GEOMETRY) for name in (*MEASURES, *OF_SAMPLES)}


def invariances() -> list[list[str]]:
    """What each measure ignores as a table, headings first; the documents have it."""
    rows = [[f"`{name}`", *("yes" if what in of else "" for what in TRANSFORMATIONS)] for name, of in IGNORES.items()]
    return [["measure", *TRANSFORMATIONS], *rows]
