"""Tasks spread over processes forked from this one: what they are given is there already, and results are the same bits."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import Generic, Self, TypeVar, cast

import torch
from threadpoolctl import ThreadpoolController

from convergent.cli.processes import PARENT, end_with_parent
from convergent.errors import InputError
from convergent.memory import available_memory

log = logging.getLogger(__name__)

T = TypeVar("T")


class Workers(Generic[T]):
    """While open, processes that do tasks given by number; for one process alone, and where none can be forked, this one.

    They end with this process, however it ends, and at once when it leaves. What they log comes out here, once. Ctrl-C is
    for this process, which ends them.

    Args:
        work: does the task of a number; what it returns is pickled.
        processes: how many.
    """

    def __init__(self, work: Callable[[int], T], processes: int) -> None:
        # elsewhere other packages do not outlive forks
        self.work, self.processes = work, processes if sys.platform == "linux" else 1
        self._there: dict[Connection, ForkProcess] = {}
        self._logged: set[str] = set()

    def __enter__(self) -> Self:
        context = multiprocessing.get_context("fork")
        for _ in range(self.processes if self.processes > 1 else 0):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(self.work, theirs, os.getpid()), daemon=True)
            process.start()
            theirs.close()
            self._there[ours] = process
        return self

    def __exit__(self, *exception: object) -> None:
        for process in self._there.values():
            process.kill()
        for pipe, process in self._there.items():
            process.join()
            pipe.close()
        self._there.clear()

    def results(self, order: Sequence[int]) -> Iterator[tuple[int, T]]:
        """The number and the result of each task as they come; tasks are begun in this order.

        Raises:
            InputError: if a process was killed.
            Exception: what a task raises.
        """
        if not self._there:
            yield from ((number, self.work(number)) for number in order)
            return
        todo, busy = iter(order), dict[Connection, int]()
        for pipe, number in zip(self._there, todo):
            pipe.send_bytes(pickle.dumps(number))
            busy[pipe] = number
        while busy:
            for pipe in cast("list[Connection]", wait(list(busy))):
                answer = self._answer(pipe)
                if isinstance(answer, logging.LogRecord):
                    self._log(answer)
                    continue
                done = busy.pop(pipe)
                for number in islice(todo, 1):  # before the result is used, which may take its time
                    pipe.send_bytes(pickle.dumps(number))
                    busy[pipe] = number
                yield done, answer[0]

    def _answer(self, pipe: Connection) -> logging.LogRecord | tuple[T]:
        try:
            answer: logging.LogRecord | tuple[T] | Exception = pickle.loads(pipe.recv_bytes())
        except (EOFError, ConnectionError):
            raise InputError(
                "A process of this job was killed, for want of memory perhaps; ask for fewer, as n_jobs=1."
            ) from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _log(self, record: logging.LogRecord) -> None:
        """Pass on what a process logs, unless another one said so before."""
        if (text := record.getMessage()) not in self._logged:
            self._logged.add(text)
            logging.getLogger(record.name).handle(record)


class _Passed(logging.Handler):
    """Hands what is logged to the process that everybody listens to."""

    def __init__(self, pipe: Connection) -> None:
        super().__init__()
        self.pipe = pipe

    def emit(self, record: logging.LogRecord) -> None:
        record.msg, record.args, record.exc_info = record.getMessage(), None, None  # whatever can be pickled
        self.pipe.send_bytes(pickle.dumps(record))


def _serve(work: Callable[[int], T], pipe: Connection, parent: int) -> None:
    """Do the tasks whose numbers come, one after another, until this process is ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ[PARENT] = str(parent)
    end_with_parent()
    ours = logging.getLogger("convergent")
    ours.handlers, ours.propagate, logging.getLogger().handlers = [], True, [_Passed(pipe)]
    while True:
        try:
            answer = pickle.dumps((work(pickle.loads(pipe.recv_bytes())),))
        except EOFError:
            return
        except Exception as error:
            answer = pickle.dumps(error)
        pipe.send_bytes(answer)


def processes_for(tasks: int, wanted: int | None, memory: float) -> int:
    """How many processes do so many tasks: as wanted, else as many as threads; no more than have so many bytes each."""
    most = min(wanted or torch.get_num_threads(), max(1, tasks))
    processes = max(1, min(most, int(min(available_memory(), 1e15) / memory)))
    if processes < most:
        log.info("%d of %d processes: each takes up to %.1f GB of memory", processes, most, memory / 1e9)
    return processes


@contextlib.contextmanager
def threads(number: int) -> Iterator[None]:
    """So many threads for torch and for every other library, whose sums depend on their number in the last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        with ThreadpoolController().limit(limits=number):
            yield
    finally:
        torch.set_num_threads(before)
