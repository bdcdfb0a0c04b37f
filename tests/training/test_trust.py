"""Somebody else's run folder: read, measured, and nothing run that it names beside what is known or trusted."""

import sys

import pytest
import yaml
from omegaconf import OmegaConf
from torch import nn

from conftest import PROJECT
from convergent.training.runs import Run
from convergent.training.trust import _KNOWN, check_trusted

BARE = ("figure=[]", "analysis=[]", "similarity=[]", "pictures=null", "logger=csv", "evaluation.nulls=[]")
DIGITS = OmegaConf.to_container(OmegaConf.load(PROJECT / "conf" / "data" / "digits.yaml"))
MODULE = {
    "_target_": "torch.nn.Sequential",
    "_args_": [{"_target_": "torch.nn.Flatten"}, {"_target_": "torch.nn.Linear", "in_features": 64, "out_features": 4}],
}


def finished(folder, module=MODULE, seed=0, **data):
    """A run folder as a finished training leaves it."""
    run = Run(folder / f"seed={seed}")
    net = {"name": "n", "layers": ["1"], "module": module}
    run.folder.mkdir(parents=True)
    (run.folder / "config.yaml").write_text(yaml.safe_dump({"seed": seed, "net": net, "data": DIGITS | data}))
    run.finish(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), {"val/acc_top1": 0.1})
    return run


@pytest.fixture
def spoils(tmp_path, monkeypatch):
    """Where an attack leaves its traces: the folder one stands in, with a module that leaves one when it is imported."""
    folder = tmp_path / "here"
    folder.mkdir()
    code = "import pathlib\nfrom torch import nn\n\npathlib.Path(r'{}').touch()\n\nclass Net(nn.Flatten):\n    pass\n"
    (folder / "strange_nets.py").write_text(code.format(folder / "spoils"))
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])  # commands add the folder one stands in
    yield folder / "spoils"
    sys.modules.pop("strange_nets", None)


def shell(spoils):
    return {"_target_": "torch.utils.collect_env.run", "command": f"touch '{spoils}'"}


ATTACKS = {
    "a shell": shell,
    "a hub": lambda spoils: {"_target_": "torch.hub.load", "repo_or_dir": str(spoils.parent), "source": "local"},
    "a file": lambda spoils: {"_target_": "numpy.savetxt", "fname": str(spoils), "X": [1]},
    "a module of this folder": lambda _: {"_target_": "strange_nets.Net"},
    "nested": lambda spoils: MODULE | {"_args_": [shell(spoils), {"_target_": "torch.nn.Linear"}]},
    "in a list of lists": lambda spoils: MODULE | {"x": [[{"y": [shell(spoils)]}]]},
    "partial": lambda spoils: shell(spoils) | {"_partial_": True},
    "not to be recursed into": lambda spoils: MODULE | {"_recursive_": False, "x": shell(spoils)},
    "by Hydra": lambda _: {"_target_": "hydra.utils.get_class", "path": "strange_nets.Net"},
    "by Hydra's method": lambda _: {"_target_": "hydra.utils.get_method", "path": "os.system"},
    "by Hydra's instantiate": lambda spoils: {"_target_": "hydra.utils.instantiate", "config": shell(spoils)},
    "through a known module": lambda spoils: shell(spoils) | {"_target_": "torch.nn.init.torch.utils.collect_env.run"},
    "through data sets": lambda spoils: shell(spoils) | {"_target_": "torchvision.datasets.utils.os.system"},
    "through a class": lambda spoils: shell(spoils) | {"_target_": "torch.nn.Module.load_state_dict"},
    "through this package": lambda spoils: {"_target_": "convergent.training.runs.build", "module": shell(spoils)},
    "through its nets": lambda _: {"_target_": "convergent.nets.convnet.nn.Module"},
    "private": lambda _: {"_target_": "torchvision.models._api.WeightsEnum"},
    "an interpolated name": lambda _: {"_target_": "${oc.decode:strange_nets.Net}"},
    "an interpolated value": lambda _: MODULE | {"x": "${oc.env:HOME}"},
    "an interpolated key": lambda spoils: MODULE | {"x": {"${oc.decode:_target_}": "os.system", "command": str(spoils)}},
    "no text": lambda _: {"_target_": ["strange_nets.Net"]},
    "a line of a name": lambda _: {"_target_": "torch.nn.Linear\nstrange_nets.Net"},
    "other letters": lambda _: {"_target_": "torch.nn.Ｌinear"},  # noqa: RUF001
    "a data set that unpickles": lambda _: {"_target_": "torchvision.datasets.LSUN", "root": "."},
}  # fmt: skip
PLACES = {
    "net": lambda attack: {"module": attack},
    "sources": lambda attack: {"sources": {"train": attack, "val": attack, "all": attack}},
    "augment": lambda attack: {"augment": [attack]},
    "prepare": lambda attack: {"prepare": [attack]},
    "mean": lambda attack: {"mean": attack},
    "skip_corrupt": lambda attack: {"skip_corrupt": attack},
}


@pytest.mark.parametrize(("attack", "place"), [*((a, "net") for a in ATTACKS), *(("a shell", p) for p in PLACES)])
def test_what_a_run_folder_names_is_not_run(tmp_path, spoils, command, attack, place):
    folder = tmp_path / "outputs" / "train" / "theirs"
    given = PLACES[place](ATTACKS[attack](spoils))
    finished(folder)
    there = finished(folder, seed=1, **given).folder
    for nets in ("name=theirs", f"nets=['{there}','{there.parent}/seed=0']"):
        code, out, err = command("align", nets, f"root='{tmp_path}'", *BARE)
        assert code == 1
        assert err.startswith(f"error: {there}/config.yaml ")
        assert err.count("\n") == 1
        assert "Traceback" not in out + err
        assert "trust=[" in err or "yet to be resolved" in err
    assert not spoils.exists()
    assert "strange_nets" not in sys.modules


def test_a_net_of_ones_own_is_aligned_when_it_is_trusted_by_its_name(tmp_path, spoils, command):
    module = MODULE | {"_args_": [{"_target_": "strange_nets.Net"}, MODULE["_args_"][1]]}
    for seed in (0, 1):
        finished(tmp_path / "outputs" / "train" / "mine", module, seed)
    arguments = ["align", "name=mine", f"root='{tmp_path}'", *BARE]
    code, _, err = command(*arguments, "trust=[strange_nets]")
    assert code == 1
    assert "trust needs to be a list of classes in full" in err
    code, _, err = command(*arguments, "trust=[strange_nets.Other]")
    assert code == 1
    assert '"trust=[strange_nets.Net]"' in err
    assert not spoils.exists()
    code, _, err = command(*arguments, "trust=[strange_nets.Net]")
    assert code == 0, err
    assert spoils.exists()


def test_what_this_project_trains_is_known(tmp_path):
    """Every target of a net or of data that conf/ offers; a new one has to be added to those that are known."""
    for kind in ("net", "data", "experiment"):
        for file in (PROJECT / "conf" / kind).glob("*.yaml"):
            content = yaml.safe_load(file.read_text().replace("${", "<"))  # as if it were resolved
            if file.stem != "module":
                check_trusted(tmp_path, content if kind == "experiment" else {kind: content})


def test_known_names_are_classes_and_builders_of_nets_and_nothing_else_that_a_module_imports():
    import importlib

    import torchvision

    names = ["torch.nn", *(f"torchvision.{part}" for part in ("transforms", "transforms.v2", "datasets", "models"))]
    parts = ("detection", "optical_flow", "quantization", "segmentation", "video")
    names += [f"torchvision.models.{part}" for part in parts]
    builders = {name.removeprefix("quantized_") for name in torchvision.models.list_models()}
    builders |= {"get_model", "get_model_builder", "get_model_weights", "get_weight", "list_models"}
    seen = 0
    for module in map(importlib.import_module, names):
        for name, known in vars(module).items():
            if _KNOWN.fullmatch(f"{module.__name__}.{name}") and callable(known):
                assert known.__module__.startswith(module.__name__.removesuffix(".v2")), name
                assert isinstance(known, type) or name in builders, name
                seen += 1
    assert seen > 300
