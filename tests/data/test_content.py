"""What identifies the pictures of saved moments: their content, made a key once, wherever they lie."""

import logging
import os
import pathlib
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

from convergent.data import content, digests
from convergent.data.content import content_of, digest_of
from convergent.data.fractals import Fractals
from convergent.data.pictures import Images
from convergent.errors import InputError
from data.test_images import picture_folder
from data.test_pictures import folder_data


class Pixels(Dataset):
    """A data set in memory that says nothing of itself, or always the same."""

    def __init__(self, pixels, *, named):
        self.pixels, self.named = pixels, named

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, image):
        return self.pixels[image], 0

    def __repr__(self):
        return "Pixels()" if self.named else object.__repr__(self)


class Scaled:
    """A transform that says nothing of itself, or always the same."""

    def __init__(self, factor, *, named=True):
        self.factor, self.named = factor, named

    def __call__(self, picture):
        return picture * self.factor

    def __repr__(self):
        return "Scaled()" if self.named else object.__repr__(self)


def key(pixels, factor=1.0, *, named=True):
    return Images(Pixels(pixels, named=named), Scaled(factor, named=named)).manifest()


@pytest.mark.parametrize("named", [True, False])
def test_a_data_set_in_memory_is_known_by_its_pixels_whatever_its_repr(named):
    x = torch.rand(50, 1, 4, 4)
    other = x.clone()
    other[49, 0, 3, 3] += 1e-6
    assert key(x, named=named) == key(x.clone(), named=named)
    assert key(x, named=named) != key(other, named=named)
    assert key(x, named=named) != key(x, 2.0, named=named)
    assert key(x, named=named) != key(x[:49], named=named)


def test_a_data_set_can_say_itself_what_it_holds():
    data = Pixels(torch.zeros(3), named=True)
    data.content = lambda: ["version", 3]
    assert content_of(data) == ["version", "3"]


def test_unreadable_items_and_such_that_cannot_be_digested():
    class Odd(Pixels):
        def __getitem__(self, image):
            if image == 1:
                raise OSError("broken")
            return self.pixels[image]

    assert content_of(Odd([1, 2], named=True)) == content_of(Odd([1, 3], named=True))
    with pytest.raises(InputError, match=r"Item 0 of Odd has no digest .*; give the data set a method content\(\)"):
        content_of(Odd([lambda: 0], named=True))


def test_of_many_items_a_seeded_sample_is_read_which_is_said(monkeypatch, caplog):
    monkeypatch.setattr(content, "MOST_ITEMS", 100)
    monkeypatch.setattr(content, "SAMPLE", 10)
    caplog.set_level(logging.INFO)
    x = torch.arange(101)
    (line,) = content_of(Pixels(x, named=True))
    assert line.startswith("10 of 101 items")
    assert content_of(Pixels(x + 1, named=True)) != content_of(Pixels(x, named=True)) == [line]
    assert "The key of these 101 images is made of 10 of them" in caplog.text


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (torch.zeros(2, 3), torch.zeros(3, 2)),
        (torch.zeros(2), torch.zeros(2, dtype=torch.float64)),
        (torch.zeros(2), torch.zeros(2, dtype=torch.bfloat16)),
        (np.zeros(2), np.zeros((2, 1))),
        ({"a": torch.ones(1)}, {"b": torch.ones(1)}),
        ([torch.ones(1), torch.ones(1)], [torch.ones(2)]),
        (Image.new("L", (2, 3)), Image.new("L", (3, 2))),
        ("a", "b"),
        (1, 2),
    ],
)
def test_digests_differ_with_what_is_digested(one, other):
    assert digest_of(one) == digest_of(one)
    assert digest_of(one) != digest_of(other)


def folder_key(folder):
    return folder_data(folder).measured.manifest()


def test_a_file_of_the_same_size_is_another_file_and_a_copy_is_the_same(tmp_path):
    folder = picture_folder(tmp_path / "one", per_class=2)
    before = folder_key(folder)
    copy = tmp_path / "elsewhere" / "deep"
    shutil.copytree(folder, copy)
    assert folder_key(copy) == before
    file = folder / "val" / "n02" / "n02_1.JPEG"
    pixels, status = bytearray(file.read_bytes()), file.stat()
    pixels[-20] ^= 1
    file.write_bytes(pixels)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file.stat().st_size == status.st_size
    assert folder_key(folder) != before


def test_files_that_cannot_be_read_have_a_key_too(tmp_path):
    folder = picture_folder(tmp_path)
    before = folder_key(folder)
    (folder / "val" / "n01" / "dangling.png").symlink_to("nowhere")
    os.mkfifo(folder / "val" / "n01" / os.fsdecode(b"fifo-\xe9.png"))
    data = folder_data(folder, "data.skip_corrupt=true")
    assert len(data.measured.manifest()) > len(before)
    assert data.skipped() == 0  # only the pass itself counts


@pytest.fixture
def remembered(tmp_path, monkeypatch):
    """A folder of digests that are remembered however small the files; and a count of those that are made."""
    monkeypatch.setattr(digests, "_WORTH_REMEMBERING", 0)
    monkeypatch.setattr(digests, "_SETTLED", -1e18)
    made = []
    digest = digests._digest
    monkeypatch.setattr(digests, "_digest", lambda file: made.append(file) or digest(file))
    return tmp_path / "digests", made


def test_digests_of_large_folders_are_made_once_and_again_for_changed_files(tmp_path, remembered):
    memory, made = remembered
    dataset = folder_data(picture_folder(tmp_path / "pictures")).dataset("val")
    first = content_of(dataset, memory)
    assert len(made) == 6
    assert content_of(dataset, memory) == first
    assert len(made) == 6
    changed = dataset.samples[3][0]
    os.utime(changed, ns=(0, 0))
    assert content_of(dataset, memory) == first
    assert made[6:] == [changed]
    with pathlib.Path(changed).open("r+b") as file:
        file.write(b"other")
    os.utime(changed, ns=(0, 0))  # the same size and time: the system's own time of change tells
    assert content_of(dataset, memory) != first
    for damaged in ("{", '{"a": 1}', "[]", '{"n01/n01_0.JPEG": [[1, 2], "x"]}', "\udcff"):
        next(memory.iterdir()).write_bytes(damaged.encode(errors="surrogateescape"))
        assert len(content_of(dataset, memory)) == 6
    assert len(made) == 8 + 5 * 6
    assert [file.suffix for file in memory.iterdir()] == [".json"]


def test_a_file_that_has_just_been_written_is_not_remembered(tmp_path, remembered, monkeypatch):
    memory, made = remembered
    monkeypatch.setattr(digests, "_SETTLED", 2_000_000_000)
    dataset = folder_data(picture_folder(tmp_path / "pictures")).dataset("val")
    for times in (1, 2):
        content_of(dataset, memory)
        assert len(made) == 6 * times


def test_of_very_large_folders_a_seeded_sample_is_digested_which_is_said(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(content, "MOST_BYTES", 100)
    monkeypatch.setattr(content, "SAMPLE", 2)
    caplog.set_level(logging.INFO)
    lines = content_of(folder_data(picture_folder(tmp_path)).dataset("val"))
    assert [len(line.split()) for line in lines].count(3) == 2
    assert len(lines) == 6
    assert "6 images of 0 GB: their key holds the sizes of all, but the content of 2 only" in caplog.text


def test_a_store_is_known_by_its_bytes(tmp_path):
    store = Fractals(str(tmp_path), "val", 2, 4, 16)
    before = store.content()
    assert Fractals(str(tmp_path), "val", 2, 4, 16).content() == before
    with (store.folder / "pixels.u8").open("r+b") as file:
        file.seek(100)
        file.write(bytes([255 - store.pixels.flat[100]]))
    assert Fractals(str(tmp_path), "val", 2, 4, 16).content() != before
