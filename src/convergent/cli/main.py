"""The commands: `convergent train ...`, and in a checkout `python src/train.py ...`. Light, so that help comes at once."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from convergent import __version__
from convergent.cli.help import OVERVIEW, help_of
from convergent.cli.place import conf, register_root
from convergent.cli.processes import as_first

if TYPE_CHECKING:
    from omegaconf import DictConfig

COMMANDS = ("train", "align", "merge", "report", "prepare")
_CHOICE = "--config-name="


def main() -> None:
    """The console command `convergent`: one of the commands, or what there is."""
    word = sys.argv[1] if len(sys.argv) > 1 else "--help"
    name = word.removeprefix(_CHOICE)
    if name in COMMANDS:
        sys.argv[1] = _CHOICE + name  # Hydra's own flag, so it reaches the processes that a sweep or Lightning starts
        run(name)
    elif word in ("--help", "-h", "help"):
        print(OVERVIEW, end="")
    elif word == "--version":
        print(f"convergent {__version__}")
    else:
        from convergent.cli.command import leave

        leave(f"There is no command {word}; there are {', '.join(COMMANDS)}, and convergent --help says what they do.")


def run(name: str) -> None:
    """Run one of the commands with the options of the command line."""
    if {"--help", "-h"} & set(sys.argv[1:]):
        print(help_of(name, sys.argv[1:]), end="")  # the rest of Hydra's help is there with --hydra-help
        return
    import hydra

    from convergent.cli.command import explains_mistakes, leave
    from convergent.cli.composing import composed, composing
    from convergent.cli.schema import OPTIONS, renaming

    if sentence := renaming(name, sys.argv[1:]):
        leave(sentence)
    for option in (argument[2:] for argument in sys.argv[1:] if argument.startswith("--")):
        if option.split("=")[0].split(".")[0] in OPTIONS[name]:
            leave(f"Options have no dashes before them; write {option}.")
    # Hydra refuses options on both sides of it
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda argument: argument not in ("-m", "--multirun"))

    @explains_mistakes
    def task(config: DictConfig) -> None:
        composed()
        perform(name, config)

    register_root()
    with composing(name, sys.argv[1:]):
        hydra.main(version_base="1.3", config_path=str(conf()), config_name=name)(task)()


def perform(name: str, config: DictConfig) -> None:
    """Do what a command is asked for; heavy imports wait until there is something to do."""
    if name == "report":
        from convergent.cli.report import report

        report(config)
    elif name == "prepare":
        from convergent.cli.prepare import prepare

        prepare(config)
    elif name == "train":
        from convergent.cli.train_job import TrainJob

        job = TrainJob.of(config)
        with job.alone():
            if as_first(job.begin()):
                from convergent.cli.train import train

                train(job)
    elif name == "merge":
        from convergent.cli.merge_job import MergeJob

        merging = MergeJob.of(config)
        with merging.alone():
            if as_first(merging.begin()):
                from convergent.cli.merge import merge

                merge(merging)
    else:
        from convergent.cli.align_job import AlignJob

        comparison = AlignJob.of(config)
        with comparison.alone():
            if as_first(comparison.begin()):
                from convergent.cli.align import align

                align(comparison)
