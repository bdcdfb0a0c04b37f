"""Result folders: whole or not at all, reused only for the same configuration, and nothing else is ever removed."""

import pytest
from omegaconf import OmegaConf

from convergent.cli.folders import claim, component, remove_result, shortened
from convergent.cli.schema import OPTIONS
from convergent.errors import InputError
from convergent.storage.files import atomic, write_json
from convergent.storage.layout import LAYOUT


def config(**changes):
    return OmegaConf.merge(
        {"seed": 0, "root": "here", "data": {"name": "digits", "folder": "x"}, "net": {"name": "n"}, "sizes": [1, 2]},
        changes,
    )


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "outputs" / "train" / "experiment" / "seed=0"


def contents(folder):
    return {str(file.relative_to(folder)): file.is_file() and file.read_bytes() for file in folder.rglob("*")}


def test_a_folder_is_claimed_once_and_found_again(folder):
    claim(folder, config(), force=False)
    (folder / "done").touch()
    claim(
        folder, config(root="there", data={"folder": "y"}), force=False, options=OPTIONS["train"]
    )  # neither changes the result
    assert OmegaConf.load(folder / "config.yaml").root == "here"


def test_a_result_from_before_an_option_is_of_what_was_done_then(folder):
    claim(folder, config(), force=False)
    (folder / "done").touch()
    claim(folder, config(tokens="same"), force=False)
    with pytest.raises(InputError, match="tokens is same there and shared_ends here"):
        claim(folder, config(tokens="shared_ends"), force=False)


@pytest.mark.parametrize("file", ["done", "last.ckpt"])
@pytest.mark.parametrize("change", [{"seed": 1}, {"data": {"name": "cifar"}}, {"sizes": [1]}, {"seed": "0"}])
def test_another_configuration_is_refused_with_what_differs(folder, change, file):
    claim(folder, config(seed=7), force=False)
    claim(folder, config(), force=False)  # nothing was lost yet
    (folder / file).touch()
    with pytest.raises(InputError, match=r"another configuration \((seed|data.name|sizes).*force=true.*another name="):
        claim(folder, config(**change), force=False)


def finished(folder, kind="train"):
    """A finished result, with something of everything that a command may leave in its folder."""
    claim(folder, config() if kind == "train" else OmegaConf.create({"method": 1, "nets": 2, "images": 3}), force=False)
    ours = ["done", "metrics.json", "last.ckpt", "scores.csv", "figures/means.png", "figures/means.pdf", "wandb-id"]
    ours += ["alignments/fc1.safetensors", "epochs/3.safetensors", "csv/version_0/metrics.csv", ".x.json.123"]
    for name in ours:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("ours")
    (folder / "epochs" / ".4.safetensors.77").touch()
    return folder


@pytest.mark.parametrize("kind", ["train", "align"])
def test_a_result_is_removed_with_all_that_is_ours_and_its_empty_folders(tmp_path, kind):
    folder = finished(tmp_path / "outputs" / kind / "experiment" / "one", kind)
    other = finished(folder.with_name("other"), kind)
    before = contents(other)
    remove_result(folder)
    assert not folder.exists()
    assert contents(other) == before
    remove_result(other)
    assert [path.name for path in (tmp_path / "outputs").rglob("*")] == [kind]  # nothing above the experiment's


def test_force_starts_over(folder):
    finished(folder)
    claim(folder, config(seed=1), force=True)
    assert [path.name for path in folder.iterdir()] == ["config.yaml"]
    assert OmegaConf.load(folder / "config.yaml").seed == 1


def test_what_is_not_ours_stays_in_a_result_that_is_replaced(folder):
    finished(folder)
    for name in ("notes.txt", "figures/mine.svg", "thesis/figures/a.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")
    claim(folder, config(seed=1), force=True)
    assert {name for name, text in contents(folder).items() if text} == {
        "notes.txt", "figures/mine.svg", "thesis/figures/a.png", "config.yaml"
    }  # fmt: skip


def test_links_in_a_result_are_removed_and_not_what_they_lead_to(folder, tmp_path):
    finished(folder)
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.png").touch()
    (folder / "figures" / "means.png").unlink()
    (folder / "figures" / "means.png").symlink_to(photos / "a.png")
    (folder / "alignments" / "fc1.safetensors").unlink()
    (folder / "alignments").rmdir()
    (folder / "alignments").symlink_to(photos)
    (photos / "b.safetensors").touch()
    (photos / "version_1").mkdir()
    remove_result(folder)
    assert set(contents(photos)) == {"a.png", "b.safetensors", "version_1"}


@pytest.mark.parametrize("level", ["result", "experiment"])
def test_a_result_behind_a_link_is_not_removed(folder, tmp_path, level):
    elsewhere = finished(tmp_path / "backup" / "outputs" / "train" / "experiment" / "seed=0")
    link, to = (folder, elsewhere) if level == "result" else (folder.parent, elsewhere.parent)
    link.parent.mkdir(parents=True)
    link.symlink_to(to)
    before = contents(elsewhere)
    with pytest.raises(InputError, match="reached through a link"):
        claim(folder, config(), force=True)
    assert contents(elsewhere) == before


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    "theirs",
    [
        {"thesis.tex": "all of it"},
        {"figures/a.png": "", "scores.csv": "1", "done": ""},  # named like ours
        {"config.yaml": "defaults: [model]\nseed: 0\n", "done": ""},  # somebody else's program has one, too
        {"config.yaml": "\0" * 50, "done": "", "weights.safetensors": "w"},  # damaged: nobody can tell
        {"config.yaml": "{a: [", "last.ckpt": ""},
        {"config.yaml": ""},
    ],
)
def test_a_folder_without_a_configuration_of_ours_is_left_as_it_is(folder, theirs, force):
    for name, text in theirs.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    before = contents(folder)
    with pytest.raises(InputError, match="nothing in it is touched; choose another name= or remove that folder"):
        claim(folder, config(), force=force)
    with pytest.raises(InputError, match="no result"):
        remove_result(folder)
    assert contents(folder) == before


def test_a_configuration_of_ours_in_another_place_is_no_result(tmp_path):
    (tmp_path / "project").mkdir()
    OmegaConf.save(config(), tmp_path / "project" / "config.yaml")
    with pytest.raises(InputError, match="no result"):
        remove_result(tmp_path / "project")
    with pytest.raises(InputError, match="nothing in it is touched"):
        claim(tmp_path / "project", config(), force=True)


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", "a/b", "/home/me/thesis", "../../..", "..\\x", "a\0b", "a\nb", "\udcff", "x" * 101, "é" * 51,
        None, True, 1.5, ["a"], {"a": 1},
    ],
)  # fmt: skip
def test_a_name_is_the_name_of_one_folder(name):
    with pytest.raises(InputError, match="label needs to be the name of one folder"):
        component(name, "label")


@pytest.mark.parametrize("name", ["a", "x" * 100, "é" * 50, "...", ".hidden", "a b", "seed=0,alpha=[1,2]~", 2026])
def test_other_names_are_taken_as_they_are(name):
    assert component(name, "name") == str(name)


@pytest.mark.parametrize("name", ["x" * 500, "é" * 99, "a/b\\c", "日本語" * 40])
def test_a_made_name_is_shortened_to_what_a_name_may_be(name):
    assert component(shortened(name), "label") == shortened(name)
    assert shortened(name) != shortened(f"{name}y")


@pytest.mark.parametrize("force", ["false", "true"])
@pytest.mark.parametrize(
    ("script", "option"),
    [
        ("align", "label={thesis}"), ("align", "label='../../..'"), ("align", "label='..'"), ("align", "label='.'"),
        ("align", "label=''"), ("align", "name={thesis}"), ("align", "name='..'"), ("align", "label='../linked'"),
        ("align", "label=linked"), ("align", "label=foreign"), ("train", "name={thesis}"), ("train", "name='../..'"),
        ("train", "name='.'"), ("train", "name=''"), ("train", "net.name='../../../thesis'"), ("train", "name=foreign"),
        ("report", "name={thesis}"), ("report", "name='../../..'"),
    ],
)  # fmt: skip
def test_no_option_deletes_a_folder_that_is_not_ours(tmp_path, command, script, option, force):
    """Whatever a command is told, what it did not make is there afterwards as it was."""
    root, thesis = tmp_path / "root", tmp_path / "thesis"
    for folder in (thesis, root / "outputs/align/e/foreign", root / "outputs/train/foreign/seed=0"):
        folder.mkdir(parents=True)
        (folder / "chapter.tex").write_text("years of work")
    (root / "outputs/align/e/linked").symlink_to(thesis)
    (root / "outputs" / "precious").write_text("trained nets")
    before = contents(tmp_path)
    flat, linear = "{_target_: torch.nn.Flatten}", "{_target_: torch.nn.Linear, in_features: 64, out_features: 4}"
    net = f"{{_target_: torch.nn.Sequential, _args_: [{flat}, {linear}]}}"
    own = {
        "align": [f"nets=[{net},{net}]", "layers=['1']", "method=spectral", "method.clusters=100000", "figure=[]"],
        "train": ["net=module", "net.module._target_=builtins.dict", "net.name=n", "net.layers=[]", "logger=csv"],
        "report": [],
    }[script]
    forced = [f"force={force}"] if script != "report" else []
    forced += ["logger=csv"] if script == "align" else []
    forced += ["name=e"] if "label" in option else []
    code, _, err = command(script, *own, option.format(thesis=thesis), *forced, f"root='{root}'")
    assert code == 1
    assert err.startswith("error: ")
    assert {name: text for name, text in contents(tmp_path).items() if "outputs/locks" not in name} == before
    assert (root / "outputs/align/e/linked").readlink() == thesis


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    write_json(tmp_path / "x.json", {"a": 1})
    with pytest.raises(TypeError), atomic(tmp_path / "x.json") as file:
        file.write_text(None)
    assert (tmp_path / "x.json").read_text() == '{\n "a": 1\n}\n'
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_a_training_of_an_earlier_version_is_the_same_by_the_names_of_today(folder):
    folder.mkdir(parents=True)
    old = {
        "optimizer": {"_target_": "convergent.optimizers.cosine", "steps": [{"_target_": "convergent.optimizers.x"}]}
    }
    OmegaConf.save(OmegaConf.merge(config(), old), folder / "config.yaml")
    (folder / "done").touch()
    new = {
        "_target_": "convergent.training.optimizers.cosine",
        "steps": [{"_target_": "convergent.training.optimizers.x"}],
    }
    claim(folder, config(optimizer=new), force=False, options=OPTIONS["train"])
    with pytest.raises(InputError, match="seed is 0 there and 1 here"):
        claim(folder, config(optimizer=new, seed=1), force=False, options=OPTIONS["train"])


def test_an_alignment_of_an_earlier_version_is_refused_with_what_to_do(tmp_path):
    folder = tmp_path / "outputs" / "align" / "experiment" / "matching"
    folder.mkdir(parents=True)
    record = OmegaConf.create({"method": 1, "nets": 2, "images": 3})
    OmegaConf.save(record, folder / "config.yaml")
    (folder / "done").touch()
    with pytest.raises(
        InputError, match="of another version, whose tables have other columns; make it again with force=true"
    ):
        claim(folder, record, force=False)
    claim(folder, record, force=True)
    (folder / "done").touch()
    claim(folder, record, force=False)


def test_a_training_of_a_later_version_is_refused(folder):
    claim(folder, config(layout=LAYOUT + 1), force=False)
    (folder / "done").touch()
    with pytest.raises(InputError, match=f"is of layout {LAYOUT + 1}, but this version reads {LAYOUT}"):
        claim(folder, config(), force=False, options=OPTIONS["train"])
