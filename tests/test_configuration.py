"""Every word of conf/ composes, and what can be built without data or a GPU is built."""

import inspect
import itertools
import re
import resource
import subprocess

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from omegaconf import OmegaConf

from conftest import PROJECT
from convergent.cli.align_job import label_of
from convergent.cli.help import help_of
from convergent.cli.train import build_data, build_trainer
from convergent.cli.train_job import TrainJob
from convergent.streaming.layers import resolve
from convergent.training.optimizers import warm_cycle
from convergent.training.runs import build

NEEDED = {
    "folder": ["data.classes=3", "data.folder=x"],
    "module": ["net.module._target_=torch.nn.Identity", "net.name=x", "net.layers=[]"],
    "text": ["data.folder=x", "net=gpt"],
    "datasets": ["data.dataset=x", "net=gpt"],
    "docstrings": ["net=gpt"],
    "gpt": ["data=docstrings"],
    "decoder": ["data=docstrings", "net.layers=[]", "net.module.config.model_type=llama"],
}
TEXTS = ("text", "datasets", "docstrings")


def words(group):
    return sorted(path.stem for path in (PROJECT / "conf" / group).glob("*.yaml"))


def composed(name, *overrides):
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
        config = compose(name, list(overrides))
    OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    return config


@pytest.mark.parametrize("word", words("data"))
def test_data(word):
    config = composed("train", f"data={word}", *NEEDED.get(word, []))
    data = build_data(TrainJob.of(config).config)
    if word in TEXTS:
        assert callable(data.documents)
        return
    assert {"train", "val", config.data.measure} <= set(data.sources)
    assert all(callable(source) for source in data.sources.values())


@pytest.mark.parametrize("word", words("net"))
def test_net(word):
    needed = NEEDED.get(word, [])
    config = composed("train", f"net={word}", *([] if "data=docstrings" in needed else ["data.size=67"]), *needed)
    net = build(config.net.module)
    assert set(config.net.layers) <= {name for name, _ in net.named_modules()} or resolve({"": net}, config.net.layers)


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
    assert not {"layers", "at_epochs", "evaluation"} & set(
        TrainJob.of(train).config
    )  # train keeps no alignment's settings
    assert set(align.layers or []) <= {name for name, _ in build(train.net.module).named_modules()}


def test_the_papers_recipe_is_what_its_prototxt_says():
    config = composed("train", "experiment=paper")
    data = config.data
    assert (data.size, data.classes, data.batch_size) == (227, 1000, 256)
    assert config.epochs * -(-1_281_167 // data.batch_size) == 450_450
    names = [[step._target_.rpartition(".")[2] for step in steps] for steps in (data.augment, data.prepare)]
    assert names[0] == ["Resize", "SubtractMean", "RandomCrop", "RandomHorizontalFlip"]
    assert names[1] == ["Resize", "SubtractMean", "CenterCrop"]
    assert list(data.augment[0].size) == [256, 256]
    assert [255 * std for std in data.std] == pytest.approx([1.0] * 3)
    assert list(data.mean) == [0, 0, 0]
    made = config.optimizer.optimizer
    assert (made._target_.rpartition(".")[2], made.lr, made.momentum, made.weight_decay) == (
        "caffe_sgd",
        0.01,
        0.9,
        5e-4,
    )
    schedule = config.optimizer.scheduler
    assert (schedule._target_.rpartition(".")[2], schedule.step_size, schedule.gamma) == ("StepLR", 100_000, 0.1)
    assert (config.order_seed, config.augment_seed, config.precision) == (0, None, "32-true")
    assert build_data(TrainJob.of(composed("train", "experiment=paper", "data=imagenet")).config).batch_size == 256


def test_a_cycle_warms_up_and_falls_to_zero():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule, rates = warm_cycle(optimizer, 100, warm=0.1), []
    for _ in range(101):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates.index(max(rates)) in (9, 10)
    assert rates[-1] == 0
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[10:]))


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


@pytest.mark.parametrize("name", ["train", "align", "report", "prepare"])
def test_help_says_what_a_newcomer_needs_at_once(name, script):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    text = subprocess.run(script(name, "--help"), capture_output=True, text=True, check=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5  # seconds, whoever else is busy
    assert f"python src/{name}.py" in text
    assert len(text.splitlines()) < 76  # with every option of the command, of its groups and of the method
    if name in ("train", "align"):
        groups = ("data", "net", "trainer", *(["method"] if name == "align" else []))
        assert all(word in text for group in groups for word in words(group))


def test_help_lists_the_options_of_the_groups_and_of_what_is_chosen_with_their_meaning(tmp_path):
    text = help_of("align", ["method=sparse"])
    assert re.search(r"reading\.sample=every +of a layer with positions", text)
    assert re.search(r"evaluation\.folds=5 +of blocks", text)
    assert re.search(r"method\.alpha=null +on standardised units", text)
    assert "method.absolute=false     " in help_of("align")  # what its file does not say, its class does
    for method in words("method"):
        text = help_of("align", [f"method={method}"])
        for name in set(composed("align", f"method={method}").method) - {"_target_"}:
            assert re.search(rf"method\.{name}=\S.*  +[\w(\[|`]", text), name
    assert "data.per_class=200" in help_of("train", ["data=fractals"])
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "mine.yaml").write_text("module:\n  _target_: my.Net\n  width: 5   # of its layers\n")
    text = help_of("train", ["net=mine", "--config-dir", str(tmp_path)])
    assert re.search(r"net +.*, mine, ", text)
    assert re.search(r"net\.module\.width=5 +of its layers", text)
