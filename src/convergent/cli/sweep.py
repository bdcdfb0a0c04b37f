"""What a sweep is run by is checked before its first job: a job's own options are checked in that job."""

from __future__ import annotations

from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from convergent.cli.checking import check_launcher
from convergent.cli.command import leave
from convergent.errors import InputError


class CheckSweep(Callback):
    """Ends a sweep whose launcher cannot be what it is asked to be, in one sentence."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Check the launcher."""
        try:
            check_launcher(config)
        except InputError as error:
            leave(str(error))
