"""Every word of conf/ composes, and what can be built without data or a GPU is built."""

import inspect
import subprocess

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.utils import instantiate
from omegaconf import OmegaConf

from conftest import PROJECT
from convergent.jobs import TrainJob, label_of
from convergent.runs import build
from convergent.train import build_data, build_trainer

NEEDED = {
    "folder": ["data.classes=3", "data.folder=x"],
    "module": ["net.module._target_=torch.nn.Identity", "net.name=x", "net.layers=[]"],
}


def words(group):
    return sorted(path.stem for path in (PROJECT / "conf" / group).glob("*.yaml"))


def composed(name, *overrides):
    GlobalHydra.instance().clear()
    Plugins.instance()
    with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
        config = compose(name, list(overrides))
    OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    return config


@pytest.mark.parametrize("word", words("data"))
def test_data(word):
    config = composed("train", f"data={word}", *NEEDED.get(word, []))
    data = build_data(TrainJob.of(config).config)
    assert {"train", "val", config.data.measure} <= set(data.sources)
    assert all(callable(source) for source in data.sources.values())


@pytest.mark.parametrize("word", words("net"))
def test_net(word):
    config = composed("train", f"net={word}", "data.size=67", *NEEDED.get(word, []))
    net = build(config.net.module)
    names = {name for name, _ in net.named_modules()}
    assert set(config.net.layers) <= names


@pytest.mark.parametrize("word", words("optimizer"))
def test_optimizer(word):
    config = composed("train", f"optimizer={word}")
    net = torch.nn.Linear(2, 2)
    optimizer = instantiate(config.optimizer.optimizer)(net.named_parameters())
    schedule = instantiate(config.optimizer.scheduler)
    schedule(optimizer, total_steps=10) if "total_steps" in inspect.signature(schedule).parameters else schedule(
        optimizer
    )
    assert optimizer.param_groups[0]["lr"] == config.optimizer.optimizer.lr


@pytest.mark.parametrize("word", [word for word in words("trainer") if word not in ("gpu", "ddp")])
def test_trainer(word):
    trainer = build_trainer(composed("train", f"trainer={word}"), [], logger=False, max_epochs=1)
    assert trainer.num_devices == 1


@pytest.mark.parametrize("word", words("experiment"))
def test_an_experiment_composes_for_train_and_for_align(word):
    train, align = composed("train", f"experiment={word}"), composed("align", f"experiment={word}")
    assert align.nets.endswith(f"outputs/train/{train.name}")
    assert not {"layers", "at_epochs", "nulls"} & set(TrainJob.of(train).config)  # train keeps no alignment's settings
    assert set(align.layers or []) <= {name for name, _ in build(train.net.module).named_modules()}


def test_the_root_is_the_project_wherever_one_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert composed("train").root == str(PROJECT)


@pytest.mark.parametrize(
    ("method", "overrides", "label"),
    [
        ("matching", [], "matching"),
        (
            "semimatching",
            ["method=semimatching", "force=true", "root=/x", "logger=csv", "trainer.devices=2"],
            "semimatching",
        ),
        ("matching", ["images=val", "method=matching", "method.absolute=true"], "matching,absolute=true,images=val"),
        ("matching", ["layers=[a/b]", "+method.new=1"], "matching,layers=[a_b],new=1"),
    ],
)
def test_a_results_folder_is_the_method_with_its_overrides(method, overrides, label):
    assert label_of(method, overrides) == label


@pytest.mark.parametrize("name", ["train", "align", "report"])
def test_help_says_what_a_newcomer_needs(name, script):
    said = subprocess.run(script(name, "--help"), capture_output=True, text=True, check=True).stdout
    assert f"python src/{name}.py" in said
    assert len(said.splitlines()) < 45
    if name != "report":
        assert all(word in said for group in ("data", "net", "method", "trainer") for word in words(group))
