"""What a command says on the terminal when it is stopped, and that it prints text as it is."""

import logging
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from conftest import PROJECT
from convergent.cli import bars
from convergent.cli.bars import Lines
from convergent.cli.command import explains_mistakes
from convergent.cli.report import show
from convergent.cli.train import stoppable
from convergent.cli.train_job import TrainJob
from convergent.progress import track
from convergent.training.runs import Run


def stopped(capsys, main):
    with pytest.raises(SystemExit) as left:
        explains_mistakes(main)(None)
    assert left.value.code == 130
    return capsys.readouterr().err


def test_a_stop_says_what_is_kept(tmp_path, capsys):
    job = TrainJob([Run(tmp_path / "seed=0")], [], "")

    def main(_):
        with stoppable(job.after_stop):
            raise SystemExit  # what Lightning makes of Ctrl-C

    (tmp_path / "seed=0").mkdir()
    (tmp_path / "seed=0" / "config.yaml").touch()
    assert stopped(capsys, main) == "stopped; nothing was kept yet, the same command begins anew.\n"
    (tmp_path / "seed=0" / "last.ckpt").touch()
    assert stopped(capsys, main) == "stopped; the same command goes on from the last checkpoint.\n"

    def interrupted(_):
        raise KeyboardInterrupt

    assert stopped(capsys, interrupted) == "stopped; what is finished is kept, the same command does the rest.\n"


def test_brackets_are_printed_and_no_markup(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    assert list(track([1, 2], "aligning by matching,layers=[fc1]")) == [1, 2]
    assert "layers=[fc1]" in capsys.readouterr().out
    show([["layer", "method"], ["fc1", "matching,nulls=[rotated],layers=[fc1]"]], "of [fc1]")
    out = capsys.readouterr().out
    assert "nulls=[rotated],layers=[fc1]" in out
    assert "of [fc1]" in out


LOGS = """
import logging, sys
from hydra.core.utils import configure_log
from omegaconf import OmegaConf
configure_log(OmegaConf.load(sys.argv[1]), sys.argv[2] == "true")
for name in ("convergent.cli.align", "matplotlib.font_manager", "wandb"):
    for level in ("debug", "info", "warning"):
        getattr(logging.getLogger(name), level)("%s %s", level, name)
"""


@pytest.mark.parametrize("verbose", [False, True])
def test_messages_are_ours_and_the_warnings_of_others(verbose):
    command = [
        sys.executable,
        "-c",
        LOGS,
        PROJECT / "conf" / "hydra" / "job_logging" / "plain.yaml",
        str(verbose).lower(),
    ]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    ours = [f"{level} convergent.cli.align" for level in ("debug", "info", "warning")]
    assert lines == [*(ours if verbose else ours[1:]), "warning matplotlib.font_manager", "warning wandb"]


def test_a_quiet_command_says_where_the_result_is_and_nothing_else(command, tmp_path):
    def train(*more):
        some = ("epochs=1", "net.module.widths=[2,2,2,2]", "logger=csv", "trainer=cpu", f"root='{tmp_path}'")
        return command("train", "seed=3", *some, *more)

    before = logging.getLogger("convergent").level
    try:
        code, out, err = train("quiet=true")
        assert (code, err, out.count("\n")) == (0, "", 1)
        assert f"in {tmp_path}/outputs/train/digits-convnet/seed=3" in out
        (tmp_path / "outputs" / "train" / "digits-convnet" / "seed=3" / "done").unlink()
        assert "going on" not in train("quiet=true")[1]
        code, _, err = train("quiet=true", "epochs=-1")
        assert (code, err) == (1, "error: epochs needs to be a whole number, 0 or more, not -1.\n")
    finally:
        logging.getLogger("convergent").setLevel(before)
    (tmp_path / "outputs" / "train" / "digits-convnet" / "seed=3" / "done").unlink()
    assert "going on" in train()[1]  # nor is a quiet one's result another result


def test_a_log_of_a_training_has_a_line_per_epoch_or_minute(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    now = [0.0]
    monkeypatch.setattr("convergent.progress.time.monotonic", lambda: now[0])
    lines = Lines()
    trainer = SimpleNamespace(is_global_zero=True, max_epochs=4, num_training_batches=3, num_predict_batches=[3])
    trainer.callback_metrics = {"val/loss": torch.tensor(0.5)}
    for trainer.current_epoch, seconds in enumerate((10, 10, 10, 50)):
        lines.on_train_epoch_start(trainer, None)
        for batch in range(3):
            now[0] += seconds
            lines.on_train_batch_end(trainer, None, None, None, batch)
        lines.on_train_epoch_end(trainer, None)
    assert caplog.messages == [
        "epoch 2 of 4, val/loss 0.5000",
        "epoch 4 of 4, batch 2 of 3",
        "epoch 4 of 4, val/loss 0.5000",
    ]
    caplog.clear()
    for batch in range(3):
        now[0] += 45
        lines.on_predict_batch_end(trainer, None, None, None, batch)
    trainer.is_global_zero = False
    now[0] += 100
    lines.on_predict_batch_end(trainer, None, None, None, 2)
    assert caplog.messages == ["reading images, batch 2 of 3"]


def test_a_bar_is_for_a_terminal_that_is_not_quiet(monkeypatch):
    monkeypatch.setattr(bars.sys, "stdout", SimpleNamespace(isatty=lambda: True))
    assert not isinstance(bars.progress(), Lines)
    monkeypatch.setattr(bars, "silenced", lambda: True)
    assert isinstance(bars.progress(), Lines)
    monkeypatch.setattr(bars.sys, "stdout", SimpleNamespace(isatty=lambda: False))
    monkeypatch.setattr(bars, "silenced", lambda: False)
    assert isinstance(bars.progress(), Lines)
