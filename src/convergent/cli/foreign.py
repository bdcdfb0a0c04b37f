"""What arguments of other packages' objects may be, where their own annotations do not say it."""

from collections.abc import Mapping
from typing import Any

from convergent.options import (
    COMPONENT,
    FINITE,
    FLAG,
    NULL,
    TEXT,
    Kind,
    aside,
    listed,
    number,
    saying,
    table,
    whole,
    word,
)


def is_target(value: Any) -> bool:
    """Whether a value names what is made of it."""
    return isinstance(value, Mapping) and isinstance(value.get("_target_"), str)


# An object that is made here; convergent.cli.checking looks at its arguments.
TARGET = Kind("an object, as {_target_: MODULE.CLASS, ...}", is_target)

_SIDES = whole(1) | listed(whole(1), 1, 2)
_BORDER = whole() | listed(whole(), 1, 4)
_TASKS = saying("a whole number, 1 or more (set trainer.devices to one)", whole(1))

# Arguments of other packages' objects, by what their `_target_` begins with; others are what their annotations say there.
# This package's own objects say it in their annotations.
FOREIGN: Mapping[str, Mapping[str, Kind]] = {
    "torch.optim.": {
        **dict.fromkeys(("lr", "weight_decay", "gamma"), number(0)),
        **dict.fromkeys(("momentum", "dampening"), number(0, 1)),
        "nesterov": FLAG,
        "step_size": whole(1),
    },
    "torchvision.transforms.": {"size": _SIDES, "padding": _BORDER | NULL, "antialias": FLAG},
    "torchvision.datasets.": {"root": TEXT, "train": FLAG, "download": FLAG},
    "torchvision.models.": {"name": TEXT, "weights": TEXT | NULL, "num_classes": whole(1)},
    "pytorch_lightning.Trainer": {
        "accelerator": aside(TEXT),
        "strategy": aside(TEXT | TARGET),
        "devices": aside(word("auto", -1) | whole(1) | listed(whole(), distinct=True)),
        "num_nodes": aside(whole(1)),
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
        **dict.fromkeys(("submitit_folder", "name"), TEXT),
        **dict.fromkeys(("nodes", "cpus_per_task", "timeout_min", "array_parallelism"), whole(1)),
        **dict.fromkeys(("partition", "account", "qos", "constraint"), TEXT | NULL),
        "tasks_per_node": _TASKS,
        "gpus_per_node": whole() | NULL,
        "mem_gb": number(0, above=True) | NULL,
        "signal_delay_s": whole(),
        "setup": listed(TEXT, 0) | NULL,
        "additional_parameters": table(FINITE),
    },
}


def foreign(target: str) -> Mapping[str, Kind]:
    """The declared arguments of another package's object."""
    return next((kinds for beginning, kinds in FOREIGN.items() if target.startswith(beginning)), {})
