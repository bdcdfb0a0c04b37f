"""A command line of which no configuration can be made: one sentence, with what was meant, and no traceback."""

import os
import subprocess

import pytest
from hydra.core.global_hydra import GlobalHydra

from convergent.cli import main


@pytest.mark.parametrize(
    ("command", "option", "sentence"),
    [
        ("align", "evaluation.fold=3", "There is no option evaluation.fold; did you mean evaluation.folds?"),
        ("align", "meth=matching", "There is no option meth; did you mean method?"),
        ("train", "net.module.width=3", "There is no option net.module.width; did you mean net.module.widths?"),
        ("report", "names=x", "There is no option names; did you mean name?"),
        ("prepare", "sizes=3", "There is no option sizes; did you mean size?"),
        ("align", "hydra.nonsense=1", "There is no option hydra.nonsense."),
        ("train", "~nonsense", "There is no option nonsense."),
        ("align", "method=match", "method has no choice match; did you mean matching?"),
        ("align", "experiment=papr", "experiment has no choice papr; did you mean paper?"),
        ("align", "figure=[curvs]", "figure has no choice curvs; did you mean curves?"),
        ("train", "optimizer=x", "optimizer has no choice x; it has adamw, caffe, one_cycle, sgd."),
        ("train", "method=sparse", "train has no option method; it is one of src/align.py."),
        ("train", "data.per_class=3", "data.per_class is not in conf/; +data.per_class=... adds it."),
        ("align", "method.maximum=3", "There is no option method.maximum."),
        ("align", "+name=x", "name is an option already; leave the + before it out."),
        ("align", "method=matching,sparse", "method=matching,sparse names several values; add -m to run"),
        ("align", "--evaluation.folds=3", "Options have no dashes before them; write evaluation.folds=3."),
        ("align", "layers=[conv1", "layers=[conv1 cannot be read as NAME=VALUE; quote a value with spaces or brackets"),
        ("align", "name=${nonsense}", "name: Interpolation key 'nonsense' not found."),
    ],
)
def test_an_unknown_option_or_choice_is_one_sentence(command, option, sentence, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [f"{command}.py", option])
    monkeypatch.setattr("convergent.cli.command.end_with_parent", lambda: None)
    GlobalHydra.instance().clear()
    with pytest.raises(SystemExit) as left:
        main.run(command)
    err = capsys.readouterr().err
    assert left.value.code == 1
    assert err.startswith(f"error: {sentence}")
    assert err.count("\n") == 1
    assert "HYDRA_FULL_ERROR" not in os.environ


def test_a_sweep_with_an_unknown_choice_ends_before_its_first_job(script, tmp_path):
    line = script("align", f"root={tmp_path}", "-m", "method=matching,sprase")
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: method has no choice sprase; did you mean sparse?\n"
    environment = os.environ | {"HYDRA_FULL_ERROR": "1"}  # which asks for Hydra's own words
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=environment)
    assert "MissingConfigException" in done.stderr
