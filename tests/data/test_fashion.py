"""Fashion-MNIST: the four files as they are published, compressed or not; what is missing or broken is named."""

import gzip
import json

import numpy as np
import pytest
import torch
import torchvision
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from conftest import PROJECT
from convergent.cli.train import build_data
from convergent.cli.train_job import TrainJob
from convergent.data.fashion import FashionMNIST
from convergent.errors import InputError

PARTS = {"train": 256, "t10k": 160}  # pictures


def idx(array):
    return (
        bytes([0, 0, 8, array.ndim]) + b"".join(length.to_bytes(4, "big") for length in array.shape) + array.tobytes()
    )


def published(folder, compressed=True):
    """Files as they are published, of pictures whose brightness is their class."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for part, pictures in PARTS.items():
        targets = np.arange(pictures, dtype=np.uint8) % 10
        data = (rng.integers(0, 28, (pictures, 28, 28)) + 22 * targets[:, None, None]).astype(np.uint8)
        for name, array in ((f"{part}-images-idx3-ubyte", data), (f"{part}-labels-idx1-ubyte", targets)):
            (folder / (f"{name}.gz" if compressed else name)).write_bytes(
                gzip.compress(idx(array), 1) if compressed else idx(array)
            )
    return folder


def data_of(folder):
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
        return build_data(TrainJob.of(compose("train", ["data=fashion_mnist", f"data.folder={folder}"])).config)


@pytest.mark.parametrize("train", [True, False])
def test_pictures_are_those_that_torchvision_reads_compressed_or_not(tmp_path, train):
    published(tmp_path / "FashionMNIST" / "raw", compressed=False)
    oracle = torchvision.datasets.FashionMNIST(str(tmp_path), train=train)
    one, other = (FashionMNIST(str(folder), train=train) for folder in (published(tmp_path / "debian"), tmp_path))
    assert len(oracle) == len(one) == PARTS["train" if train else "t10k"]
    assert one.classes == oracle.classes
    for (picture, target), (again, same), (wanted, truth) in zip(one, other, oracle):
        assert picture.tobytes() == again.tobytes() == wanted.tobytes()
        assert target == same == truth
    assert one.content() == other.content() != FashionMNIST(str(tmp_path), train=not train).content()


def test_files_that_are_not_there_are_missed_in_one_sentence(tmp_path):
    data = data_of(tmp_path)
    with pytest.raises(
        InputError, match=r"^Fashion-MNIST needs train-images.*dataset-fashion-mnist, or set data\.folder"
    ):
        data.check()
    (published(tmp_path) / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(InputError, match="t10k-labels-idx1-ubyte, gzip'ed or not, but they are not in"):
        data.check()


def test_torchvision_downloads_what_is_missing_only_if_that_is_asked_for(tmp_path, monkeypatch):
    asked = []

    def download(dataset):
        asked.append(dataset.raw_folder)
        published(tmp_path / "FashionMNIST" / "raw", compressed=False)

    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "download", download)
    with pytest.raises(InputError, match="needs train-images"):
        FashionMNIST(str(tmp_path))
    assert not asked
    assert len(FashionMNIST(str(tmp_path), download=True)) == PARTS["train"]
    assert len(FashionMNIST(str(tmp_path), train=False, download=True)) == PARTS["t10k"]
    assert asked == [str(tmp_path / "FashionMNIST" / "raw")]


@pytest.mark.parametrize(
    ("name", "broken", "words"),
    [
        ("images-idx3", lambda content: content[:-9], "train-images-idx3-ubyte.gz cannot be read .*; get it anew"),
        ("images-idx3", lambda content: b"<html>" + content, "cannot be read"),
        ("images-idx3", lambda content: content[:40] + bytes(40) + content[80:], "cannot be read"),
        ("images-idx3", lambda content: gzip.compress(gzip.decompress(content)[:-1]), "no whole idx file of bytes"),
        ("images-idx3", lambda content: gzip.compress(gzip.decompress(content) + b"x"), "no whole idx file"),
        ("labels-idx1", lambda _: gzip.compress(b""), "train-labels-.* is no whole idx file"),
        ("labels-idx1", lambda _: gzip.compress(idx(np.zeros((2, 2), np.uint8))), "no whole idx file"),
        ("labels-idx1", lambda _: gzip.compress(idx(np.zeros(255, np.uint8))), "256 pictures .* has 255 up to 0"),
        ("labels-idx1", lambda _: gzip.compress(idx(np.full(256, 10, np.uint8))), "has 256 up to 10; get both"),
    ],
)
def test_a_broken_file_is_named(tmp_path, name, broken, words):
    file = published(tmp_path) / f"train-{name}-ubyte.gz"
    file.write_bytes(broken(file.read_bytes()))
    with pytest.raises(InputError, match=words):
        FashionMNIST(str(tmp_path))


def test_training_pictures_are_mirrored_at_random_and_those_of_the_test_are_not(tmp_path):
    data = data_of(published(tmp_path))
    x_n, _, image_n = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    seen_n, original_n = x_n[:, 0] * 0.353 + 0.286, data.dataset("train").data[image_n] / 255
    same_n, mirrored_n = ((seen_n - by).abs().amax((1, 2)) < 1e-5 for by in (original_n, original_n.flip(2)))
    assert (same_n ^ mirrored_n).all()
    assert 40 < mirrored_n.sum() < 88
    assert torch.allclose(data.measured[3][0][0] * 0.353 + 0.286, data.dataset("val").data[3] / 255, atol=1e-5)


def test_the_experiment_trains_and_aligns_nets_from_one_stream(command, tmp_path):
    options = (f"root={tmp_path}", f"data.folder={published(tmp_path / 'files')}", "experiment=fashion", "logger=csv")
    code, out, _ = command("train", *options, "seeds=[0,1]", "epochs=1")
    assert (code, out.count("val/acc_top1")) == (0, 2)
    nothing = [f"{group}=[]" for group in ("evaluation.nulls", "analysis", "similarity", "figure")]
    assert command("align", *options, "label=matching", "pictures=null", *nothing)[0] == 0
    summary = json.loads((tmp_path / "outputs/align/fashion/matching/summary.json").read_text())
    assert summary["images"] == PARTS["t10k"]
    assert {pair["layer"] for pair in summary["pairs"]} == {"conv1", "conv2", "conv3", "fc1"}
