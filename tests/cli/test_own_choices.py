"""A data set and a net of one's own: a module with a file of conf/ each, nothing else; and trainings beside other ones."""

import json
import sys

import pytest

MODULE = """
import torch
from torch import nn

class Stripes(torch.utils.data.Dataset):
    classes = ("a", "b")

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return self.images

    def __getitem__(self, number):
        generator = torch.Generator().manual_seed(number)
        picture = torch.rand(1, 8, 8, generator=generator)
        picture[:, :: 2 + number % 2] += 1
        return (picture * 100).to(torch.uint8), number % 2

class Net(nn.Sequential):
    def __init__(self, width, classes):
        super().__init__(nn.Flatten(), nn.Linear(64, width), nn.Tanh(), nn.Linear(width, classes))
"""
DATA = """
name: stripes
channels: 1
size: 8
classes: 2
images: 40
measure: val
mean: [0.5]
std: [0.3]
batch_size: 10
workers: 0
skip_corrupt: false
augment: []
prepare: []
sources:
  train: {_target_: my_own.Stripes, _partial_: true, images: "${data.images}"}
  val: {_target_: my_own.Stripes, _partial_: true, images: "${data.images}"}
"""
NET = """
name: mine
layers: ["2"]
module: {_target_: my_own.Net, width: 6, classes: "${data.classes}"}
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The options that every command of the stranger's needs: where the files are."""
    for group, text in (("data", DATA), ("net", NET)):
        (tmp_path / "mine" / group).mkdir(parents=True)
        (tmp_path / "mine" / group / f"{'stripes' if group == 'data' else 'mine'}.yaml").write_text(text)
    (tmp_path / "my_own.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield [f"hydra.searchpath=['file://{tmp_path}/mine']", f"root='{tmp_path}'", "logger=csv"]
    sys.modules.pop("my_own", None)


def test_they_train_and_align_without_being_named_anywhere_else(own, tmp_path, command):
    chosen = [*own, "data=stripes", "net=mine"]
    for seed in (0, 1):
        code, _, err = command("train", *chosen, f"seed={seed}", "epochs=1")
        assert code == 0, err
    of = ("evaluation.nulls=[]", "pictures=null", "reading.blocks=4", "evaluation.folds=2")
    code, _, err = command("align", *chosen, *of)
    assert code == 0, err
    label = "matching,blocks=4,folds=2,nulls=[]"
    summary = json.loads((tmp_path / "outputs" / "align" / "stripes-mine" / label / "summary.json").read_text())
    assert (summary["images"], summary["layers"]["2"]["units"]) == (40, 6)
    code, _, err = command("align", "name=stripes-mine", *own[1:], "label=x")  # without their files
    assert code == 1
    assert "trust=[my_own" in err


def test_a_training_beside_others_that_it_cannot_be_compared_with_says_so_when_it_starts(tmp_path, command):
    same = (f"root='{tmp_path}'", "logger=csv", "name=x", "epochs=0")
    assert command("train", *same, "net.module.widths=[4,4,4,6]")[0] == 0
    code, out, _ = command("train", *same, "seed=1", "net.module.widths=[4,4,4,6]")
    assert code == 0
    assert "another training" not in out
    code, out, _ = command("train", *same, "seed=2", "net.module.widths=[4,4,4,8]")
    assert code == 0
    assert out.startswith(
        "x seed=2: seed=0 beside it is of another training (net.module.widths is [4, 4, 4, 6] there and [4, 4, 4, 8] here), "
        "so align takes them together only as nets=[...]; another name= keeps them apart\n"
    )
