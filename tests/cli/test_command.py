"""What a command says on the terminal when it is stopped, and that it prints text as it is."""

import pytest

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
    show([["layer", "method"], ["fc1", "matching,nulls=[rotated],layers=[fc1]"]], "of [fc1]", 2)
    out = capsys.readouterr().out
    assert "nulls=[rotated],layers=[fc1]" in out
    assert "of [fc1]" in out
