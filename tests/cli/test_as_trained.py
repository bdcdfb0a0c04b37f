"""What the command line says of nets that are trained takes effect, or is refused: nothing is ignored."""

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from conftest import PROJECT
from convergent.cli import as_trained
from convergent.cli.built import Built
from convergent.errors import InputError
from convergent.training.runs import Run


def composed(name, *overrides):
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
        return compose(name, list(overrides))


@pytest.fixture
def read(tmp_path, monkeypatch):
    """The configuration of a net trained with some options, as it is read after a command line said others."""

    def read(trained, *overrides):
        config = OmegaConf.to_container(composed("train", *trained), resolve=True)
        (tmp_path / "seed=0").mkdir(exist_ok=True)
        OmegaConf.save(OmegaConf.create(config), tmp_path / "seed=0" / "config.yaml")
        run = Run(tmp_path / "seed=0")
        monkeypatch.setattr(as_trained, "given_options", lambda: [override.partition("=")[0] for override in overrides])
        as_trained.read_as_given([run], composed("align", *overrides))
        return run.config

    return read


def test_how_images_are_read_takes_effect(read):
    data = read([], "data.batch_size=7", "data.workers=3", "data.skip_corrupt=true").data
    assert (data.batch_size, data.workers, data.skip_corrupt) == (7, 3, True)


def test_images_may_have_moved(read):
    data = read(["data=imagenet_store", "data.store=/old"], "data=imagenet_store", "data.store=/new/place/").data
    assert data.store == "/new/place/"
    assert data.sources.val.folder == "/new/place/val"
    assert data.mean_image == "/new/place/mean.npy"
    data = read(["data=cifar10", "data.folder=/old"], "data=cifar10", "data.folder=/new", "data.download=false").data
    assert (data.sources.train.root, data.sources.train.download) == ("/new", False)


def test_what_a_training_decided_may_be_repeated(read):
    same = ("data=folder", "data.folder=/x", "data.classes=3", "data.mean=[0.5,0.5,0.5]", "net.module.widths=[6,6,6,8]")
    assert read(same, *same).data.classes == 3


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        (
            "data.mean=[0.9]",
            r"data.mean is [0.305] in {run} and [0.9] here, but nets are compared as they were trained",
        ),
        ("data.size=9", "data.size is 8 in {run} and 9 here"),
        ("data=cifar10", "data.name is 'digits' in {run} and 'cifar10' here"),
        ("net.module.dropout=0.3", "net.module.dropout is 0.2 in {run} and 0.3 here"),
        ("optimizer.optimizer.lr=0.1", "optimizer.optimizer.lr is 0.05 in {run} and 0.1 here"),
    ],
)
def test_what_would_have_no_effect_is_refused(read, tmp_path, override, sentence):
    with pytest.raises(InputError) as refused:
        read([], override)
    assert sentence.format(run=tmp_path / "seed=0") in str(refused.value)


def test_modules_are_compared_on_the_images_of_the_command_line(monkeypatch):
    nets = [Built("a", {"_target_": "torch.nn.Identity"}), Built("b", {"_target_": "torch.nn.Identity"})]
    config = composed("align", "data.mean=[0.9]")
    monkeypatch.setattr(as_trained, "given_options", lambda: ["data.mean"])
    as_trained.read_as_given(nets, config)
    monkeypatch.setattr(as_trained, "given_options", lambda: ["net.module.dropout"])
    with pytest.raises(InputError, match=r"net\.module\.dropout has no effect here"):
        as_trained.read_as_given(nets, config)
