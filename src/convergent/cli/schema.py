"""What every option of conf/ may be: one table for each command, and one for objects of other packages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from convergent.options import (
    COMPONENT,
    FINITE,
    FLAG,
    NULL,
    TEXT,
    Kind,
    listed,
    number,
    table,
    whole,
    word,
)

# A group of options by name; a name that ends in ? may be missing.
Options: TypeAlias = Mapping[str, "Kind | Options"]

_UNITS = word("auto", "channel", "last", "flat")
_SEED = whole(0, 2**32 - 1)  # what numpy takes
_MINUTES = number(0)


def _is_target(value: Any) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("_target_"), str)


def _is_full(value: Any) -> bool:
    return isinstance(value, str) and "." in value


def _is_workspace(value: Any) -> bool:
    parts = value.split("/") if isinstance(value, str) else []
    return len(parts) == 2 and all(parts)


# An object that is made here; convergent.cli.checking looks at its arguments.
TARGET = Kind("an object, as {_target_: MODULE.CLASS, ...}", _is_target)
_OBJECTS = replace(listed(TARGET, 0), words="a list of objects, as [{_target_: MODULE.CLASS, ...}]")
_NAMED = replace(listed(TEXT, 0), words="a list of layers, as [conv1,fc1]")
_PATHS = replace(
    listed(TEXT | listed(TEXT) | table(TEXT), 0), words="a list of layers, as [conv1,fc1] or [[PATH_IN_A,PATH_IN_B]]"
)
_PAIRS = replace(listed(listed(TEXT, 2, 2, distinct=True)), words="a list of lists of two nets, as [[A,B],[A,C]]")
_NETS = replace(
    TEXT | listed(TEXT | table(FINITE)),
    words="a folder of run folders, or a list of run folders and {_target_: MODULE}",
)

_DATA: Options = {
    "name": COMPONENT,
    "channels": word(1, 3),
    "size": whole(1),
    "classes": whole(1),
    "measure": TEXT,
    "mean": listed(number()),
    "std": listed(number(0, above=True)),
    "batch_size": whole(1),
    "workers": whole(),
    "skip_corrupt": FLAG,
    "value_range?": replace(listed(number(), 2, 2), words="the values of black and of white, as [0,4095]") | NULL,
    "augment": _OBJECTS,
    "prepare": _OBJECTS,
    "sources": table(TARGET),
    "folder?": TEXT,
    "store?": TEXT,
    "mean_image?": TEXT,
    "download?": FLAG,
    "per_class?": whole(1),
    "seed?": _SEED,
}

_BOTH: Options = {
    "name": COMPONENT,
    "root": TEXT,
    "force": FLAG,
    "data": _DATA,
    "net": {"name": COMPONENT, "layers": _NAMED, "module": TARGET},
    "optimizer": {"optimizer": TARGET, "scheduler": TARGET | NULL},
    "trainer": TARGET,
    "logger": TARGET,
    "snapshot_minutes": _MINUTES,
}

OPTIONS: Mapping[str, Options] = {
    "train": {
        **_BOTH,
        "seed": _SEED,
        "seeds": listed(_SEED, distinct=True, example="[0,1,2,3]") | NULL,
        "order_seed": _SEED | NULL,
        "augment_seed": _SEED | NULL,
        "epochs": whole(),
        "keep_epochs": listed(whole(), 0, example="[0,1,5]"),
        "channels_last": FLAG,
        "precision": word("32-true", "bf16-mixed", "16-mixed"),
    },
    "align": {
        **_BOTH,
        "method": TARGET,
        "nets": _NETS,
        "trust": replace(listed(Kind("", _is_full), 0), words="a list of classes in full, as [mypackage.MyNet]"),
        "at_epochs": word("kept") | listed(whole(), example="[0,1,5]") | NULL,
        "pairs": _PAIRS | NULL,
        "label": COMPONENT | NULL,
        "layers": replace(_PATHS, fits=lambda value: bool(value) and _PATHS.fits(value)) | NULL,
        "images": TEXT | NULL,
        "sample": word("every", "pooled", "centre") | whole(1),
        "units": _UNITS | replace(table(_UNITS), words="a dictionary from nets to these"),
        "blocks": whole(1),
        "block_memory": number(0, above=True),
        "layers_per_pass": whole(1) | NULL,
        "products": word("auto", "portable", "onednn", "tf32"),
        "device": TEXT | NULL,
        "folds": word(0) | whole(2),
        "intervals": FLAG,
        "pictures": word("top", "bottom", "ascent") | NULL,
        "nulls": listed(word("rotated", "rotated_after", "shuffled"), 0, distinct=True),
        "rotations": whole(1) | NULL,
    },
    "report": {
        "name": COMPONENT,
        "root": TEXT,
        "picture_megabytes": number(0),
        "workspace": Kind("ENTITY/PROJECT of W&B", _is_workspace) | NULL,
        "readme": FLAG,
    },
    "prepare": {
        "root": TEXT,
        "data": _DATA,
        "store": TEXT,
        "splits": listed(word("train", "val"), distinct=True),
        "size": whole(1),
        "keep_shape": FLAG,
        "pixels": FLAG,
        "partial": FLAG,
        "processes": word("auto") | whole(),
        "force": FLAG,
    },
}

_SIDES = whole(1) | listed(whole(1), 1, 2)
_BORDER = whole() | listed(whole(), 1, 4)
_TASKS = replace(whole(1), words="a whole number, 1 or more (set trainer.devices to one)")

# Arguments of other packages' objects, by what their `_target_` begins with; others are what their annotations say there.
# This package's own objects say it in their annotations.
FOREIGN: Mapping[str, Mapping[str, Kind]] = {
    "torch.optim.": {
        "lr": number(0),
        "momentum": number(0, 1),
        "weight_decay": number(0),
        "dampening": number(0, 1),
        "nesterov": FLAG,
        "step_size": whole(1),
        "gamma": number(0),
    },
    "torchvision.transforms.": {"size": _SIDES, "padding": _BORDER | NULL, "antialias": FLAG},
    "torchvision.datasets.": {"root": TEXT, "train": FLAG, "download": FLAG},
    "torchvision.models.": {"name": TEXT, "weights": TEXT | NULL, "num_classes": whole(1)},
    "pytorch_lightning.Trainer": {
        "accelerator": TEXT,
        "strategy": TEXT | TARGET,
        "devices": word("auto", -1) | whole(1) | listed(whole(), distinct=True),
        "num_nodes": whole(1),
        "sync_batchnorm": FLAG,
        "deterministic": FLAG | word("warn"),
        "use_distributed_sampler": FLAG,
        "num_sanity_val_steps": whole(-1),
        "log_every_n_steps": whole(1),
    },
    "pytorch_lightning.loggers.": {"name": COMPONENT},
    "wandb.init": {"project": TEXT, "mode": word("online", "offline", "disabled"), "dir": TEXT},
    "hydra_plugins.process_launcher.": {"n_jobs": whole(1), "devices": listed(whole(), distinct=True) | NULL},
    "hydra_plugins.hydra_submitit_launcher.": {
        "submitit_folder": TEXT,
        "name": TEXT,
        "nodes": whole(1),
        "tasks_per_node": _TASKS,
        "gpus_per_node": whole() | NULL,
        "cpus_per_task": whole(1),
        "mem_gb": number(0, above=True) | NULL,
        "timeout_min": whole(1),
        "signal_delay_s": whole(),
        "array_parallelism": whole(1),
        "partition": TEXT | NULL,
        "account": TEXT | NULL,
        "qos": TEXT | NULL,
        "constraint": TEXT | NULL,
        "setup": listed(TEXT, 0) | NULL,
        "additional_parameters": table(FINITE),
    },
}
