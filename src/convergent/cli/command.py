"""The command line: what was typed, and a user's mistake as one sentence with exit code 1 and no traceback."""

import errno
import functools
import logging
import re
import shlex
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from convergent.cli.place import as_typed
from convergent.cli.processes import end_with_parent
from convergent.cli.schema import RENAMED
from convergent.errors import InputError
from convergent.progress import silenced

# Warnings about what we mean to do, and about what libraries owe one another; pyproject.toml has those of the tests.
_NOISE = (
    "Checkpoint directory .* exists and is not empty",  # a training that goes on
    ".*does not have many workers",  # data.workers= says how many, and 0 suits small images
    ".*isinstance.treespec, LeafSpec",  # Lightning uses what torch has deprecated
    "predict returned None",  # its callbacks hold the results of a pass
    "You are using a custom batch sampler",  # batches end where blocks of images do
    "You have overridden `(transfer_batch_to_device|on_before_batch_transfer)`",  # numbers and classes are read on the host
    "The number of training batches .* is smaller than the logging interval",  # epochs are logged, too
    "You're resuming from a checkpoint that ended before the epoch ended",  # the order of images skips what was read
    "The `srun` command is available on your system but is not used",  # jobs may run inside an allocation without it
)

# What a disk may have against a file, which its user can mend.
_DISK = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EISDIR, errno.ENOTDIR, errno.ENOENT,
    errno.EEXIST, errno.ENAMETOOLONG, errno.EMFILE, errno.EFBIG,
}  # fmt: skip


def explains_mistakes(main: Callable[[Any], None]) -> Callable[[Any], None]:
    """Wrap a command's main function: what the user can mend is printed as one sentence on stderr, and exits with 1."""

    @functools.wraps(main)
    def wrapped(config: Any) -> None:
        for message in _NOISE:
            warnings.filterwarnings("ignore", message)
        if OmegaConf.is_config(config) and config.get("quiet") is True:
            logging.getLogger("convergent").setLevel(logging.WARNING)
        sys.path.append(str(Path.cwd()))  # a user's own modules, after everything installed
        end_with_parent()
        try:
            main(config)
        except InputError as error:
            # a data loader's worker wraps its traceback around the sentence, which is its last line
            leave(_as_typed(str(error).strip().rsplit("InputError: ", 1)[-1]))
        except InstantiationException as error:
            cause = error.__cause__ if isinstance(error.__cause__, InputError) else error
            leave(" ".join(str(cause).split()))
        except OmegaConfBaseException as error:
            leave(f"{error.full_key}: {str(error).splitlines()[0]}.")
        except OSError as error:
            if error.errno not in _DISK:
                raise
            place = error.filename2 or error.filename or f"a file in {Path.cwd()}"
            leave(
                f"{place} cannot be read or written ({error.strerror}); mend that, then the same command does the rest."
            )
        except KeyboardInterrupt as stop:  # what was being done may say what is there
            left = stop.args[0] if stop.args else "what is finished is kept, the same command does the rest"
            print(f"stopped; {left}.", file=sys.stderr, flush=True)
            sys.exit(130)

    return wrapped


def _as_typed(sentence: str) -> str:
    """A sentence in which arguments of the library are options of the command line, as sample= is reading.sample=.

    >>> _as_typed("choose sample=every or method.seed=1")
    'choose reading.sample=every or method.seed=1'
    """
    return re.sub(rf"(?<![\w.])({'|'.join(RENAMED)})=", lambda option: f"{RENAMED[option[1]]}=", sentence)


def overrides() -> Sequence[str]:
    """The options of the command line, as they were typed."""
    return HydraConfig.get().overrides.task if HydraConfig.initialized() else ()


def given_options() -> list[str]:
    """The options on the command line, by their full names."""
    return [re.split(r"[=@]", override.lstrip("+~"))[0] for override in overrides()]


def command_of(script: str, given: Sequence[str]) -> str:
    """The command line of a job, without what is of this machine only.

    >>> command_of("align", ["method=sparse", "layers=[conv1]", "root=elsewhere"])
    "python src/align.py method=sparse 'layers=[conv1]'"
    """
    there = [override for override in given if override.partition("=")[0] not in ("root", "force", "quiet", "n_jobs")]
    return as_typed(shlex.join(["python", f"src/{script}.py", *there]))


def say(text: str, *, result: bool = False) -> None:
    """Print a line; where we are silenced only what is a result."""
    if result or not silenced():
        print(text, flush=True)


def leave(sentence: str) -> NoReturn:
    """End the program with what its user can mend."""
    print(f"error: {as_typed(sentence)}", file=sys.stderr, flush=True)
    sys.exit(1)
