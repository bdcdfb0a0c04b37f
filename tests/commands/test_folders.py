"""Result folders: whole or not at all, reused only for the same configuration."""

import pytest
from omegaconf import OmegaConf

from convergent.commands.folders import claim
from convergent.errors import InputError
from convergent.files import atomic, write_json


def config(**changes):
    return OmegaConf.merge(
        {"seed": 0, "root": "here", "data": {"name": "digits", "folder": "x"}, "sizes": [1, 2]}, changes
    )


def test_a_folder_is_claimed_once_and_found_again(tmp_path):
    folder = tmp_path / "a" / "b"
    claim(folder, config(), force=False)
    (folder / "done").touch()
    claim(folder, config(root="there", data={"folder": "y"}), force=False)  # neither changes the result
    assert OmegaConf.load(folder / "config.yaml").root == "here"


@pytest.mark.parametrize("kept", ["done", "last.ckpt"])
@pytest.mark.parametrize("change", [{"seed": 1}, {"data": {"name": "cifar"}}, {"sizes": [1]}, {"seed": "0"}])
def test_another_configuration_is_refused_with_what_differs(tmp_path, change, kept):
    folder = tmp_path / "f"
    claim(folder, config(seed=7), force=False)
    claim(folder, config(), force=False)  # nothing was lost yet
    (folder / kept).touch()
    with pytest.raises(InputError, match=r"another configuration \((seed|data.name|sizes).*force=true.*another name="):
        claim(folder, config(**change), force=False)


def test_force_starts_over(tmp_path):
    claim(tmp_path / "f", config(), force=False)
    (tmp_path / "f" / "done").touch()
    claim(tmp_path / "f", config(seed=1), force=True)
    assert not (tmp_path / "f" / "done").exists()
    assert OmegaConf.load(tmp_path / "f" / "config.yaml").seed == 1


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    write_json(tmp_path / "x.json", {"a": 1})
    with pytest.raises(TypeError), atomic(tmp_path / "x.json") as file:
        file.write_text(None)
    assert (tmp_path / "x.json").read_text() == '{\n "a": 1\n}\n'
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]
