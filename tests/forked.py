"""Processes forked from one that has imported what commands import: as clean as new ones, and there seconds sooner."""

import atexit
import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import threading
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(  # other packages only: what is ours is imported anew
    ["wandb.sdk.launch", "torch", "torchvision", "pytorch_lightning", "hydra", "pandas", "scipy.stats", "sklearn.datasets",
     "matplotlib.backends.backend_pdf", "fontTools.subset"]
)  # fmt: skip


class Forked:
    """As `subprocess.Popen([python, *arguments])`, of a script or of -c CODE; `stdout` has its errors, too."""

    def __init__(self, python, *arguments, cwd=None, **environment):
        environment = os.environ | {"OMP_NUM_THREADS": "1"} | environment
        ours, theirs = CONTEXT.Pipe(duplex=False)
        given = [*map(str, arguments)], theirs, str(cwd or Path.cwd()), environment
        self._process = CONTEXT.Process(target=_run, args=given)
        self._process.start()
        theirs.close()
        self.stdout = os.fdopen(os.dup(ours.fileno()))
        self.pid, self.kill = self._process.pid, self._process.kill
        atexit.register(self.kill)  # a test that fails leaves none behind

    @property
    def returncode(self):
        return self._process.exitcode

    def poll(self):
        return self._process.exitcode

    def wait(self, seconds=300):
        self._process.join(seconds)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("forked", seconds)
        return self._process.exitcode

    def output(self, code=0):
        """What it still prints; its exit code is checked."""
        late = threading.Timer(300, self.kill)
        late.start()
        said = self.stdout.read()
        late.cancel()
        assert self.wait() == code, said
        return said


def free_port():
    """A port of this machine that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def both_nodes(*command, cwd=None):
    """What the processes of a command on two nodes say, one on each."""
    nodes = ("trainer=ddp", "trainer.devices=1", "trainer.num_nodes=2", "trainer.accelerator=cpu")
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    both = [Forked(*command, *nodes, cwd=cwd, NODE_RANK=str(node), **where) for node in range(2)]
    return [process.output() for process in both]


def _run(arguments, pipe, cwd, environment):
    for stream in (1, 2):
        os.dup2(pipe.fileno(), stream)
    pipe.close()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.argv = arguments
    if arguments[0] == "-c":
        sys.argv = ["-c", *arguments[2:]]
        exec(compile(arguments[1], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.path[0] = str(Path(arguments[0]).parent)
        runpy.run_path(arguments[0], run_name="__main__")
