"""Passes that are killed, processes that die, several nodes: nothing is lost, counted twice, half saved or waited for."""

import os
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from forked import Forked, both_nodes

pytestmark = pytest.mark.command

_NET = "{_target_: convergent.nets.convnet.ConvNet, channels: 1, size: 8, classes: 10, widths: [4,4,4,6], dropout: 0}"
PASS = (
    f"nets=[{_NET},{_NET}]",
    "layers=[conv1,fc1]",
    "label=it",
    "name=it",
    "logger=csv",
    "reading.blocks=8",
    "evaluation.folds=2",
    "images=val",
    "data.batch_size=2",
    "evaluation.rotations=2",
    "figure=[]",
    "similarity=[]",
)
TWO = ("trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu")
SLOW = "reading.snapshot_minutes=0"


def moments(root):
    files = sorted((root / "outputs" / "moments").rglob("*.safetensors"))
    return {str(file.relative_to(root)): load_file(file) for file in files if not file.name.startswith("partial")}


def assert_equal(one, two, processes=1):
    """Whole blocks of images are the same bit for bit; sums over all images, of some rotations, for one process only."""
    assert len(one) == 8  # two layers: of the images as they are, and shuffled, of rotations, and patches
    assert one.keys() == two.keys()
    for file, tensors in one.items():
        assert tensors.keys() == two[file].keys()
        for key, tensor in tensors.items():
            exact = processes == 1 or "/rotations" not in file or not key.startswith("1 ")
            assert torch.equal(tensor, two[file][key]) or not exact, file
            assert (tensor - two[file][key]).abs().max() <= 1e-6 * tensor.abs().max(), file  # of float32 products


def until(ready, process, seconds=120):
    end = time.monotonic() + seconds
    while not (value := ready()):
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < end
        time.sleep(0.05)
    return value


def snapshots(root, batches, processes=1):
    """Files of so many processes with so many batches read, none before."""
    read = []
    for file in (root / "outputs" / "moments").glob("*/partial-*"):
        with safe_open(file, "pt") as saved:
            read.append(int(saved.metadata()["batches"]))
    return sum(count >= batches for count in read) >= processes


@pytest.fixture(scope="module")
def alone(tmp_path_factory, script):
    """What an undisturbed pass of one process finds."""
    root = tmp_path_factory.mktemp("alone")
    Forked(*script("align", *PASS, f"root={root}")).output()
    return moments(root)


def test_a_killed_pass_goes_on_and_ends_with_the_very_same_bits(alone, tmp_path, script):
    command = script("align", *PASS, SLOW, f"root={tmp_path}")
    process = Forked(*command)
    until(lambda: snapshots(tmp_path, 25), process)
    process.kill()
    process.wait()
    assert not moments(tmp_path)
    assert "Going on with batch" in Forked(*command).output()
    assert_equal(moments(tmp_path), alone)
    assert not list(tmp_path.rglob("partial-*"))


def processes_of(process, root):
    """{rank: process id} of a job's first process and of those that it starts (as the kernel tells)."""
    processes = {0: process.pid}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if str(root) in (folder / "cmdline").read_text():
                settings = dict(v.split("=", 1) for v in (folder / "environ").read_text().split("\0") if "=" in v)
                processes[int(settings.get("LOCAL_RANK", 0))] = int(folder.name)
        except OSError:
            continue
    return processes


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc to find the processes of a job")
@pytest.mark.parametrize("dying", [0, 1])
def test_a_process_that_dies_ends_the_job_and_the_next_job_goes_on(alone, tmp_path, script, dying):
    command = script("align", *PASS, SLOW, *TWO, f"root={tmp_path}")
    process = Forked(*command)
    until(lambda: snapshots(tmp_path, 1, 2), process)  # early: a fast pass is over in seconds
    ranks = processes_of(process, tmp_path)
    assert set(ranks) == {0, 1}
    os.kill(ranks[dying], signal.SIGKILL)
    end = time.monotonic() + 120  # half of that where nothing else runs
    while left := {rank: pid for rank, pid in processes_of(process, tmp_path).items() if _lives(pid)}:
        assert time.monotonic() < end, f"process {left} still waits"
        time.sleep(0.2)
    assert process.wait() != 0
    assert not moments(tmp_path)
    if dying == 0:
        assert "Going on with batch" in Forked(*command).output()
        assert_equal(moments(tmp_path), alone, processes=2)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc to find the processes of a job")
def test_a_training_that_loses_a_process_says_so_and_leaves_its_checkpoint_whole(tmp_path, script):
    small = ("net.module.widths=[4,4,4,8]", "epochs=8", "logger=csv", "snapshot_minutes=0")
    command = script("train", *small, *TWO, f"root={tmp_path}")
    run = tmp_path / "outputs" / "train" / "digits-convnet" / "seed=0"
    process = Forked(*command)
    until((run / "last.ckpt").exists, process)
    os.kill(processes_of(process, tmp_path)[1], signal.SIGKILL)
    output = process.stdout.read()
    assert process.wait() != 0
    by_exchange, by_watch, by_launcher = (
        "the same command goes on from the last",
        "died, so it ends",
        "terminated with code",
    )
    assert by_exchange in output or by_watch in output or by_launcher in output  # whichever notices first
    assert not (run / "done").exists()
    assert torch.load(run / "last.ckpt", weights_only=True)["global_step"] > 0  # whole, to go on from


def _lives(pid):
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_two_nodes_of_one_process_each_measure_what_one_process_does(alone, tmp_path, script):
    both_nodes(*script("align", *PASS, f"root={tmp_path}"))
    assert_equal(moments(tmp_path), alone, processes=2)
