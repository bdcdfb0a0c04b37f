"""What a command is to do and where it is kept: decided before anything heavy is imported."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from convergent.errors import InputError
from convergent.folders import RESULTS, claim, first_process, flat
from convergent.runs import Run, find_runs, names_of

# Settings that are no part of an alignment: not in its folder's name, not in its configuration.
_NOT_ALIGNMENT = (
    "runs",
    "name",
    "root",
    "label",
    "force",
    "logger",
    "trainer",
    "products",
    "experiment",
    "data",
    "net",
    "optimizer",
)


@dataclass(frozen=True)
class TrainJob:
    """One seed of an experiment.

    Attributes:
        run: its folder.
        config: resolved.
    """

    run: Run
    config: DictConfig

    @classmethod
    def of(cls, config: DictConfig) -> TrainJob:
        """The job of a configuration composed from conf/train.yaml.

        Raises:
            InputError: if a value is missing, or a number is none that it can be.
        """
        values = flat(OmegaConf.to_container(config, resolve=False))
        if missing := [key for key, value in values.items() if value == "???"]:
            raise InputError(f"{missing[0]} has no value; set it on the command line, as {missing[0]}=...")
        for seed in ("order_seed", "augment_seed"):
            config[seed] = config.seed if config[seed] is None else config[seed]
        _check_numbers(config, {"seed": 0, "order_seed": 0, "augment_seed": 0, "epochs": 0, "data.batch_size": 1})
        return cls(Run(Path(config.root) / "outputs" / "train" / config.name / f"seed={config.seed}"), config)

    def begin(self) -> bool:
        """Claim the folder for this configuration; False, with a line that says so, if the net is trained already."""
        if not first_process():
            return self.config.force or not self.run.finished
        claim(self.run.folder, self.config, force=self.config.force)
        if self.run.finished:
            self.say(f"done already, {self.run.told()}")
        elif self.run.checkpoint.exists():
            self.say("going on from the last epoch")
        return not self.run.finished

    def abandon(self) -> None:
        """Remove the folder of a training that failed, unless there is something to resume from."""
        if first_process() and not any((self.run.folder / name).exists() for name in RESULTS):
            shutil.rmtree(self.run.folder, ignore_errors=True)
            with contextlib.suppress(OSError):  # other seeds are there
                self.run.folder.parent.rmdir()

    def say(self, text: str) -> None:
        """Print a line about this job."""
        print(f"{self.config.name} {self.run.name}: {text}", flush=True)


@dataclass(frozen=True)
class AlignJob:
    """One method on all pairs of an experiment's nets.

    Attributes:
        runs: the trained nets.
        layers: to be aligned.
        name: of the experiment.
        label: of the result: the method with the changes to it.
        folder: of the result.
        record: everything the result depends on.
        config: resolved.
    """

    runs: Sequence[Run]
    layers: Sequence[str]
    name: str
    label: str
    folder: Path
    record: DictConfig
    config: DictConfig

    @classmethod
    def of(cls, config: DictConfig) -> AlignJob:
        """The job of a configuration composed from conf/align.yaml.

        Raises:
            InputError: if there are no two nets that go together, or a number is none that it can be.
        """
        _check_numbers(config, {"blocks": 1, "folds": 0})
        runs = find_runs(config.runs if isinstance(config.runs, str) else list(config.runs))
        layers = list(config.layers or _common_layers(runs))
        name = Path(config.runs).name if isinstance(config.runs, str) else config.name
        hydra = HydraConfig.get()
        label = config.label or label_of(hydra.runtime.choices["method"], hydra.overrides.task)
        record = OmegaConf.create({key: value for key, value in config.items() if key not in _NOT_ALIGNMENT})
        images = config.images or runs[0].config.data.measure
        record.merge_with(
            {
                "layers": layers,
                "images": images,
                "nets": {name: run.content()[:8] for name, run in zip(names_of(runs), runs)},
            }
        )
        folder = Path(config.root) / "outputs" / "align" / name / label
        return cls(runs, layers, name, label, folder, record, config)

    def begin(self) -> bool:
        """False, with a line that says so, if the alignment is done already.

        Raises:
            InputError: if the folder holds another result.
        """
        if self.config.force or not self.folder.exists():
            return True
        if not first_process():
            return not (self.folder / "done").exists()
        claim(self.folder, self.record, force=False, other="label=")
        if done := (self.folder / "done").exists():
            print(f"{self.name} {self.label}: done already, in {self.folder}", flush=True)
        return not done


def label_of(method: str, overrides: Sequence[str]) -> str:
    """The name of a result's folder: the method with what the command line changes in it.

    >>> label_of("sparse", ["images=val", "method.alpha=0.1", "method=sparse", "runs=elsewhere", "trainer=cpu"])
    'sparse,alpha=0.1,images=val'
    """
    changes = []
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        if key != "method" and key.split(".")[0] not in _NOT_ALIGNMENT:
            changes.append(f"{key.removeprefix('method.')}={value}")
    return ",".join([method, *sorted(changes)]).replace("/", "_")


def _check_numbers(config: DictConfig, least: dict[str, int]) -> None:
    for key, value in ((key, OmegaConf.select(config, key)) for key in least):
        if not isinstance(value, int) or value < least[key]:
            raise InputError(f"{key} needs to be a whole number, {least[key]} or more, not {value!r}.")


def _common_layers(runs: Sequence[Run]) -> list[str]:
    lists = {tuple(run.config.net.layers) for run in runs}
    if len(lists) > 1:
        raise InputError("These nets name different layers to compare; say which as layers=[NAME,...].")
    return list(lists.pop())
