"""Several nets from one stream of images are, bit for bit, the nets that they are alone; trainings survive."""

import json

import pytest
import torch
from safetensors.torch import load_file

from convergent.cli.train import Requeue
from convergent.errors import InputError
from convergent.training.checkpoints import Checkpoints, KeepCheckpoints
from convergent.training.runs import Run

SMALL = ("net.module.widths=[4,4,4,6]", "epochs=2", "data.batch_size=128", "logger=csv", "snapshot_minutes=0")
STEPS = 1437 // 128 + 1  # of an epoch


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("together")


@pytest.fixture
def train(command, root):
    def train(*overrides, code=0):
        left, out, err = command("train", f"root='{root}'", *SMALL, *overrides)
        assert left == code, err
        return err if code else out

    return train


def weights(root, name, seed):
    return load_file(root / "outputs" / "train" / name / f"seed={seed}" / "weights.safetensors")


def assert_equal(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("augment_seed=7", "optimizer=adamw", "data.workers=1", "+trainer.gradient_clip_val=0.5", "channels_last=true"),
    ],
    ids=["own crops", "shared crops, clipped"],
)
def test_nets_of_one_stream_are_those_that_are_trained_alone(train, root, settings):
    name = f"name=alone-{len(settings)}"
    for seed in (0, 3):
        train(f"seed={seed}", name, *settings)
    output = train("seeds=[0,3]", f"name=together-{len(settings)}", *settings)
    assert output.count(": val/acc_top1") == 2
    for seed in (0, 3):
        assert_equal(weights(root, f"together-{len(settings)}", seed), weights(root, f"alone-{len(settings)}", seed))
        folders = [
            root / "outputs" / "train" / f"{kind}-{len(settings)}" / f"seed={seed}" for kind in ("alone", "together")
        ]
        alone, together = (json.loads((folder / "metrics.json").read_text()) for folder in folders)
        assert alone == together
        alone, together = ((folder / "csv" / "version_0" / "metrics.csv").read_text() for folder in folders)
        assert alone == together
        alone, together = ((folder / "config.yaml").read_text() for folder in folders)
        assert alone.replace("alone", "together") == together
    first, second = (weights(root, f"together-{len(settings)}", seed) for seed in (0, 3))
    assert not torch.equal(first["conv1.0.weight"], second["conv1.0.weight"])


class Killed(Exception):
    """What a test kills a training with."""


def killer(step, kind=Killed):
    class Kills(Requeue):
        def on_train_batch_start(self, trainer, *_):
            if trainer.global_step == step:
                raise kind

    return Kills


@pytest.mark.parametrize(("step", "workers"), [(4, 0), (11, 1), (STEPS + 10, 0)])
def test_a_training_killed_in_mid_epoch_ends_as_if_nothing_had_been(train, root, monkeypatch, step, workers):
    if not (root / "outputs" / "train" / "undisturbed").exists():
        train("seeds=[0,3]", "name=undisturbed")
    what = ("seeds=[0,3]", f"name=killed-{step}", f"data.workers={workers}")
    with monkeypatch.context() as patch:
        patch.setattr("convergent.cli.train.Requeue", killer(step))
        with pytest.raises(Killed):
            train(*what)
    folder = root / "outputs" / "train" / f"killed-{step}"
    if step < 10:  # before the first checkpoint
        assert not folder.exists()
        return
    checkpoint = torch.load(folder / "seed=3" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == step // 10 * 10
    torch.manual_seed(99)
    assert train(*what).count("going on from the last checkpoint") == 2
    for seed in (0, 3):
        assert_equal(weights(root, f"killed-{step}", seed), weights(root, "undisturbed", seed))
        ours, theirs = (
            json.loads((root / "outputs" / "train" / name / f"seed={seed}" / "metrics.json").read_text())
            for name in (f"killed-{step}", "undisturbed")
        )
        assert ours == pytest.approx(theirs, rel=1e-6)


def test_nets_that_began_together_go_on_alone_and_the_other_way_round(train, root, monkeypatch):
    if not (root / "outputs" / "train" / "undisturbed").exists():
        train("seeds=[0,3]", "name=undisturbed")
    with monkeypatch.context() as patch:
        patch.setattr("convergent.cli.train.Requeue", killer(11))
        with pytest.raises(Killed):
            train("seeds=[0,3]", "name=parted")
    train("seed=3", "name=parted")
    output = train("seeds=[0,3]", "name=parted")  # the one that is left
    assert "seed=3: done already" in output
    for seed in (0, 3):
        assert_equal(weights(root, "parted", seed), weights(root, "undisturbed", seed))


def test_whatever_the_moment_of_its_death_nets_have_a_common_checkpoint(tmp_path):
    runs = [Run(tmp_path / f"seed={seed}") for seed in (0, 1)]
    for run in runs:
        run.folder.mkdir()
    checkpoints = Checkpoints(runs)

    def of(step):
        state = {f"learners.{n}.w": torch.full((2,), float(10 * step + n)) for n in range(2)}
        both = [{"nets": [{"n": 0}, {"n": 1}]}]
        return {"global_step": step, "state_dict": state, "optimizer_states": both, "lr_schedulers": []}

    checkpoints.save_checkpoint(of(1), "")
    older = runs[1].checkpoint.read_bytes()
    checkpoints.save_checkpoint(of(2), "")
    newer = runs[1].checkpoint.read_bytes()
    loaded = checkpoints.load_checkpoint("")
    assert loaded["global_step"] == 2
    assert loaded["optimizer_states"] == [{"nets": [{"n": 0}, {"n": 1}]}]
    assert loaded["lr_schedulers"] == []
    assert loaded["state_dict"]["learners.1.w"].tolist() == [21, 21]
    runs[1].checkpoint.write_bytes(older)  # killed between the two renamings
    (runs[1].folder / "next.ckpt").write_bytes(newer)
    assert checkpoints.load_checkpoint("")["global_step"] == 2
    (runs[1].folder / "next.ckpt").write_bytes(newer[:100])  # a copy that was cut short
    with pytest.raises(InputError, match=r"no checkpoint of the same step \(seed=0 at 2, seed=1 at 1\)"):
        checkpoints.load_checkpoint("")
    runs[0].checkpoint.write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"last.ckpt cannot be read; start over with force=true"):
        checkpoints.load_checkpoint("")


def test_a_full_disk_is_reported_and_the_last_checkpoint_is_whole(train, root, monkeypatch, capsys):
    real = torch.save

    def full(what, file):
        if what["global_step"] > STEPS:
            file.write(b"some")
            raise OSError(28, "No space left on device")
        real(what, file)

    with monkeypatch.context() as patch:
        patch.setattr("convergent.training.checkpoints.torch.save", full)
        output = train("seeds=[0,3]", "name=full", code=1)
    assert "cannot be written" in output
    assert "No space left on device" in output
    folder = root / "outputs" / "train" / "full" / "seed=3"
    assert torch.load(folder / "last.ckpt", weights_only=True)["global_step"] == STEPS
    assert not (folder / "next.ckpt").exists()
    if not (root / "outputs" / "train" / "undisturbed").exists():
        train("seeds=[0,3]", "name=undisturbed")
    train("seeds=[0,3]", "name=full")
    assert_equal(weights(root, "full", 3), weights(root, "undisturbed", 3))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["seeds=[0,0]"],
            "different values, each a whole number from 0 to 4294967295, as [0,1,2,3], or null, not [0, 0]",
        ),
        (["seeds=3"], "different values, each a whole number"),
        (["seeds=[]"], "different values, each a whole number"),
        (["seeds=[0,1]", "order_seed=null"], "set order_seed to a number"),
        (["seeds=[0,1]", "precision=16-mixed"], "use bf16-mixed"),
    ],
)
def test_seeds_that_do_not_go_together_are_reported(train, overrides, message):
    assert message in train("name=bad", *overrides, code=1)


def test_a_warning_of_slurm_becomes_a_checkpoint_and_a_new_start(train, root, monkeypatch):
    import os
    import signal
    import sys

    asked = []

    class Warns(Requeue):
        def on_train_batch_start(self, trainer, *_):
            if trainer.global_step == 7:
                os.kill(os.getpid(), signal.SIGUSR2)

    monkeypatch.setattr("convergent.cli.train.leave", lambda: sys.exit(0))
    monkeypatch.setattr("convergent.training.requeue.subprocess.run", lambda command, check: asked.append(command))
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM)}
    with monkeypatch.context() as patch:
        patch.setattr("convergent.cli.train.Requeue", Warns)
        patch.setenv("SLURM_JOB_ID", "77")
        output = train("seed=3", "name=warned", "trainer=cpu")
    for number, handler in before.items():
        signal.signal(number, handler)
    assert asked == [["scontrol", "requeue", "77"]]
    assert "saved, it goes on from here" in output
    folder = root / "outputs" / "train" / "warned" / "seed=3"
    assert torch.load(folder / "last.ckpt", weights_only=True)["global_step"] == 8
    assert not (folder / "done").exists()
    train("seed=3", "name=warned", "trainer=cpu")
    if (root / "outputs" / "train" / "undisturbed").exists():
        assert_equal(weights(root, "warned", 3), weights(root, "undisturbed", 3))


def test_checkpoints_within_epochs_are_made_every_so_many_minutes():
    keep = KeepCheckpoints(5.0)
    saved = []
    keep.save = lambda trainer: saved.append(trainer.global_step)

    class Trainer:
        is_last_batch = False

        class strategy:
            @staticmethod
            def reduce_boolean_decision(due, all):
                return due

    for step in range(1, 25):
        Trainer.global_step = step
        keep.saved -= 60
        keep.on_train_batch_end(Trainer)
    assert saved == [10, 20]
