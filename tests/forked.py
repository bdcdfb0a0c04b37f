"""Processes forked from one that has imported what commands import: as clean as new ones, and there seconds sooner."""

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(  # other packages only: what is ours is imported anew
    ["torch", "torchvision", "pytorch_lightning", "hydra", "wandb", "pandas", "scipy.stats", "sklearn.datasets",
     "matplotlib.backends.backend_pdf", "fontTools.subset"]
)  # fmt: skip


class Forked:
    """As `subprocess.Popen([python, *arguments])`, of a script or of -c CODE; `stdout` has its errors, too."""

    def __init__(self, python, *arguments, cwd=None, **environment):
        environment = os.environ | {"OMP_NUM_THREADS": "1"} | environment
        with tempfile.TemporaryDirectory() as folder:
            os.mkfifo(pipe := Path(folder) / "pipe")
            given = [*map(str, arguments)], str(pipe), str(cwd or Path.cwd()), environment
            self._process = _CONTEXT.Process(target=_run, args=given)
            self._process.start()
            self.stdout = pipe.open()
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
        said = self.stdout.read()
        assert self.wait() == code, said
        return said


def _run(arguments, pipe, cwd, environment):
    with open(pipe, "w") as file:  # noqa: PTH123
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
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
