"""What is damaged, constant or not to be written to is told in a sentence, and the rest goes on."""

import errno
import shutil

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from safetensors import SafetensorError

from conftest import PROJECT
from convergent.cli.command import explains_mistakes
from convergent.storage.files import atomic
from convergent.storage.tensors import save_net, save_tensors
from convergent.training.runs import Run, build

CHEAP = ("logger=csv", "evaluation.nulls=[]", "evaluation.intervals=false", "pictures=null", "reading.blocks=8")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A root with two run folders of small nets that were never trained."""
    root = tmp_path_factory.mktemp("root")
    GlobalHydra.instance().clear()
    for seed in (0, 1):
        with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
            config = compose(
                "train", [f"seed={seed}", f"augment_seed={seed}", "net.module.widths=[6,6,6,8]", f"root='{root}'"]
            )
        run = Run(root / "outputs" / "train" / "digits-convnet" / f"seed={seed}")
        run.folder.mkdir(parents=True)
        OmegaConf.save(OmegaConf.create(OmegaConf.to_container(config, resolve=True)), run.folder / "config.yaml")
        run.finish(build(config.net.module, seed), {"val/acc_top1": 0.1})
    return root


@pytest.fixture
def root(runs, tmp_path):
    """A copy of it."""
    shutil.copytree(runs / "outputs", tmp_path / "outputs")
    return tmp_path


def with_constant(root, *layers):
    """Let all units of some layers of the second net be constant."""
    run = Run(root / "outputs" / "train" / "digits-convnet" / "seed=1")
    net = run.net()
    with torch.no_grad():
        for layer in layers:
            for values in net.get_submodule(layer).parameters():
                values.zero_()
    run.keep(net, None)


def test_a_layer_of_constant_units_is_reported_and_left_out(root, command, caplog):
    with_constant(root, "conv2")
    code, out, err = command("align", "method=matching", "layers=[conv1,conv2]", f"root='{root}'", *CHEAP)
    assert code == 0, err
    assert "All units are constant on these images in conv2 (of seed=1): left out" in caplog.text
    assert "mean r conv1 0." in out
    assert ", conv2 " not in out
    folders = root / "outputs" / "align" / "digits-convnet"
    assert [path.name for path in folders.glob("*/alignments/*")] == ["conv1.safetensors"]


def test_constant_layers_alone_are_reported_before_anything_is_written(root, command):
    with_constant(root, "conv2")
    code, _, err = command("align", "method=matching", "layers=[conv2]", f"root='{root}'", *CHEAP)
    assert code == 1
    assert "nothing to align; choose other layers" in err
    assert not (root / "outputs" / "align").exists()


@pytest.mark.parametrize("kind", ["text", "tensors", "net"])
def test_a_full_disk_is_reported_with_the_file_and_leaves_nothing(tmp_path, capsys, monkeypatch, kind):
    def full(*_, **__):
        if kind == "net":
            raise SafetensorError("I/O error: No space left on device (os error 28)")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    monkeypatch.setattr("convergent.storage.tensors._bytes_of", full)
    writes = {
        "text": lambda _: full(),
        "tensors": lambda file: save_tensors({"x": torch.ones(10)}, file),
        "net": lambda file: save_net(torch.nn.Linear(2, 2), file),
    }

    def main(_):
        with atomic(tmp_path / "table.safetensors") as file:
            file.write_text("half")
            writes[kind](file)

    with pytest.raises(SystemExit) as left:
        explains_mistakes(main)(None)
    assert left.value.code == 1
    err = capsys.readouterr().err
    assert err.startswith(f"error: {tmp_path}/table.safetensors cannot be read or written (No space left on device)")
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_to_is_reported(root, command):
    (root / "outputs" / "moments").touch()  # where a folder should be
    code, _, err = command("align", "method=matching", f"root='{root}'", *CHEAP)
    assert code == 1
    assert f"{root}/outputs/moments" in err
    assert err.count("\n") == 1
