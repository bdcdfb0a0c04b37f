"""Files on disk: whole, checked, and nothing left of what was killed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from conftest import PROJECT
from convergent.errors import InputError
from convergent.storage import tensors as tensor_files
from convergent.storage.files import atomic, remove_leftovers
from convergent.storage.tensors import check, opened, save_net, save_tensors


@pytest.fixture(autouse=True)
def nothing_checked_yet(monkeypatch):
    monkeypatch.setattr(tensor_files, "_checked", {})


def test_every_flipped_bit_of_a_file_of_tensors_is_noticed(tmp_path):
    file = tmp_path / "x.safetensors"
    save_tensors({"x": torch.arange(12.0).reshape(3, 4).T}, file, {"images": "12", "units": "[[0, 3]]"})
    with opened(file) as saved:
        assert torch.equal(saved.get_tensor("x"), torch.arange(12.0).reshape(3, 4).T)
        assert saved.metadata()["images"] == "12"
    whole = file.read_bytes()
    start = whole.index(b'"crc32"')  # a bit of that name itself leaves a file of which nothing is known
    for byte in [*range(start), *range(start + 9, len(whole))]:
        file.write_bytes(whole[:byte] + bytes([whole[byte] ^ (1 << byte % 8)]) + whole[byte + 1 :])
        tensor_files._checked.clear()
        with pytest.raises(InputError, match=r"x.safetensors is damaged"):
            opened(file)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "int64", "uint8", "bool"])
def test_any_program_reads_what_is_written_piece_by_piece(tmp_path, monkeypatch, dtype):
    monkeypatch.setattr(tensor_files, "_AT_ONCE", 64)
    tensors = {
        "matrix": torch.randn(3, 5, 40).to(getattr(torch, dtype)).mT,
        "scalar": torch.tensor(3),
        "empty": torch.empty(0, 2),
        "one": torch.randn(1, 500)[:, 3],
    }
    save_tensors(tensors, tmp_path / "x", {"in": "ü"})
    theirs = load_file(tmp_path / "x")
    assert theirs.keys() == tensors.keys()
    assert all(torch.equal(theirs[name], tensors[name]) for name in tensors)
    check(tmp_path / "x")


@pytest.mark.parametrize("damage", [lambda b: bytes(len(b)), lambda b: b[:-5], lambda b: b[:100] + bytes(len(b) - 100)])
def test_a_file_of_zeros_and_a_torn_one_are_noticed(tmp_path, damage):
    file = tmp_path / "x.safetensors"
    save_tensors({"x": torch.ones(100)}, file)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(InputError, match=r"x.safetensors is damaged"):
        opened(file)


def test_a_file_is_read_once_as_long_as_it_stays_the_same(tmp_path, monkeypatch):
    file, read = tmp_path / "x.safetensors", []
    save_tensors({"x": torch.ones(3)}, file)
    crc = tensor_files._crc
    monkeypatch.setattr(tensor_files, "_crc", lambda *given: read.append(1) or crc(*given))
    check(file)
    check(file)
    assert len(read) == 1
    save_tensors({"x": torch.ones(4)}, file)
    read.clear()
    check(file)
    assert len(read) == 1


def test_the_same_weights_are_the_same_bytes_with_shared_ones_too(tmp_path):
    shared = nn.Linear(3, 3)
    net = nn.ModuleDict({"a": shared, "b": shared, "c": shared, "d": nn.Linear(2, 2)})
    for number in range(10):
        save_net(net, tmp_path / f"{number}.safetensors")
        check(tmp_path / f"{number}.safetensors")
    assert len({file.read_bytes() for file in tmp_path.iterdir()}) == 1


def test_content_and_name_are_on_the_disk_in_this_order(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(os, "fsync", lambda handle: calls.append(str(Path(f"/proc/self/fd/{handle}").readlink())))
    with atomic(tmp_path / "x") as file:
        file.write_text("1")
    assert calls == [str(file), str(tmp_path)]


def test_a_write_that_fails_leaves_nothing(tmp_path):
    (tmp_path / "x").mkdir()  # no file can take its place
    with pytest.raises(IsADirectoryError), atomic(tmp_path / "x") as file:
        file.write_text("1")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


KILLED = """
import os, sys
from pathlib import Path
from convergent.storage.files import atomic
with atomic(Path(sys.argv[1])) as file:
    file.write_text("half")
    os.kill(os.getpid(), 9)
"""


def test_what_a_killed_write_leaves_is_removed_by_the_next_one_and_nothing_else(tmp_path):
    file = tmp_path / "layers" / "x"
    environment = os.environ | {"PYTHONPATH": str(PROJECT / "src")}
    subprocess.run([sys.executable, "-c", KILLED, str(file)], check=False, env=environment)
    (left,) = file.parent.iterdir()
    other = file.with_name(".x.y.1")  # of another file and machine
    for path in (other, file.with_name(".x.hidden"), file.with_name(f".x.{left.name.split('.')[2]}.{os.getppid()}")):
        path.touch()
    with atomic(file) as partial:
        partial.write_text("whole")
        assert not left.exists()
    left.touch()
    remove_leftovers(tmp_path)
    assert not left.exists()
    assert len(list(file.parent.iterdir())) == 4
