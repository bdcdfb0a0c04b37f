"""What all methods take at CaffeNet's size, from saved moments: five layers of 96 to 384 units, 64 blocks, four nets.

The nets are CaffeNets of full width for the fractals' 64 x 64 pixels, trained for one epoch; their moments are measured
first. One sweep over all methods then aligns all pairs in both directions, with folds, intervals, both nulls, analyses and
pictures: `python src/align.py -m method=...`, so many of them side by side, the longest first.

python tests/benchmarks/alignment.py
"""

import argparse
import heapq
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import combinations
from pathlib import Path

from streaming import machine

PROJECT = Path(__file__).parents[2]
STEMS = {file.stem for file in (PROJECT / "conf" / "method").glob("*.yaml")}
LONGEST = ("sparse_path", "hierarchical_spectral", "sparse", "spectral_paper", "mutual_information", "least_squares",
           "spectral")  # fmt: skip
METHODS = [*LONGEST, *sorted(STEMS - set(LONGEST))]  # a sweep begins them in this order
NETS = ("experiment=fractals", "seeds=[0,1,2,3]", "net.module.width=1.0", "epochs=1", "data.per_class=80")


def ran(root, script, *options):
    """CPU and wall seconds of a command."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, str(PROJECT / "src" / f"{script}.py"), *options, f"root='{root}'", "logger=csv"]
    environment = os.environ | {"PYTHONPATH": str(PROJECT / "src")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # without byte code every process would compile all packages anew
    subprocess.run(command, check=True, stdout=sys.stderr, env=environment)
    wall_s, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, wall_s


def main():
    """Make nets and moments where there are none, and measure a sweep over all methods."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2, help="number of methods at a time")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--pairs", type=int, default=6, help="of nets, the first ones")
    parser.add_argument("--root", type=Path, help="of nets and moments, which stay there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = options.root or Path(folder)
        pairs = [f"['seed={a}','seed={b}']" for a, b in combinations(range(4), 2)][: options.pairs]
        given = ("experiment=fractals", f"pairs=[{','.join(pairs)}]")
        if not (root / "outputs" / "moments").exists():
            ran(root, "train", *NETS)
            ran(root, "align", *given, "method=mutual_information", "label=first", "evaluation.intervals=false")
        about = {"pairs": len(pairs), "jobs": options.jobs, "cores": os.cpu_count()}
        for common in root.rglob("moments/*/common,*"):  # what no method changes is made anew
            shutil.rmtree(common)
        began, side_by_side = time.time(), f"hydra.launcher.n_jobs={options.jobs}"
        how = ("-m", f"method={','.join(options.methods)}", side_by_side, "force=true")
        about["cpu_s"], about["wall_s"] = ran(root, "align", *how, *given)
        print(json.dumps(machine() | about), flush=True)
        for method, seconds in durations(root, options.methods, options.jobs, began).items():
            print(json.dumps({"method": method, "wall_s": seconds}), flush=True)


def durations(root, methods, jobs, began):
    """Seconds of each method of a sweep: from the end of the one before it, in order, to its own."""
    free, seconds = [began] * jobs, {}
    for method in methods:
        (done,) = root.glob(f"outputs/align/fractals/{method},pairs*/done")
        ended, started = done.stat().st_mtime, heapq.heappop(free)
        seconds[method] = ended - started
        heapq.heappush(free, ended)
    return seconds


if __name__ == "__main__":
    main()
