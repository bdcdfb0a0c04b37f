"""What a merging is to do and where it is kept: decided before anything heavy is imported."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from convergent.cli.align_job import AlignJob, label_of
from convergent.cli.as_trained import read_as_given
from convergent.cli.checking import check_options, resolved
from convergent.cli.command import command_of, given_options, overrides
from convergent.cli.folders import component, shortened
from convergent.cli.nets import find_nets, names_of, trusted
from convergent.cli.schema import MERGING
from convergent.options import Kind, identity


class MergeJob(AlignJob):
    """Nets of one architecture merged by one method, with other alignments beside it; every two, and all in one."""

    @classmethod
    def of(cls, config: DictConfig) -> Self:
        """The job of a configuration composed from conf/merge.yaml.

        Raises:
            InputError: if there are no two nets that go together, or a value is none that it can be.
        """
        check_options("merge", config)
        given = resolved(config.nets)
        nets = find_nets(given, None, trusted(config))
        read_as_given(nets, config)
        method = str(HydraConfig.get().runtime.choices["method"])
        label = component(label_of(method, overrides(), MERGING) if config.label is None else config.label, "label")
        record = {name: config[name] for name, kind in MERGING.items() if isinstance(kind, Kind) and kind.identifies}
        record |= {
            "reading": identity(instantiate(config.reading, _convert_="all")),
            "nets": {name: net.content()[:8] for name, net in zip(names_of(nets), nets)},
        }
        named = (
            config.name if "name" in given_options() else shortened("~".join(dict.fromkeys(net.group for net in nets)))
        )
        name = component(Path(given).resolve().name if isinstance(given, str) else named, "name")
        folder = Path(config.root) / "outputs" / "merge" / name / label
        command = command_of("merge", overrides())
        return cls(nets, (), None, name, label, folder, OmegaConf.create(record), config, command, method)

    @property
    def anew(self) -> bool:
        """Whether a result that is there is to be replaced."""
        return bool(self.config.force)
