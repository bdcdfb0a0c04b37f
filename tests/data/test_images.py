"""Data sets in their true form on disk, prepared as configured; bad images named."""

import pickle

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from PIL import Image

from convergent.cli.train import build_data
from convergent.data.digits import Digits
from convergent.data.order import Draw
from convergent.data.pictures import Images, Shuffled, Views
from convergent.errors import InputError


def configured(*overrides):
    from conftest import PROJECT

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
        return compose("train", ["order_seed=0", "augment_seed=0", *overrides])


def picture_folder(root, per_class=3, classes=("n01", "n02"), size=(40, 30), mode="RGB"):
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in classes:
            (root / split / name).mkdir(parents=True)
            for i in range(per_class):
                shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
                Image.fromarray(rng.integers(0, 255, shape, dtype=np.uint8)).save(
                    root / split / name / f"{name}_{i}.JPEG"
                )
    return root


def cifar10(root):
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        content = {"data": rng.integers(0, 255, (4, 3072), dtype=np.uint8), "labels": [0, 1, 2, 9]}
        (folder / name).write_bytes(pickle.dumps(content))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    return root


def test_digits_are_all_there_split_by_class():
    train, val, everything = Digits("train"), Digits("val"), Digits("all")
    assert (len(train), len(val), len(everything)) == (1437, 360, 1797)
    assert np.bincount(val.targets).min() >= 34
    both = {image.tobytes() for image in train.images} | {image.tobytes() for image in val.images}
    assert both == {image.tobytes() for image in everything.images}
    picture, target = val[0]
    assert picture.size == (8, 8)
    assert isinstance(target, int)
    with pytest.raises(InputError, match="train, val, all, not 'test'"):
        Digits("test")


def test_digits_come_normalised():
    data = build_data(configured())
    x = torch.cat([data.on_after_batch_transfer(batch, 0)[0] for batch in data.val_dataloader()])
    assert x.shape == (360, 1, 8, 8)
    assert abs(x.mean()) < 0.05
    assert abs(x.std() - 1) < 0.05


def test_augmentation_is_that_of_its_seed_and_leaves_the_random_state():
    data = build_data(configured())
    images = data.images("train", data.training)
    before = torch.get_rng_state()
    views = [images[Draw(5, (seed,))][0] for seed in (1, 1, 2, 3, 4)]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(views[0], views[1])
    assert not all(torch.equal(views[0], view) for view in views[2:])
    together = images[Draw(5, (1, 1, 2, 3, 4))][0]  # decoded once, augmented for each net
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(together, views, strict=True))


def test_workers_change_nothing():
    alone, three = (build_data(configured(f"data.workers={n}")).train_dataloader() for n in (0, 3))
    for ours, theirs in zip(alone, three, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs))


@pytest.mark.parametrize("data", ["imagenet", "folder"])
def test_picture_folders(tmp_path, data):
    folder = picture_folder(tmp_path / "a folder", classes=("n00000001", "n00000002"))
    prepared = build_data(configured(f"data={data}", f"data.folder='{folder}'", "data.classes=2", "data.workers=0"))
    x, target, image = next(iter(prepared.val_dataloader()))
    size = 227 if data == "imagenet" else 64
    assert x.shape == (6, 3, size, size)
    assert target.tolist() == [0, 0, 0, 1, 1, 1]
    assert image.tolist() == list(range(6))
    assert next(iter(prepared.train_dataloader()))[0].shape == (6, 3, size, size)


def test_cifar10_in_its_own_format(tmp_path, monkeypatch):
    import torchvision

    monkeypatch.setattr(
        torchvision.datasets.CIFAR10, "_check_integrity", lambda _: True
    )  # our pictures, not the real ones
    monkeypatch.setattr(torchvision.datasets.cifar, "check_integrity", lambda *_: True)
    data = build_data(
        configured("data=cifar10", f"data.folder={cifar10(tmp_path)}", "data.download=false", "data.workers=0")
    )
    x, target, _ = next(iter(data.val_dataloader()))
    assert x.shape == (4, 3, 32, 32)
    assert target.tolist() == [0, 1, 2, 9]
    assert len(data.images("train")) == 20


def test_a_data_set_that_is_not_there_is_reported(tmp_path):
    data = build_data(configured("data=imagenet", f"data.folder={tmp_path}/none"))
    with pytest.raises(InputError, match=r"No images for val: .*set data.folder"):
        data.val_dataloader()
    (tmp_path / "empty" / "val" / "n00000001").mkdir(parents=True)
    data = build_data(configured("data=imagenet", f"data.folder={tmp_path}/empty", "data.classes=1"))
    with pytest.raises(InputError, match="no image of class n00000001"):
        data.val_dataloader()
    data = build_data(configured("data=cifar10", f"data.folder={tmp_path}", "data.download=false"))
    with pytest.raises(InputError, match="No images for train: Dataset not found"):
        data.train_dataloader()
    with pytest.raises(InputError, match="one of train, val, all, not 'test'"):
        build_data(configured()).images("test")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_corrupt_image_is_named(tmp_path, workers):
    folder = picture_folder(tmp_path)
    broken = folder / "val" / "n02" / "n02_1.JPEG"
    broken.write_bytes(broken.read_bytes()[:300])
    overrides = ("data=folder", f"data.folder={folder}", "data.classes=2", f"data.workers={workers}")
    with pytest.raises(InputError, match=r"n02_1.JPEG cannot be read .*skip_corrupt"):
        list(build_data(configured(*overrides)).val_dataloader())
    data = build_data(configured(*overrides, "data.skip_corrupt=true"))
    ((x, _, image),) = data.val_dataloader()
    assert data.skipped() == 1
    assert len(x) == 5
    assert 4 not in image.tolist()


def test_the_manifest_changes_with_the_images_and_their_preparation_but_not_with_their_place(tmp_path):
    def manifest(folder, *more):
        return build_data(
            configured("data=folder", f"data.folder={folder}", "data.classes=2", *more)
        ).measured.manifest()

    one, two = picture_folder(tmp_path / "one"), picture_folder(tmp_path / "two")
    assert manifest(one) == manifest(two)
    assert manifest(one) != manifest(one, "data.size=32")
    (two / "val" / "n01" / "n01_0.JPEG").unlink()
    assert manifest(one) != manifest(two)
    assert build_data(configured()).measured.manifest() != build_data(configured(), measure="val").measured.manifest()


def test_uncounted_repetitions_have_no_class():
    images = Images(Digits("val"), lambda picture: torch.zeros(1))
    assert images[Draw(3)][1] >= 0
    assert images[Draw(3, counted=False)][1] == -100
    assert images[3] == images[Draw(3)]


def test_shuffled_images_show_every_net_another_image_and_every_image_once():
    pictures = [(torch.full((1, 2, 2), float(image)), 0) for image in range(7)]
    images = Images(pictures, lambda picture: picture)
    shuffled = Shuffled(images, {"a": None, "b": None, "c": None})
    seen = {net: [int(shuffled[image][0][net].mean()) for image in range(7)] for net in "abc"}
    assert all(sorted(of_net) == list(range(7)) for of_net in seen.values())
    assert all(len(set(row)) == 3 for row in zip(*seen.values()))
    assert [shuffled[image][2] for image in range(7)] == list(range(7))
    assert shuffled.manifest() != images.manifest()
    again = Shuffled(images, {"a": None, "b": None, "c": None})
    assert all(torch.equal(again[image][0]["b"], shuffled[image][0]["b"]) for image in range(7))


def test_shuffled_images_come_in_each_nets_view():
    pictures = [(torch.ones(1, 2, 2) * image, 0) for image in range(1, 5)]
    images = Images(pictures, Views({"0": lambda x: x, "1": lambda x: -x}))
    seen = Shuffled(images, {"a": "0", "b": "1"})[2][0]
    assert seen["a"].mean() > 0 > seen["b"].mean()
