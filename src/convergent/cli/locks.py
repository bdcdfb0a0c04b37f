"""One job at a time for each result: a job that comes later says so, and waits. Light to import."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from convergent.cli.processes import first_process
from convergent.errors import InputError

_POLL = 0.5  # seconds between two looks at a lock that another job holds


@contextmanager
def alone(folders: Sequence[Path], say: Callable[[str], None]) -> Iterator[None]:
    """Hold the locks of result folders, outputs/KIND/NAME/LABEL, which a job's death releases, however it dies.

    The locks lie beside the results, in outputs/locks: a folder can be removed and made anew while its lock is held.

    Raises:
        InputError: if a lock cannot be written.
    """
    with ExitStack() as locks:
        for folder in sorted(folders) if first_process() else ():  # in one order, or two jobs wait for one another
            outputs = folder.parents[2]
            file = outputs / "locks" / folder.relative_to(outputs)
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                locks.enter_context(held(file, lambda: say("another job is at it; waiting for its end")))
            except OSError as error:
                raise InputError(f"{file} cannot be written ({error.strerror}); choose another root=.") from None
        yield


@contextmanager
def held(file: Path, wait: Callable[[], None], patience: float = 0) -> Iterator[None]:
    """Hold the lock of a file; where another job holds it wait for its end, and call `wait` after so many seconds."""
    lock = FileLock(file)
    try:
        lock.acquire(timeout=patience, poll_interval=_POLL)
    except Timeout:
        wait()
        lock.acquire(poll_interval=_POLL)
    try:
        yield
    finally:
        lock.release()
