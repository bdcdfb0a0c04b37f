"""Every option of conf/ has a type and a range: each gets wrong values, which one sentence that names it refuses."""

import json
import math
import subprocess
from functools import cache, partial

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from conftest import PROJECT
from convergent.analysis.evaluation import Evaluation
from convergent.cli.align_job import label_of
from convergent.cli.checking import check_launcher, check_objects, check_options, check_values, resolved
from convergent.cli.schema import OPTIONS, RENAMED, identifying, renaming
from convergent.cli.sweep import CheckSweep
from convergent.errors import InputError
from convergent.options import COMPONENT, identity
from convergent.streaming.reading import Reading

NEEDED = {
    "folder": ["data.classes=3", "data.folder=x"],
    "module": ["net.module._target_=torch.nn.Identity", "net.name=x", "net.layers=[]"],
    "text": ["data.folder=x", "net=gpt"],
    "datasets": ["data.dataset=x", "net=gpt"],
    "docstrings": ["net=gpt"],
    "gpt": ["data=docstrings"],
    "decoder": ["data=docstrings", "net.layers=[]", "net.module.config.model_type=llama"],
}
WRONG = {
    "number": ["abc", True, None, math.nan, math.inf, -1, [1], {"a": 1}],
    "flag": ["abc", 1, None, [True]],
    "text": [5, None, True, [1], {"a": 1}, ""],
    "list": [5, "abc", None, True, {"a": 1}, [math.nan], [{"a": [[]]}]],
    "null": [True, math.nan, {"a": [[math.nan]]}, [[math.nan]]],
}
# what is right although its type is another than the default's, and numbers that may be negative
RIGHT = [
    ("trainer.devices", -1), ("trainer.devices", [1]), ("trainer.devices", 5), ("trainer.deterministic", True),
    ("trainer.num_sanity_val_steps", -1), ("order_seed", None), ("method.good", -1), ("method.clusters", 5),
    ("pictures", None), ("reading.sample", 5), ("processes", 5), ("setup", None), ("name", 5),
    ("data.name", 5), ("net.name", 5), ("logger.name", 5), ("gpus_per_node", None),
    ("data.epoch", None),
]  # fmt: skip


def composed(name, *overrides):
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
        return compose(name, list(overrides))


@cache
def defaults(command):
    return OmegaConf.to_container(composed(command), resolve=True)


def composed_and_checked(command, *overrides):
    config = composed(command, *overrides)
    check_options(command, config)
    check_objects(resolved(config))
    return config


def checked(command, values):
    check_values(command, values)
    check_objects(values)


def words(group):
    return sorted(path.stem for path in (PROJECT / "conf" / group).glob("*.yaml"))


def kind(value):
    if isinstance(value, bool):
        return "flag"
    if isinstance(value, dict):
        return "group"
    return {int: "number", float: "number", str: "text", list: "list", type(None): "null"}[type(value)]


def added(values, path, value):
    """The values with one of them replaced, or a new one."""
    name, _, inner = path.partition(".")
    return values | {name: added(values[name], inner, value) if inner else value}


def nodes(values, path=""):
    """Every option by its path; what is inside of lists belongs to the list."""
    for name, value in values.items():
        full = f"{path}.{name}" if path else name
        yield full, value
        if isinstance(value, dict):
            yield from nodes(value, full)


COMMANDS = [
    *((command, "", "") for command in ("train", "align", "merge", "report", "prepare")),
    *(("train", group, word) for group in ("data", "net", "optimizer", "trainer", "logger") for word in words(group)),
    *(("align", "method", word) for word in words("method")),
]


@pytest.mark.parametrize(("command", "group", "word"), COMMANDS)
def test_every_option_refuses_what_it_cannot_be_in_one_sentence(command, group, word):
    config = composed_and_checked(command, *([f"{group}={word}"] if group else []), *NEEDED.get(word, []))
    values = OmegaConf.to_container(config, resolve=True)
    wrong = {path: of for path, of in wrongs(values) if not group or path.startswith(f"{group}.")}
    wrong = {path: of for path, of in wrong.items() if not path.startswith("net.module.config")}  # transformers' own
    assert accepted(values, wrong, partial(checked, command)) == []


@pytest.mark.parametrize("word", ["process", "slurm"])
def test_every_option_of_a_launcher_refuses_what_it_cannot_be(word):
    values = OmegaConf.to_container(OmegaConf.load(PROJECT / "conf" / "hydra" / "launcher" / f"{word}.yaml"))
    del values["_target_"]  # which says whose options they are
    values |= {"submitit_folder": "x", "name": "x", "nodes": 1, "tasks_per_node": 1, "gpus_per_node": 1, "setup": ["x"]}
    values = {name: value for name, value in values.items() if name != "additional_parameters"}
    target = OmegaConf.load(PROJECT / "conf" / "hydra" / "launcher" / f"{word}.yaml")._target_
    if word == "process":
        values = {name: values[name] for name in ("n_jobs", "devices")}

    def check(changed):
        check_launcher(OmegaConf.create({"hydra": {"launcher": {"_target_": target, **changed}}}))

    check(values)
    assert accepted(values, dict(wrongs(values)), check) == []


@pytest.mark.parametrize("word", words("experiment"))
@pytest.mark.parametrize("command", ["train", "align", "merge"])
def test_what_an_experiment_says_can_be(command, word):
    composed_and_checked(command, f"experiment={word}")


TABLES = ("data.sources", "analysis", "similarity", "figure")  # of objects by names that anybody may give


@pytest.mark.parametrize("command", ["train", "align", "merge", "report", "prepare"])
def test_an_option_that_is_not_there_is_reported_with_what_is_near(command):
    values = defaults(command)
    groups = [path for path, value in nodes(values) if isinstance(value, dict) and path not in TABLES]
    for group in ["", *groups]:
        unknown = f"{group}.nonsense" if group else "nonsense"
        with pytest.raises(InputError, match="nonsense") as refused:
            checked(command, added(values, unknown, 5))
        assert str(refused.value).count("\n") == 0


@pytest.mark.parametrize(
    ("command", "override", "sentence"),
    [
        ("align", "+meth_od=matching", "There is no option meth_od; did you mean method?"),
        ("train", "+batch_size=5", "There is no option batch_size; did you mean data.batch_size?"),
        ("train", "+net.module.widdths=5", "takes no widdths; did you mean widths?"),
        ("train", "+trainer.limt_train_batches=5", "takes no limt_train_batches; did you mean limit_train_batches"),
        ("train", "+data.foo=5", "There is no option data.foo."),
        ("train", "~logger", "logger is missing; leave ~logger out."),
        ("train", "~data.mean", "data.mean is missing; leave ~data.mean out."),
        ("train", "~data.sources.train.split", "which needs split; set it as data.sources.train.split=..."),
        ("train", "seed=4294967296", "seed needs to be a whole number from 0 to 4294967295, not 4294967296."),
        ("train", "keep_epochs=[100]", "keep_epochs names epoch 100, but there are 20; raise epochs or leave it out."),
        ("train", "data.mean=[0.1,0.2]", "data.mean needs one value, or one for each of 1 channels, not [0.1, 0.2]."),
        ("train", "data.std=[0.0]", "data.std needs to be a list of values, each above 0, not [0.0]."),
        ("train", "optimizer.optimizer.lr=.nan", "optimizer.optimizer.lr needs to be 0 or more, not "),
        ("train", "optimizer.optimizer.lr=nan", "optimizer.optimizer.lr needs to be 0 or more, not nan."),
        ("train", "precision=64-true", "precision needs to be 32-true, bf16-mixed or 16-mixed, not '64-true'."),
        ("train", "net.module._target_=nowhere.Net", "net.module cannot be nowhere.Net (No module named 'nowhere')."),
        ("align", "layers=fc1", "layers needs to be a list of layers, as [conv1,fc1] or [[PATH_IN_A,PATH_IN_B]]"),
        ("align", "pairs=[[a,a]]", "pairs needs to be a list of lists of two nets, as [[A,B],[A,C]], or all_layers"),
        ("align", "method.absolute=1", "method.absolute needs to be true or false, not 1."),
        ("report", "workspace=mine", "workspace needs to be ENTITY/PROJECT of W&B or null, not 'mine'."),
    ],
)
def test_a_mistake_of_the_command_line_is_one_sentence(command, override, sentence):
    with pytest.raises(InputError) as refused:
        composed_and_checked(command, override)
    assert sentence in str(refused.value)


@pytest.mark.parametrize("name", [".", "..", "", " ", "a/b", "/a", "a\\b", "a\nb", "é" * 51, True, None])
def test_a_name_is_one_folder_and_no_other(name):
    for option in ("name", "label", "net.name", "data.name"):
        if (option, name) == ("label", None):
            continue
        with pytest.raises(InputError, match=f"{option} needs to be the name of one folder"):
            check_values("align", added(defaults("align"), option, name))


def test_a_derived_label_is_one_folder_of_at_most_100_bytes():
    label = label_of("sparse", ["layers=[" + ",".join("é" * 9 for _ in range(9)) + "]", "reading.units=../../x"])
    assert len(label.encode()) <= 100
    assert COMPONENT.fits(label)


def test_what_an_option_of_ones_own_refers_to_is_an_option():
    config = composed("train", "+data.resolution=8", "data.size='${data.resolution}'")
    check_options("train", config)
    with pytest.raises(InputError, match=r"data\.resolution needs to be finite"):
        check_options("train", composed("train", "+data.resolution=nan", "data.name='d${data.resolution}'"))


def wrongs(values):
    """Every option with what it cannot be."""
    for path, value in nodes(values):
        candidates = [5, "abc", True, [1]] if kind(value) == "group" else WRONG[kind(value)]
        yield path, [wrong for wrong in candidates if wrong != value and (path, wrong) not in RIGHT]


def accepted(values, wrongs, check):
    """The wrong values that a check lets pass; every other is refused in one sentence that names the option."""
    passed = []
    for path, wrong in ((path, wrong) for path, of in wrongs.items() for wrong in of):
        try:
            check(added(values, path, wrong))
        except InputError as error:
            sentence = str(error)
            assert "\n" not in sentence
            assert sentence.endswith(".")
            assert any(".".join(path.split(".")[: n + 1]) in sentence for n in range(path.count(".") + 1)), (
                path,
                sentence,
            )
        else:
            passed.append((path, wrong))
    return passed


def test_a_sweep_whose_launcher_cannot_be_ends_before_its_first_job(capsys):
    config = OmegaConf.load(PROJECT / "conf" / "hydra" / "launcher" / "process.yaml")
    with pytest.raises(SystemExit):
        CheckSweep().on_multirun_start(OmegaConf.create({"hydra": {"launcher": {**config, "n_jobs": 0}}}))
    err = capsys.readouterr().err
    assert err == "error: hydra.launcher.n_jobs needs to be a whole number, 1 or more, not 0.\n"
    assert "CheckSweep" in str(OmegaConf.load(PROJECT / "conf" / "defaults.yaml").hydra.callbacks)


def test_an_option_by_its_old_name_is_refused_with_the_new_one(script):
    for name, new in RENAMED.items():
        assert renaming("align", ["method=sparse", f"+{name}=1"]).startswith(f"{name} is {new} now")
        if name != "snapshot_minutes":  # which training has, too
            with pytest.raises(InputError, match=f"^{name} is {new} now"):  # in an experiment's file of one's own
                check_options("align", OmegaConf.create(defaults("align") | {name: 1}))
    assert renaming("train", ["snapshot_minutes=1"]) == ""  # is training's own
    done = subprocess.run(script("align", "-m", "folds=2,3"), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "error: folds is evaluation.folds now.\n")


def test_a_result_is_known_by_what_changes_it():
    moments = identity(Reading(device="cpu", products="portable", layers_per_pass=1, snapshot_minutes=0))
    assert json.dumps(moments) == '{"sample": "every", "units": "auto", "blocks": 64, "block_memory": 1000000000.0}'
    assert identity(Reading(drop=[0], output=1)) == moments | {
        "output": 1,
        "drop": [0],
    }  # came later: older moments are read
    known = identifying(defaults("train"), OPTIONS["train"])
    there = {"force", "root", "snapshot_minutes", "data.workers", "trainer.devices", "trainer.strategy", "logger.mode"}
    assert not there & set(known)
    assert {"seed", "data.mean", "optimizer.optimizer.lr", "trainer.deterministic", "net.module.dropout"} <= set(known)
    irrelevant = [
        "reading.device=cpu",
        "trainer=cpu",
        "pictures=null",
        "logger=csv",
        "root=/x",
        "trust=[a.B]",
        "method=sparse",
    ]
    assert label_of("sparse", ["reading.drop=[0]", *irrelevant, "evaluation.folds=3"]) == "sparse,drop=[0],folds=3"


def test_an_object_of_a_group_checks_its_options_itself():
    with pytest.raises(InputError, match=r"^sample needs to be every, pooled or centre, or a whole number, 1 or more"):
        Reading(sample="some")
    with pytest.raises(InputError, match=r"^folds needs to be 0 or a whole number, 2 or more, not 1"):
        Evaluation(folds=1)
