"""Training: exact counts, seeds that govern, resuming as if nothing had happened."""

import shutil
from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from torch import nn

from conftest import PROJECT
from convergent.cli.train import build_data
from convergent.errors import InputError
from convergent.training.checkpoints import KeepCheckpoints
from convergent.training.classifier import Classifier, Learner
from convergent.training.runs import build

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}


def trained(tmp_path, epochs, resume=None, seed=0, stop_after=None):
    GlobalHydra.instance().clear()
    overrides = [f"seed={seed}", "order_seed=0", f"augment_seed={seed}", f"epochs={epochs}"]
    with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
        config = compose("train", [*overrides, "net.module.widths=[4,4,4,8]", "data.batch_size=256"])
    pl.seed_everything(seed)
    learner = Learner(build(config.net.module), 10, seed)
    make, schedule = instantiate(config.optimizer.optimizer), instantiate(config.optimizer.scheduler)
    classifier = Classifier([learner], make, schedule)
    checkpoint = pl.callbacks.ModelCheckpoint(tmp_path, filename="last", enable_version_counter=False)
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=[checkpoint, Kill(stop_after)],
        use_distributed_sampler=False,
        **QUIET,
    )
    trainer.fit(classifier, build_data(config), ckpt_path=resume)
    return classifier, trainer


class Kill(pl.Callback):
    """Ends the process, as it were, in the middle of an epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_train_batch_end(self, trainer, *_):
        if trainer.current_epoch == self.epoch and trainer.global_step % 6 == 3:
            raise RuntimeError("killed")


def test_a_resumed_training_ends_where_an_undisturbed_one_does(tmp_path):
    undisturbed, _ = trained(tmp_path / "a", 2)
    with pytest.raises(RuntimeError, match="killed"):
        trained(tmp_path / "b", 2, stop_after=1)
    torch.manual_seed(99)
    resumed, _ = trained(tmp_path / "b", 2, resume=tmp_path / "b" / "last.ckpt")
    for ours, theirs in zip(resumed.parameters(), undisturbed.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_seed_gives_the_same_bytes_and_another_seed_another_net(tmp_path):
    one, again, other = (
        trained(tmp_path / str(i), 1, seed=seed)[0].learners[0].net.state_dict() for i, seed in enumerate((0, 0, 1))
    )
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert not any(torch.equal(one[key], other[key]) for key in one)


def test_validation_counts_each_image_once_and_repetitions_not_at_all():
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 10))
    classifier = Classifier([Learner(net, 10)], torch.optim.SGD)
    x, target = torch.randn(6, 1, 2, 2), torch.tensor([1, 2, 3, 4, -100, -100])
    with torch.no_grad():
        right = (net(x)[:4].argmax(1) == target[:4]).float().mean()
        five = (net(x)[:4].topk(5).indices == target[:4, None]).any(1).float().mean()
        loss = nn.functional.cross_entropy(net(x[:4]), target[:4])
    trainer = pl.Trainer(accelerator="cpu", **QUIET)
    loader = torch.utils.data.DataLoader(list(zip(x, target, range(6))), batch_size=4)
    trainer.validate(classifier, loader, verbose=False)
    metrics = classifier.latest[0]
    assert trainer.callback_metrics["val/loss"].item() == pytest.approx(metrics["val/loss"])
    assert metrics["val/acc_top1"] == pytest.approx(right.item())
    assert metrics["val/acc_top5"] == pytest.approx(five.item())
    assert metrics["val/loss"] == pytest.approx(loss.item())


def test_the_mean_loss_of_unequal_batches_is_weighted():
    """What torchmetrics' MeanMetric of 1.9 leaves out where it is not to look for nan."""
    learner, x, target = Learner(nn.Identity(), 4), torch.randn(5, 4), torch.tensor([0, 1, 2, 3, 0])
    for some in (slice(0, 4), slice(4, 5)):
        learner.count(x[some], target[some])
    expected = nn.functional.cross_entropy(x, target).item()
    assert learner.metrics("val")["val/loss"] == pytest.approx(expected, rel=1e-6)


def test_top5_only_where_there_are_more_than_five_classes():
    assert set(Learner(nn.Identity(), 5).val_accuracy) == {"val/acc_top1"}
    assert set(Learner(nn.Identity(), 6).val_accuracy) == {"val/acc_top1", "val/acc_top5"}


def test_a_class_beyond_the_nets_outputs_is_reported():
    learner = Learner(nn.Identity(), 3)
    with pytest.raises(InputError, match="a class numbered 7, but the net only has 3 outputs"):
        learner.loss(torch.zeros(1, 3), torch.tensor([7]), 0, 0)


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs g++ on a processor")
def test_a_compiled_net_learns_what_it_learns_otherwise_dropout_included(monkeypatch):
    monkeypatch.setattr("torch._inductor.config.compile_threads", 1)  # no processes for two small graphs
    learners = []
    for compiled in (False, True):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Dropout(0.5), nn.Linear(20, 4))
        learner = Learner(net, 4, seed=3, compiled=compiled)
        optimizer = torch.optim.SGD(net.parameters(), 0.1)
        for step in range(20):
            loss = learner.loss(torch.randn(8, 6), torch.randint(4, (8,)), step, 0)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        learners.append(learner)
    (ours, theirs), before = (learner.net.state_dict() for learner in learners), net[0].weight.detach().clone()
    assert ours.keys() == theirs.keys()  # so that checkpoints of one are checkpoints of the other
    assert all((ours[key] - x).abs().max() < 1e-5 * x.abs().max() for key, x in theirs.items())
    assert learners[1].net._compiled_call_impl is not None
    torch.manual_seed(0)
    assert not torch.equal(nn.Linear(6, 20).weight, before)  # they have learned


def lost(tmp_path, lr=0.1, spoil=None, nets=1, steps=120, epochs=2):
    """Train a few numbers, with checkpoints every step; `spoil(classifier, step)` is called before each."""

    class Spoil(pl.Callback):
        def on_train_batch_start(self, trainer, classifier, *_):
            spoil(classifier, trainer.global_step) if spoil else None

    saved = []
    keep = KeepCheckpoints(minutes=0)
    trainer = pl.Trainer(accelerator="cpu", callbacks=[Spoil(), keep], max_epochs=epochs, **QUIET)
    trainer.save_checkpoint = lambda *_, **__: saved.append(trainer.global_step)
    learners = [Learner(nn.Linear(3, 10), 10, seed) for seed in range(nets)]
    x = torch.randn(steps, 3, generator=torch.Generator().manual_seed(0))
    data = [(x_, k % 10, k) for k, x_ in enumerate(x)]
    loader = torch.utils.data.DataLoader(data, batch_size=1)
    classifier = Classifier(learners, partial(sgd, lr=lr))
    trainer.fit(classifier, loader, loader)
    return saved


def sgd(named, lr):
    return torch.optim.SGD([x for _, x in named], lr=lr)


def test_a_finite_training_is_saved_as_often_as_asked(tmp_path):
    assert lost(tmp_path) == [*range(10, 120, 10), 120, *range(130, 240, 10), 240]


@pytest.mark.parametrize("of_net", [0, 1])
def test_a_loss_that_is_not_finite_ends_the_training_at_the_next_look_and_is_not_saved(tmp_path, of_net):
    saved = []

    def spoil(classifier, step):
        saved[:] = [*saved, step]
        if step == 63:
            classifier.learners[of_net].net.weight.data.fill_(torch.inf)

    with pytest.raises(
        InputError, match=rf"of seed={of_net} has no finite loss or weights at step 63; lower optimizer"
    ):
        lost(tmp_path, spoil=spoil, nets=2)
    assert saved[-1] == 69  # a checkpoint was due after it


def test_weights_that_the_last_step_of_an_epoch_spoils_are_not_saved(tmp_path, monkeypatch):
    monkeypatch.setattr(KeepCheckpoints, "on_train_batch_end", lambda *_: None)
    saved = []
    monkeypatch.setattr(KeepCheckpoints, "save", lambda *_: saved.append(True))

    def spoil(classifier, step):
        if step == 119:
            classifier.learners[0].net.bias.register_hook(lambda g: g * torch.nan)

    with pytest.raises(InputError, match="at step 120; lower"):
        lost(tmp_path, spoil=spoil)
    assert not saved


def test_a_rate_that_is_far_too_high_is_reported_by_the_command_and_nothing_is_done(tmp_path, command):
    what = ("seed=0", "epochs=3", "logger=csv", "net.module.widths=[4,4,4,8]", f"root={tmp_path}")
    code, _, err = command("train", *what, "optimizer.optimizer.lr=1e30")
    assert code == 1
    assert err.count("\n") == 1
    assert "seed=0 has no finite loss or weights at step" in err
    assert not list((tmp_path / "outputs").rglob("done"))
