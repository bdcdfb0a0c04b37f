"""What a training is to do and where it is kept: decided before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from convergent.cli.checking import check_objects, check_options, resolved
from convergent.cli.command import command_of, overrides, say
from convergent.cli.folders import check_ours, claim, component
from convergent.cli.locks import alone
from convergent.cli.nets import difference_beside
from convergent.cli.processes import first_process
from convergent.cli.schema import OPTIONS
from convergent.training.runs import Run


@dataclass(frozen=True)
class TrainJob:
    """One seed of an experiment, or several from one stream of images, each with the resolved configuration it has alone."""

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
        seeds = [config.seed] if config.seeds is None else resolved(config.seeds)
        del config["seeds"]
        folder, configs = Path(config.root) / "outputs" / "train" / config.name, []
        for seed in seeds:
            of_run = config.copy()
            of_run.seed = seed
            for key in ("order_seed", "augment_seed"):
                of_run[key] = seed if of_run[key] is None else of_run[key]
            configs.append(of_run)
        return cls([Run(folder / f"seed={seed}") for seed in seeds], configs, command_of("train", overrides()))

    def alone(self) -> AbstractContextManager[None]:
        """No other job trains these nets meanwhile: waits for one that does."""
        return alone([run.folder for run in self.unfinished().runs], self.say)

    def begin(self) -> bool:
        """Claim the folders for this configuration; False, with a line that says so, if all nets are trained already.

        Raises:
            InputError: if an object of the configuration cannot be what it is, or a folder is not ours.
        """
        unfinished = self.unfinished()
        if unfinished.runs:
            check_objects(resolved(self.config))
        if not first_process():
            return bool(unfinished.runs)
        for run in self.runs:
            check_ours(run.folder, "name=")
        for run, config in zip(self.runs, self.configs):
            claim(run.folder, config, force=config.force, options=OPTIONS["train"])
            if run.finished:
                self.say(f"done already, {run.accuracies()}", run, result=True)
            elif run.checkpoint.exists():
                self.say("going on from the last checkpoint", run)
        if unfinished.runs and (difference := difference_beside(unfinished.runs[0])):
            self.say(f"{difference}, so align takes them together only as nets=[...]; another name= keeps them apart")
        return bool(self.unfinished().runs)

    def unfinished(self) -> TrainJob:
        """The job without the nets that are trained already."""
        # another process than the first may be here before that has removed what force removes
        again = self.config.force and not first_process()
        todo = [number for number, run in enumerate(self.runs) if again or not run.finished]
        return replace(self, runs=[self.runs[i] for i in todo], configs=[self.configs[i] for i in todo])

    def after_stop(self) -> str:
        """What a stopped training leaves."""
        if any(run.checkpoint.exists() for run in self.runs):
            return "the same command goes on from the last checkpoint"
        return "nothing was kept yet, the same command begins anew"

    def say(self, text: str, run: Run | None = None, *, result: bool = False) -> None:
        """Print a line about this job, or one of its nets; where we are silenced only what is a result."""
        names = ", ".join(of.name for of in ([run] if run else self.runs))
        say(f"{self.config.name} {names}: {text}", result=result)
