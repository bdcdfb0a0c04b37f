"""Ends a job of several processes when one of them dies, the first too, instead of waiting for it for ever."""

import logging
import os
import sys
import threading
import time
from datetime import timedelta
from typing import Self

import torch.distributed as dist
from torch.distributed import TCPStore  # type: ignore[attr-defined]

log = logging.getLogger(__name__)

_INTERVAL = 2.0  # seconds between two beats
_LIMIT = 45.0  # seconds without a beat after which a process counts as dead


class Heartbeat:
    """While open, each process tells a shared store that it runs, and leaves when another one stops doing so.

    Between two exchanges of a pass, which may be an hour apart, nothing else would notice. The beat comes from a thread, so
    a long batch does not matter; leaving is at once (exit code 1, one sentence), for the other threads may wait for the dead
    one. Without several processes it does nothing. A process counts as dead after `limit` seconds of silence.
    """

    def __init__(self, limit: float = _LIMIT) -> None:
        self.limit = limit
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._store: TCPStore | None = None
        self._failed = False  # then the others are to take this process for dead

    def __enter__(self) -> Self:
        if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
            return self
        rank, world = dist.get_rank(), dist.get_world_size()
        store = self._opened(0, world, first=True) if rank == 0 else None
        port = [store.port if store else 0]
        dist.broadcast_object_list(port)
        if rank and port[0]:
            store = self._opened(port[0], world, first=False)
        joined: list[bool] = [False] * world
        dist.all_gather_object(joined, store is not None)
        if store is None or not all(joined):
            # a firewall between nodes, say: the pass is worth more than the watch over it
            log.warning("The processes cannot watch one another: one that dies will be waited for")
            return self
        self._store = store  # the first process's serves those who leave later: it must outlive the thread
        self._thread = threading.Thread(target=self._beat, args=(store, rank, world), daemon=True)
        self._thread.start()
        return self

    def _opened(self, port: int, world: int, *, first: bool) -> TCPStore | None:
        host, timeout = os.environ.get("MASTER_ADDR", "127.0.0.1"), timedelta(seconds=self.limit)
        try:
            return TCPStore(host, port, world, first, timeout, wait_for_workers=False)
        except (RuntimeError, ConnectionError):
            return None

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        """Stop watching; where all is well a barrier of the processes has to follow before the first one drops this."""
        self._failed = kind is not None
        self._stop.set()
        if self._thread is not None:
            self._thread.join(2 * _INTERVAL)

    def _beat(self, store: TCPStore, rank: int, world: int) -> None:
        others = [other for other in range(world) if other != rank]
        beats, since = dict.fromkeys(others, -1), dict.fromkeys(others, time.monotonic())
        try:
            while not self._stop.wait(_INTERVAL):
                store.add(f"beat/{rank}", 1)
                for other in others:
                    now = store.add(f"beat/{other}", 0)
                    if now != beats[other] or store.add(f"left/{other}", 0):
                        beats[other], since[other] = now, time.monotonic()
                    elif time.monotonic() - since[other] > self.limit:
                        self._leave(f"process {other} of {world}")
            if not self._failed:
                store.add(f"left/{rank}", 1)
        except (RuntimeError, ConnectionError):  # the store lives in the first process
            if not self._stop.wait(_INTERVAL):
                self._leave("the first process")

    @staticmethod
    def _leave(who: str) -> None:
        message = f"error: {who} of this job died, so it ends; start the command again, it goes on where it was."
        print(message, file=sys.stderr, flush=True)
        os._exit(1)
