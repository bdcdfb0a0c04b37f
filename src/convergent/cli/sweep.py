"""What a sweep is run by is checked before its first job: a job's own options are checked in that job."""

from __future__ import annotations

from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from convergent.cli.checking import check_launcher
from convergent.cli.command import leave
from convergent.cli.place import register_root
from convergent.errors import InputError


class CheckSweep(Callback):
    """Ends a sweep whose launcher cannot be what it is asked to be, in one sentence."""

    def __init__(self) -> None:
        register_root()

    def __reduce__(self) -> tuple[type[CheckSweep], tuple[()]]:
        """Made anew where it is sent: to a cluster's job, which asks for the root before anything else of ours runs."""
        return type(self), ()

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Check the launcher."""
        try:
            check_launcher(config)
        except InputError as error:
            leave(str(error))
