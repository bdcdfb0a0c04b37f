"""What a command is to do and where it is kept: decided before anything heavy is imported."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from convergent.cli.as_trained import read_as_said
from convergent.cli.checking import check_options, check_targets, said
from convergent.cli.folders import RESULTS, check_ours, claim, component, remove_result, shortened
from convergent.cli.locks import alone
from convergent.cli.nets import GivenNet, find_nets, names_of
from convergent.cli.processes import first_process
from convergent.cli.schema import OPTIONS
from convergent.errors import InputError
from convergent.training.runs import Run

# Settings that an alignment depends on: what its folder's name is made of, and with the pictures its configuration.
_ALIGNMENT = (
    "method", "layers", "images", "sample", "units", "blocks", "block_memory", "folds", "pairs", "at_epochs", "nulls",
    "rotations", "intervals",
)  # fmt: skip


@dataclass(frozen=True)
class TrainJob:
    """One seed of an experiment, or several that are trained from one stream of images.

    Attributes:
        runs: their folders.
        configs: of each run, resolved: the one that it would have alone.
        command: that makes these nets again.
    """

    runs: Sequence[Run]
    configs: Sequence[DictConfig]
    command: str

    @property
    def config(self) -> DictConfig:
        """What is the same for all of them, in the first one's configuration."""
        return self.configs[0]

    @classmethod
    def of(cls, config: DictConfig) -> TrainJob:
        """The job of a configuration composed from conf/train.yaml.

        Raises:
            InputError: if a value is missing, or is none that it can be.
        """
        check_options("train", config)
        # an experiment's file may also say how its nets are to be aligned, which is no matter of training
        config = OmegaConf.masked_copy(config, [str(key) for key in config if key in OPTIONS["train"]])
        config.name = component(config.name, "name")
        seeds = [config.seed] if config.seeds is None else _plain(config.seeds)
        del config["seeds"]
        folder, runs, configs = Path(config.root) / "outputs" / "train" / config.name, [], []
        for seed in seeds:
            alone = config.copy()
            alone.seed = seed
            for key in ("order_seed", "augment_seed"):
                alone[key] = seed if alone[key] is None else alone[key]
            runs.append(Run(folder / f"seed={seed}"))
            configs.append(alone)
        overrides = HydraConfig.get().overrides.task if HydraConfig.initialized() else ()
        return cls(runs, configs, command_of("train", overrides))

    def alone(self) -> AbstractContextManager[None]:
        """No other job trains these nets meanwhile: waits for one that does."""
        return alone([run.folder for run in self.left().runs], self.say)

    def begin(self) -> bool:
        """Claim the folders for this configuration; False, with a line that says so, if all nets are trained already.

        Raises:
            InputError: if an object of the configuration cannot be what it is, or a folder is not ours.
        """
        if self.left().runs:
            check_targets(self.config)
        for run in self.runs if first_process() else ():
            check_ours(run.folder, "name=")
        for run, config in zip(self.runs, self.configs) if first_process() else ():
            claim(run.folder, config, force=config.force)
            if run.finished:
                self.say(f"done already, {run.told()}", run)
            elif run.checkpoint.exists():
                self.say("going on from the last checkpoint", run)
        return bool(self.left().runs)

    def left(self) -> TrainJob:
        """The job without the nets that are trained already."""
        # another process than the first may be here before that has removed what force removes
        again = self.config.force and not first_process()
        left = [number for number, run in enumerate(self.runs) if again or not run.finished]
        return replace(
            self, runs=[self.runs[number] for number in left], configs=[self.configs[number] for number in left]
        )

    def kept(self) -> str:
        """What a stopped training leaves."""
        if any(run.checkpoint.exists() for run in self.runs):
            return "the same command goes on from the last checkpoint"
        return "nothing was kept yet, the same command begins anew"

    def abandon(self) -> None:
        """Remove what a training that failed has made, unless there is something to resume from."""
        for run in self.runs if first_process() else ():
            if run.folder.exists() and not any((run.folder / name).exists() for name in RESULTS):
                with contextlib.suppress(InputError):  # the training's own error is the one to be told
                    remove_result(run.folder)

    def say(self, text: str, run: Run | None = None) -> None:
        """Print a line about this job, or one of its nets."""
        names = [one.name for one in ([run] if run else self.runs)]
        print(f"{self.config.name} {', '.join(names)}: {text}", flush=True)


@dataclass(frozen=True)
class AlignJob:
    """One method on all pairs of an experiment's nets.

    Attributes:
        nets: to be compared.
        wanted: layers to be aligned, see `layers.resolve`.
        pairs: names of the nets to be aligned; None for all with all.
        name: of the experiment.
        label: of the result: the method with the changes to it.
        folder: of the result.
        record: everything the result depends on.
        config: resolved.
        command: that makes this result again.
        method: what it is called in conf/method.
    """

    nets: Sequence[GivenNet]
    wanted: Sequence[Any]
    pairs: Sequence[tuple[str, str]] | None
    name: str
    label: str
    folder: Path
    record: DictConfig
    config: DictConfig
    command: str = ""
    method: str = ""

    @classmethod
    def of(cls, config: DictConfig) -> AlignJob:
        """The job of a configuration composed from conf/align.yaml.

        Raises:
            InputError: if there are no two nets that go together, or a value is none that it can be.
        """
        check_options("align", config)
        given, at_epochs = (_plain(value) for value in (config.nets, config.at_epochs))
        if given == "untrained":
            given, at_epochs = f"{config.root}/outputs/train/{config.name}", [0]
        nets = find_nets(given, at_epochs, tuple(config.trust))
        read_as_said(nets, config)
        names = names_of(nets)
        wanted = _plain(config.layers) or _common_layers(nets)
        pairs = _pairs(_plain(config.pairs), nets, names) if config.pairs or at_epochs else None
        hydra = HydraConfig.get()
        method = str(hydra.runtime.choices["method"])
        label = component(label_of(method, hydra.overrides.task) if config.label is None else config.label, "label")
        record = OmegaConf.create({key: config[key] for key in (*_ALIGNMENT, "pictures")})
        images = config.images or images_config(nets, config).data.measure
        contents = {name: net.content()[:8] for name, net in zip(names, nets)}
        record.merge_with({"layers": wanted, "images": images, "nets": contents})
        named = config.name if "name" in said() else _name_of(nets)
        name = component(Path(given).resolve().name if isinstance(given, str) else named, "name")
        folder = Path(config.root) / "outputs" / "align" / name / label
        command = command_of("align", hydra.overrides.task)
        return cls(nets, wanted, pairs, name, label, folder, record, config, command, method)

    @property
    def names(self) -> list[str]:
        """What the nets are called."""
        return names_of(self.nets)

    @property
    def epochs(self) -> dict[str, int]:
        """The epoch of each net, by name, where they are compared along their training."""
        if self.config.at_epochs is None or self.config.nets == "untrained":
            return {}
        return {name: net.epoch or 0 for name, net in zip(self.names, self.nets) if isinstance(net, Run)}

    def alone(self) -> AbstractContextManager[None]:
        """No other job writes this result meanwhile: waits for one that does."""
        there = (self.folder / "done").exists() and not self.config.force
        return alone([] if there else [self.folder], self.say)

    def begin(self) -> bool:
        """False, with a line that says so, if the alignment is done already.

        Raises:
            InputError: if the folder holds another result.
        """
        done = not self.config.force and (self.folder / "done").exists()
        if not done:
            check_targets(self.config)
        if not first_process():
            return not done
        check_ours(self.folder, "label=")
        if self.config.force or not self.folder.exists():
            return True
        claim(self.folder, self.record, force=False, other="label=")
        if done:
            self.say(f"done already, in {self.folder}")
        return not done

    def say(self, text: str) -> None:
        """Print a line about this job."""
        print(f"{self.name} {self.label}: {text}", flush=True)

    def abandon(self) -> None:
        """Remove what an alignment that cannot be has made."""
        if self.folder.exists() and not (self.folder / "done").exists():
            with contextlib.suppress(InputError):  # the method's own error is the one to be told
                remove_result(self.folder)


def label_of(method: str, overrides: Sequence[str]) -> str:
    """The name of a result's folder: the method with what the command line changes in it.

    >>> label_of("sparse", ["images=val", "method.alpha=0.1", "method=sparse", "nets=elsewhere", "trainer=cpu"])
    'sparse,alpha=0.1,images=val'
    """
    changes = []
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        if (key != "method" and key.split(".")[0] in _ALIGNMENT) or override == "nets=untrained":
            changes.append(f"{key.removeprefix('method.')}={value}")
    return shortened(",".join([method, *sorted(changes)]))


def command_of(script: str, overrides: Sequence[str]) -> str:
    """The command line of a job, without what is of this machine only.

    >>> command_of("align", ["method=sparse", "layers=[conv1]", "root=elsewhere"])
    "python src/align.py method=sparse 'layers=[conv1]'"
    """
    kept = [override for override in overrides if override.partition("=")[0] not in ("root", "force")]
    return shlex.join(["python", f"src/{script}.py", *kept])


def images_config(nets: Sequence[GivenNet], config: DictConfig) -> DictConfig:
    """The configuration whose `data` are measured: the first run's, or the command's own where no run is among the nets."""
    return next((net.config for net in nets if isinstance(net, Run)), config)


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _name_of(nets: Sequence[GivenNet]) -> str:
    """A name for the comparison of a list of nets: their experiments and modules."""
    return shortened("~".join(dict.fromkeys(net.group for net in nets)))


def _common_layers(nets: Sequence[GivenNet]) -> list[str]:
    lists = {net.layers for net in nets}
    if len(lists) > 1 or lists == {()}:
        raise InputError(
            "These nets name no layers to compare, or different ones; say which as layers=[NAME,...], or where they differ "
            "as layers=[[NAME_IN_THE_FIRST_NET,NAME_IN_THE_SECOND],...]."
        )
    return list(lists.pop())


def _pairs(pairs: Any, nets: Sequence[GivenNet], names: Sequence[str]) -> list[tuple[str, str]]:
    """The pairs asked for, or those of different nets after the same epoch.

    Raises:
        InputError: if a pair is none, or names an unknown net.
    """
    if not pairs:
        epoch = {name: net.epoch if isinstance(net, Run) else None for name, net in zip(names, nets)}
        return [(a, b) for a, b in combinations(names, 2) if epoch[a] == epoch[b]]
    for pair in pairs:
        if not isinstance(pair, list) or len(set(pair)) != 2 or not set(pair) <= set(names):
            raise InputError(f"pairs needs lists of two of {', '.join(names)}, as pairs=[[A,B],[A,C]], not {pair}.")
    return [(a, b) for a, b in pairs]
