"""What options of conf/ may be that no object of this package declares: a table for each command, one for other packages.

An option that is put `aside` changes no result: it is no part of what a result is known by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from convergent.analysis.evaluation import Evaluation
from convergent.cli.foreign import TARGET, foreign, is_target
from convergent.options import (
    COMPONENT,
    FINITE,
    FLAG,
    NULL,
    TEXT,
    Kind,
    aside,
    kinds_of,
    listed,
    number,
    saying,
    table,
    whole,
    word,
)  # fmt: skip
from convergent.streaming.reading import Reading

# A group of options by name; a name that ends in ? may be missing.
Options: TypeAlias = Mapping[str, "Kind | Options"]

_SEED = whole(0, 2**32 - 1)  # what numpy takes


def _is_full(value: Any) -> bool:
    return isinstance(value, str) and "." in value


def _is_workspace(value: Any) -> bool:
    parts = value.split("/") if isinstance(value, str) else []
    return len(parts) == 2 and all(parts)


def _is_encoder(value: Any) -> bool:
    if not isinstance(value, Mapping) or not {"layer", "encoder"} <= set(value) <= {"layer", "encoder", "weights"}:
        return False
    return TEXT.fits(value["layer"]) and is_target(value["encoder"]) and _WEIGHTS.fits(value.get("weights"))


_WEIGHTS = TEXT | table(TEXT) | NULL
_OBJECTS = saying("a list of objects, as [{_target_: MODULE.CLASS, ...}]", listed(TARGET, 0))
_NAMED = saying("a list of layers, as [conv1,fc1]", listed(TEXT, 0))
_PATHS = saying(
    "a list of layers, as [conv1,fc1] or [[PATH_IN_A,PATH_IN_B]]", listed(TEXT | listed(TEXT) | table(TEXT))
)
_PAIRS = saying("a list of lists of two nets, as [[A,B],[A,C]]", listed(listed(TEXT, 2, 2, distinct=True)))
_NETS = saying(
    "a folder of run folders, or a list of run folders and {_target_: MODULE}", TEXT | listed(TEXT | table(FINITE))
)
_ENCODER = Kind("{layer: PATH, encoder: {_target_: MODULE.CLASS}, weights: FILE or {NET: FILE}}", _is_encoder)
_TRUST = saying("a list of classes in full, as [mypackage.MyNet]", listed(Kind("", _is_full), 0))

# Of every data set, of pictures, and of texts, which have a context.
_ANY_DATA: Mapping[str, Kind] = {
    "name": COMPONENT,
    "measure": TEXT,
    "batch_size": whole(1),
    "workers": aside(whole()),
    "folder?": aside(TEXT),
    "seed?": _SEED,
}
IMAGES: Mapping[str, Kind] = {
    "channels": word(1, 3),
    "size": whole(1),
    "classes": whole(1),
    "mean": listed(number()),
    "std": listed(number(0, above=True)),
    "skip_corrupt": FLAG,
    "value_range?": saying("the values of black and of white, as [0,4095]", listed(number(), 2, 2)) | NULL,
    "augment": _OBJECTS,
    "prepare": _OBJECTS,
    "sources": table(TARGET),
    "store?": aside(TEXT),
    "mean_image?": TEXT,
    "download?": aside(FLAG),
    "per_class?": whole(1),
}
TEXTS: Mapping[str, Kind] = {
    "context": whole(2),
    "vocabulary": whole(257),
    "held_out": saying(
        "a number above 0 and below 1", Kind("", lambda share: number(0, 1).fits(share) and 0 < share < 1)
    ),
    "epoch": whole(1) | NULL,
    "documents": TARGET,
    "dataset?": TEXT,
}
DATA: Mapping[str, Kind] = {**_ANY_DATA, **{f"{name.rstrip('?')}?": kind for name, kind in {**IMAGES, **TEXTS}.items()}}

_EXPERIMENT: Options = {
    "name": COMPONENT,
    "root": aside(TEXT),
    "force": aside(FLAG),
    "quiet": aside(FLAG),
    "data": DATA,
    "net": {"name": COMPONENT, "layers": _NAMED, "module": TARGET},
    "optimizer": {"optimizer": TARGET, "scheduler": TARGET | NULL},
    "trainer": TARGET,
    "logger": aside(TARGET),
}

ALL_LAYERS = "all_layers"  # in the place of pairs of nets

# The groups that are objects; on the command line reading.sample, evaluation.folds.
GROUPS = {"reading": Reading, "evaluation": Evaluation}

# What an alignment is made of, beside the nets.
ALIGNMENT: Options = {
    "method": TARGET,
    "analysis": table(TARGET),
    "similarity": table(TARGET),
    "figure": aside(table(TARGET)),
    "function": aside(FLAG | word("units")),  # a result without is replaced by one with it
    "function_images": aside(whole(1) | NULL),
    "nets": aside(_NETS),  # their contents are part of the record
    "trust": aside(_TRUST),
    "at_epochs": word("kept") | listed(whole(), example="[0,1,5]") | NULL,
    "pairs": _PAIRS | word(ALL_LAYERS) | NULL,
    "label": aside(COMPONENT | NULL),
    "layers": _PATHS | NULL,
    "populations": saying('patterns of layers by name, as {mlp: "transformer.h.*.mlp.act"}', table(TEXT)),
    "tokens": word("same", "shared_ends"),
    "encoders": table(_ENCODER),
    "images": TEXT | NULL,
    "n_jobs": aside(whole(1) | NULL),
    "pictures": aside(word("top", "bottom", "ascent") | NULL),
    **{
        group: {f"{name}?": kind for name, kind in {"_target_": TEXT, **kinds_of(of)}.items()}
        for group, of in GROUPS.items()
    },
}

# What a merging is made of, beside the nets.
MERGING: Options = {
    **{name: ALIGNMENT[name] for name in ("method", "nets", "trust", "label", "reading")},
    "beside": listed(word("none", "random", "covariance", "weights", "consensus", "zip"), 0, distinct=True),
    "repair": FLAG,
    "images": TEXT,
    "held_out": TEXT,
    "seed": _SEED,
}

OPTIONS: Mapping[str, Options] = {
    "train": {
        **_EXPERIMENT,
        "seed": _SEED,
        "seeds": listed(_SEED, distinct=True, example="[0,1,2,3]") | NULL,
        **dict.fromkeys(("order_seed", "augment_seed"), _SEED | NULL),
        "epochs": whole(),
        "keep_epochs": listed(whole(), 0, example="[0,1,5]"),
        "channels_last": FLAG,
        "compile": aside(FLAG),
        "snapshot_minutes": aside(number(0)),
        "precision": word("32-true", "bf16-mixed", "16-mixed"),
    },
    "align": {**_EXPERIMENT, **ALIGNMENT},
    "merge": {**_EXPERIMENT, **MERGING},
    "report": {
        "name": COMPONENT,
        "root": TEXT,
        "quiet": FLAG,
        "picture_megabytes": number(0),
        "workspace": Kind("ENTITY/PROJECT of W&B", _is_workspace) | NULL,
        "readme": FLAG,
    },
    "prepare": {
        "root": TEXT,
        "data": DATA,
        "store": TEXT,
        "splits": listed(word("train", "val"), distinct=True),
        "size": whole(1),
        "processes": word("auto") | whole(),
        **dict.fromkeys(("keep_shape", "pixels", "partial", "force", "quiet"), FLAG),
    },
}

# The options of the groups by what they were called before the groups were objects, which is what the library calls them.
RENAMED = {name: f"{group}.{name}" for group, made in GROUPS.items() for name in kinds_of(made)}
RENAMED["method.runs"] = "analysis.clusters.runs"


def renaming(command: str, overrides: Sequence[str]) -> str:
    """A sentence with the new name of the first option that was called otherwise before the groups were objects.

    >>> renaming("align", ["method=sparse", "folds=3"]), renaming("train", ["snapshot_minutes=1"])
    ('folds is evaluation.folds now.', '')
    """
    names = (override.lstrip("+~").partition("=")[0] for override in overrides)
    old = next((name for name in names if name in RENAMED and name not in OPTIONS[command]), "")
    return f"{old} is {RENAMED[old]} now{', in bytes' if old == 'block_memory' else ''}." if old else ""


def identifying(values: Mapping[str, Any], options: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """The leaves of a configuration by their dotted paths, without those of options that change no result."""
    leaves: dict[str, Any] = {}
    for name, value in values.items():
        kind = options.get(name, options.get(f"{name}?", {}))
        if isinstance(kind, Kind) and not kind.identifies:
            continue
        full = f"{path}.{name}" if path else str(name)
        if not isinstance(value, Mapping):
            leaves[full] = value
            continue
        inner = foreign(value["_target_"]) if is_target(value) else kind
        leaves |= identifying(value, inner if isinstance(inner, Mapping) else {}, full)
    return leaves
