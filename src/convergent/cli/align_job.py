"""What an alignment is to do and where it is kept: decided before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from convergent.analysis.evaluation import Evaluation
from convergent.cli.as_trained import read_as_given
from convergent.cli.checking import check_objects, check_options, resolved
from convergent.cli.command import command_of, given_options, overrides, say
from convergent.cli.folders import check_ours, claim, component, shortened
from convergent.cli.locks import alone
from convergent.cli.nets import GivenNet, find_nets, names_of, trusted
from convergent.cli.processes import first_process
from convergent.cli.schema import ALIGNMENT, ALL_LAYERS, GROUPS, Options, identifying
from convergent.errors import InputError
from convergent.options import Kind, identity
from convergent.streaming.reading import Reading
from convergent.training.runs import Run


@dataclass(frozen=True)
class AlignJob:
    """One method on all pairs of an experiment's nets.

    Attributes:
        wanted: layers to be aligned, see `layers.resolve`.
        pairs: names of the nets to be aligned; None for all with all.
        label: of the result: the method with the changes to it.
        record: everything the result depends on.
        command: that makes this result again.
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
        given, at_epochs = resolved(config.nets), resolved(config.at_epochs)
        if given == "untrained":
            given, at_epochs = f"{config.root}/outputs/train/{config.name}", [0]
        nets = find_nets(given, at_epochs, trusted(config))
        read_as_given(nets, config)
        names = names_of(nets)
        more = [*(f"{name}={pattern}" for name, pattern in config.populations.items()), *config.encoders]
        wanted = [*(resolved(config.layers) or ([] if more else _common_layers(nets))), *more]
        if more and config.function:
            raise InputError("function=true replaces layers of the nets; leave populations out, and encoders.")
        given_pairs = None if config.pairs == ALL_LAYERS else resolved(config.pairs)
        pairs = _pairs(given_pairs, nets, names) if given_pairs or at_epochs else None
        method = str(HydraConfig.get().runtime.choices["method"])
        label = component(label_of(method, overrides()) if config.label is None else config.label, "label")
        record = {name: config[name] for name, kind in ALIGNMENT.items() if isinstance(kind, Kind) and kind.identifies}
        record |= {name: identity(_group(config, name)) for name in GROUPS} | {
            "layers": wanted,
            "images": config.images or images_config(nets, config).data.measure,
            "pictures": config.pictures,
            "nets": {name: net.content()[:8] for name, net in zip(names, nets)},
        }
        record = {name: value for name, value in record.items() if name != "encoders" or value}
        experiments = dict.fromkeys(net.group for net in nets)
        named = config.name if "name" in given_options() else shortened("~".join(experiments))
        name = component(Path(given).resolve().name if isinstance(given, str) else named, "name")
        folder = Path(config.root) / "outputs" / "align" / name / label
        command = command_of("align", overrides())
        return cls(nets, wanted, pairs, name, label, folder, OmegaConf.create(record), config, command, method)

    @cached_property
    def reading(self) -> Reading:
        """How activations are read."""
        return _group(self.config, "reading")  # type: ignore[no-any-return]

    @cached_property
    def evaluation(self) -> Evaluation:
        """How alignments are evaluated."""
        return _group(self.config, "evaluation")  # type: ignore[no-any-return]

    @property
    def all_layers(self) -> bool:
        """Whether every layer is also compared with every other."""
        return bool(self.config.pairs == ALL_LAYERS)

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

    @property
    def done(self) -> bool:
        """Whether the result is there, and not to be replaced."""
        return not self.anew and (self.folder / "done").exists()

    @property
    def anew(self) -> bool:
        """Whether a result that is there is to be replaced: by will, or because its function was never judged."""
        table = {True: "function.csv", "units": "substitution.csv"}.get(self.config.get("function"))
        return bool(self.config.force or (table and not (self.folder / table).exists()))

    def alone(self) -> AbstractContextManager[None]:
        """No other job writes this result meanwhile: waits for one that does."""
        return alone([] if self.done else [self.folder], self.say)

    def begin(self) -> bool:
        """False, with a line that says so, if the alignment is done already.

        Raises:
            InputError: if the folder holds another result.
        """
        done = self.done
        if not done:
            check_objects(resolved(self.config))
        if not first_process():
            return not done
        if self.config.force:
            check_ours(self.folder, "label=")
        elif self.folder.exists():
            claim(self.folder, self.record, force=False, other="label=")
        if done:
            self.say(f"done already, in {self.folder}", result=True)
        return not done

    def say(self, text: str, *, result: bool = False) -> None:
        """Print a line about this job; where we are silenced only what is a result."""
        say(f"{self.name} {self.label}: {text}", result=result)


def label_of(method: str, overrides: Sequence[str], options: Options = ALIGNMENT) -> str:
    """The name of a result's folder: the method with what the command line changes in it.

    >>> label_of("sparse", ["reading.sample=3", "method.alpha=0.1", "method=sparse", "reading.device=cpu", "trainer=cpu"])
    'sparse,alpha=0.1,sample=3'
    """
    changes = []
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        group, _, inner = key.partition(".")
        changed = {group: {inner: value} if inner else value} if group in options and key != "method" else {}
        if identifying(changed, options) or override == "nets=untrained":
            changes.append(f"{inner or key}={value}")
    return shortened(",".join([method, *sorted(changes)]))


def images_config(nets: Sequence[GivenNet], config: DictConfig) -> DictConfig:
    """The configuration whose `data` are measured: the first run's, or the command's own where there is no run."""
    return next((net.config for net in nets if isinstance(net, Run)), config)


def _group(config: DictConfig, name: str) -> Any:
    return instantiate(config[name], _convert_="all")


def _common_layers(nets: Sequence[GivenNet]) -> list[str]:
    lists = {net.layers for net in nets}
    if len(lists) > 1 or lists == {()}:
        raise InputError(
            "These nets name no layers to compare, or different ones; say which as layers=[NAME,...], or where they differ "
            "as layers=[[NAME_IN_THE_FIRST_NET,NAME_IN_THE_SECOND],...]."
        )
    return list(lists.pop())


def _pairs(pairs: Any, nets: Sequence[GivenNet], names: Sequence[str]) -> list[tuple[str, str]]:
    if not pairs:  # those of different nets after the same epoch
        epoch = {name: net.epoch if isinstance(net, Run) else None for name, net in zip(names, nets)}
        return [(a, b) for a, b in combinations(names, 2) if epoch[a] == epoch[b]]
    for pair in pairs:
        if not isinstance(pair, list) or len(set(pair)) != 2 or not set(pair) <= set(names):
            raise InputError(f"pairs needs lists of two of {', '.join(names)}, as pairs=[[A,B],[A,C]], not {pair}.")
    return [(a, b) for a, b in pairs]
