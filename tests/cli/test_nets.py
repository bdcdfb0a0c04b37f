"""What a command may be given as nets: run folders, epochs of runs, modules."""

import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import nn

from convergent.cli.nets import Built, find_nets, names_of
from convergent.errors import InputError
from convergent.training.runs import Run

LINEAR = {"_target_": "torch.nn.Linear", "in_features": 3, "out_features": 2}


def run_folder(folder, data="digits", epochs=(), **settings):
    folder.mkdir(parents=True)
    net = {"layers": ["fc"], "module": {"_target_": "torch.nn.Identity"}}
    (folder / "config.yaml").write_text(yaml.safe_dump({"data": {"name": data}, "net": net, **settings}))
    for epoch in epochs:
        (folder / "epochs").mkdir(exist_ok=True)
        (folder / "epochs" / f"{epoch}.safetensors").touch()
    (folder / "done").touch()
    return str(folder)


def test_modules_of_one_kind_are_different_random_nets_with_names_of_their_own():
    nets = find_nets([LINEAR, LINEAR, {"module": LINEAR, "name": "third"}])
    assert names_of(nets) == ["linear-0", "linear-1", "third"]
    weights = [net.net().weight for net in nets]
    assert not torch.equal(weights[0], weights[1])
    assert len({net.content() for net in nets}) == 3
    again = find_nets([LINEAR, LINEAR])
    assert [net.content() for net in again] == [net.content() for net in nets[:2]]  # the place in the list is the seed
    assert not nets[0].net().training


def test_making_a_net_leaves_the_random_state_alone():
    before = torch.get_rng_state()
    Built.of(LINEAR, 0).net()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", ["safetensors", "pt", "wrapped"])
def test_weights_come_from_a_file(tmp_path, kind):
    torch.manual_seed(5)
    state = nn.Linear(3, 2).state_dict()
    file = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pt")
    if kind == "safetensors":
        save_file(state, file)
    elif kind == "pt":
        torch.save(state, file)
    else:
        torch.save({"state_dict": {f"module.{name}": x for name, x in state.items()}, "epoch": 3}, file)
    net = Built.of({"module": LINEAR, "weights": str(file)}, 0)
    assert torch.equal(net.net().weight, state["weight"])
    assert net.content() != Built.of(LINEAR, 0).content()


@pytest.mark.parametrize("damage", ["other", "cut", "pickle"])
def test_weights_that_do_not_fit_are_reported(tmp_path, damage):
    file = tmp_path / "w.pt"
    torch.save(nn.Linear(4, 2).state_dict() if damage == "other" else {"x": nn.Linear(3, 2)}, file)
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(InputError, match=r"w.pt cannot be read \("):
        Built.of({"module": LINEAR, "weights": str(file)}, 0).net()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([{"module": LINEAR, "seeds": 3}, LINEAR], "has no 'seeds'; what can be said is module, name"),
        ([{"name": "x"}, LINEAR], r"needs to be a run folder or \{_target_: MODULE"),
        ([{"module": LINEAR, "weights": "/nowhere.pt"}, LINEAR], "no file of weights /nowhere.pt"),
        ([LINEAR], "at least two finished nets, but nets has 1"),
        (["/nowhere", LINEAR], "/nowhere holds no finished run"),
        (["/nowhere@epoch=last", LINEAR], "names no epoch; write FOLDER@epoch=3"),
    ],
)
def test_what_is_no_net_is_reported(given, message):
    with pytest.raises(InputError, match=message):
        find_nets(given)


def test_epochs_of_runs_are_nets(tmp_path):
    a, b = (run_folder(tmp_path / f"seed={seed}", epochs=(0, 1, 12)) for seed in (0, 1))
    assert names_of(find_nets([f"{a}@epoch=1", a, b])) == ["seed=0@epoch=1", "seed=0", "seed=1"]
    along = find_nets(str(tmp_path), "kept")
    assert names_of(along) == [f"seed={seed}@epoch={epoch}" for seed in (0, 1) for epoch in (0, 1, 12)]
    assert names_of(find_nets([a, b], [12])) == ["seed=0@epoch=12", "seed=1@epoch=12"]
    assert along[2] == Run(tmp_path / "seed=0", 12)
    with pytest.raises(InputError, match=r"has kept no epoch 7, only 0, 1, 12; train it with keep_epochs=\[7\]"):
        find_nets([f"{a}@epoch=7", b])
    with pytest.raises(InputError, match=r"\(0, 1, 12\), not \[5\]"):
        find_nets([a, b], [5])
    with pytest.raises(InputError, match="needs run folders, but linear is a module"):
        find_nets([LINEAR, a], "kept")
    assert names_of(find_nets([LINEAR, a])) == ["linear", "seed=0"]


def test_runs_of_other_images_do_not_go_together(tmp_path):
    a, b = run_folder(tmp_path / "x" / "seed=0"), run_folder(tmp_path / "y" / "seed=0", "cifar10")
    with pytest.raises(InputError, match=r"data.name is digits in .* and cifar10 in"):
        find_nets([a, b])


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("digits-convnt", "(there is no such folder, but digits-convnet beside it) has 0; make them with: python "
         "src/train.py -m seed=0,1,2,3 name=digits-convnt"),
        ("nothere", "-m seed=0,1,2,3 name=nothere"),
        ("dynamics", "-m seed=0,1,2,3 experiment=dynamics"),
        ("cifar10-caffenet", "-m seed=0,1,2,3 data=cifar10 net=caffenet"),
        ("digits-convnet", "digits-convnet has 1; make them with: python src/train.py -m seed=0,1,2,3"),
    ],
)  # fmt: skip
def test_nets_that_are_not_there_are_reported_with_what_is_and_what_makes_them(tmp_path, name, hint):
    run = tmp_path / "digits-convnet" / "seed=0"
    run.mkdir(parents=True)
    for file in ("done", "config.yaml"):
        (run / file).touch()
    with pytest.raises(InputError) as refused:
        find_nets(str(tmp_path / name))
    assert str(refused.value).endswith(hint)


def test_a_run_of_another_training_in_the_folder_is_named(tmp_path):
    for seed in range(3):
        run_folder(tmp_path / f"seed={seed}", seed=seed, order_seed=seed, keep_epochs=[seed], epochs_trained=20)
    assert len(find_nets(str(tmp_path))) == 3
    other = run_folder(tmp_path / "seed=9", seed=9, epochs_trained=1)
    message = (
        r"seed=9 is of another training than seed=0 beside it \(epochs_trained is 1, not 20\); name the nets .* nets="
    )
    with pytest.raises(InputError, match=message):
        find_nets(str(tmp_path))
    assert len(find_nets([other, str(tmp_path / "seed=0")])) == 2  # asked for
