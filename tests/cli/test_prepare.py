"""Stores: what is in them, what happens to those who stop half way, and that nets see what they would see without."""

import json

import numpy as np
import pytest
import torch

from convergent.cli.train import build_data
from convergent.data.content import content_of
from convergent.data.order import Draw
from convergent.data.store import MEAN, Store, SubtractMean
from convergent.data.writing import CHUNK, Writing
from convergent.errors import InputError
from data.test_imagenet import WNIDS, configured, imagenet_tree
from data.test_pictures import BAD, DEEP, classes

SIZE = ("size=64", "processes=0", "partial=true", "data.classes=3")
SMALL = ("data.classes=3", "data.size=48", "data.workers=0", "order_seed=0", "augment_seed=3")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return imagenet_tree(tmp_path_factory.mktemp("ilsvrc"), size=(100, 80))


@pytest.fixture
def prepared(tree, tmp_path, command):
    code, out, err = command("prepare", f"data.folder={tree}", f"store={tmp_path}/store", *SIZE)
    assert code == 0, err
    assert "train: 12 images in" in out
    return tmp_path / "store"


def one_by_one(data, net):
    """The training pictures of an epoch as torchvision's transforms make them, in their order."""
    images = data.images("train", data.training)
    for draw in data.train_dataloader().sampler:
        yield data.normalise(images[draw][0][net])


def of_folder(tree):
    config = configured("train", "data=imagenet", f"data.folder={tree}", *SMALL)
    first = {"_target_": "torchvision.transforms.v2.Resize", "size": [64, 64], "antialias": True}
    store = configured("train", "data=imagenet_store", f"data.store={tree}", *SMALL)
    config.data.augment, config.data.prepare = [first, *store.data.augment], [first, *store.data.prepare]
    return build_data(config, order_seed=0, augment_seed=[3, 4])


def of_store(store, *overrides):
    config = configured("train", "data=imagenet_store", f"data.store={store}", *SMALL, *overrides)
    return build_data(config, order_seed=0, augment_seed=[3, 4])


def batches(data, loader):
    return [data.on_after_batch_transfer(batch, 0) for batch in loader]


@pytest.mark.parametrize("workers", [0, 2])
def test_nets_see_from_the_store_what_they_see_from_the_folder(tree, prepared, workers):
    folder, store = of_folder(tree), of_store(prepared, f"data.workers={workers}")
    assert store.images("train", store.training, batched=True).plan.before is None
    assert folder.images("train", folder.training, batched=True).plan.before is not None
    for ours, theirs in zip(batches(store, store.train_dataloader()), batches(folder, folder.train_dataloader())):
        assert ours[1].equal(theirs[1])
        assert ours[2].equal(theirs[2])
        assert len(ours[0]) == len(theirs[0]) == 2  # each of two nets its own crops
        assert not torch.equal(*theirs[0])
        assert all(torch.allclose(x, y, atol=2e-6) for x, y in zip(ours[0], theirs[0]))
    read = [x.clone() for batch in store.train_dataloader() for x in store.on_after_batch_transfer(batch, 0)[0][1]]
    for ours, theirs in zip(read, one_by_one(folder, 1), strict=True):
        assert torch.allclose(ours, theirs, atol=2e-6)
    (ours,), (theirs,) = batches(store, store.val_dataloader()), batches(folder, folder.val_dataloader())
    assert torch.allclose(ours[0], theirs[0], atol=2e-6)
    measured = torch.stack([store.measured[k][0] for k in range(6)])
    assert torch.equal(measured, torch.stack([folder.measured[k][0] for k in range(6)]))
    assert store.measured.manifest() != folder.measured.manifest()


def test_transforms_that_are_no_crops_are_applied_as_they_are(prepared):
    store = of_store(prepared, "data.augment=[{_target_: torchvision.transforms.v2.RandomResizedCrop, size: 48}]")
    images = store.images("train", store.training, batched=True)
    assert images.plan is None
    assert images[Draw(0, (1,))][0].shape == (3, 48, 48)


def test_the_mean_image_is_subtracted_where_it_is_cropped(tree, prepared):
    store = Store(str(prepared / "train"))
    mean = np.load(prepared / MEAN)
    assert np.allclose(mean, store.pixels[:].mean(0), atol=1e-3)
    less = f"{{_target_: convergent.data.store.SubtractMean, file: {prepared / MEAN}}}"
    crop = "{_target_: torchvision.transforms.v2.RandomCrop, size: 48}"
    flip = "{_target_: torchvision.transforms.v2.RandomHorizontalFlip}"
    data = of_store(prepared, f"data.augment=[{less},{crop},{flip}]")
    images = data.images("train", data.training, batched=True)
    draws = [Draw(k, (k,)) for k in range(12)]
    x = data.on_after_batch_transfer(list(images.__getitems__(draws)), 0)[0]
    one_by_one = torch.stack([data.normalise(images[draw][0]) for draw in draws])
    assert torch.allclose(x, one_by_one, atol=1e-5)
    assert abs(x.mean()) > 0.1  # of less than all images and normalised further


def test_what_a_gpu_does_to_a_batch_is_what_the_processor_does(prepared, monkeypatch):
    data = of_store(prepared)
    data.finish.mean_image = lambda: SubtractMean(str(prepared / MEAN)).mean
    (x, *_), *_ = list(data.train_dataloader())
    for crops in x:
        there = data.finish.together(crops)
        assert torch.allclose(there, data.finish(crops), atol=1e-6)


def test_a_store_is_made_once(tree, prepared, command):
    before = (prepared / "train" / "pixels.u8").stat()
    code, out, _ = command("prepare", f"data.folder={tree}", f"store={prepared}", *SIZE)
    assert code == 0
    assert out.count("prepared already") == 2
    code, _, err = command("prepare", f"data.folder={tree}", f"store={prepared}", *SIZE, "keep_shape=true")
    assert code == 1
    assert "replace it with force=true" in err
    assert (prepared / "train" / "pixels.u8").stat() == before


def test_a_stopped_preparation_goes_on_and_ends_the_same(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("convergent.data.writing.CHUNK", 16)
    pictures = [(torch.full((3, 8, 8), k % 251, dtype=torch.uint8), k % 7) for k in range(100)]

    def writing(store):
        return Writing(pictures, torch.clone, tmp_path / store, "train", "it", 8, 3, True, False)

    for store in ("one", "two"):
        (tmp_path / store).mkdir()
    writing("one").run(0)
    stopped = writing("two")
    monkeypatch.setattr(stopped, "dataset", Stops(pictures, 50))
    with pytest.raises(KeyboardInterrupt):
        stopped.run(0)
    assert not (tmp_path / "two" / "train").exists()
    capsys.readouterr()
    again = writing("two")
    again.run(0)
    assert "going on after 48 images" in capsys.readouterr().out
    for name in ("train/pixels.u8", "train/targets.npy", "mean.npy"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert [path.name for path in (tmp_path / "two").iterdir() if "partial" in path.name] == []
    store = Store(str(tmp_path / "two" / "train"))
    assert [int(store[k][0].float().mean()) for k in (0, 50, 99)] == [0, 50, 99]


class Stops(list):
    """A data set whose user presses Ctrl-C at one of the pictures."""

    def __init__(self, pictures, at):
        super().__init__(pictures)
        self.at = at

    def __getitem__(self, image):
        if image == self.at:
            raise KeyboardInterrupt
        return super().__getitem__(image)

    def content(self):
        return content_of(list(self))


def test_broken_images_are_named_or_left_out(tmp_path, command):
    tree = imagenet_tree(tmp_path / "ilsvrc", size=(100, 80))
    broken = tree / "train" / WNIDS[0] / f"{WNIDS[0]}_1.JPEG"
    broken.write_bytes(broken.read_bytes()[:300])
    what = ("prepare", f"data.folder={tree}", f"store={tmp_path}/store", *SIZE)
    code, _, err = command(*what)
    assert code == 1
    assert f"{broken} cannot be read" in err
    assert not (tmp_path / "store" / "train").exists()
    code, out, _ = command(*what, "data.skip_corrupt=true")
    assert code == 0
    assert "train: 12 images, 1 unreadable in" in out
    data = of_store(tmp_path / "store", "data.skip_corrupt=true")
    assert sum(len(batch[1]) for batch in data.train_dataloader()) == 11
    assert data.skipped() == 1
    assert np.load(tmp_path / "store" / MEAN).max() > 20


def test_whatever_is_wrong_with_a_file_is_reported_or_left_out(tmp_path, command):
    folder = classes(tmp_path / "pictures", train="a b", val="a b")
    for name, save in BAD.items():
        save(folder / "train" / "a" / f"x-{name}")
    DEEP["16.png"](folder / "val" / "a" / "16.png")
    what = ("prepare", "data=folder", f"data.folder={folder}", f"store={tmp_path}/store", *SIZE, "data.classes=2")
    code, _, err = command(*what)
    assert (code, err.count("\n")) == (1, 1)
    assert "cannot be read" in err
    code, out, err = command(*what, "data.skip_corrupt=true")
    assert code == 0, err
    assert f"train: {2 + len(BAD)} images, {len(BAD)} unreadable in" in out
    deep = Store(str(tmp_path / "store" / "val")).pixels[0]
    assert len(np.unique(deep)) > 60  # a ramp of 16 bits, scaled to 8


def test_splits_of_other_classes_are_not_prepared(tmp_path, command):
    folder = classes(tmp_path / "pictures", train="a b", val="a c")
    what = ("data=folder", f"data.folder={folder}", f"store={tmp_path}/store", *SIZE, "data.classes=2")
    code, _, err = command("prepare", *what)
    assert code == 1
    assert "train and val need the same classes, but b of train is missing from val" in err
    assert not list(tmp_path.rglob("pixels.u8"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["partial=false"], "train has 12 images, but ILSVRC-2012 has 1,281,167"),
        (["data.folder=/nowhere"], "No images for train"),
    ],
)
def test_what_cannot_be_prepared_is_reported_first(tree, tmp_path, command, overrides, message):
    code, _, err = command("prepare", f"data.folder={tree}", f"store={tmp_path}/store", *SIZE, *overrides)
    assert code == 1
    assert message in err
    assert err.count("\n") == 1


def test_a_disk_that_is_too_small_is_reported_first(tree, tmp_path, command, monkeypatch):
    import shutil

    space = shutil.disk_usage(tmp_path)._replace(free=100_000)
    monkeypatch.setattr("convergent.data.writing.shutil.disk_usage", lambda _: space)
    code, _, err = command("prepare", f"data.folder={tree}", f"store={tmp_path}/store", *SIZE)
    assert code == 1
    assert "has 0.0 GB free; choose another store= or a smaller size=" in err


def test_a_store_that_is_cut_or_not_there_is_reported(prepared, command, tmp_path):
    with pytest.raises(InputError, match=r"no complete store; make it with: python src/prepare\.py"):
        of_store(tmp_path / "none").check()
    pixels = prepared / "train" / "pixels.u8"
    pixels.write_bytes(pixels.read_bytes()[:-5])
    with pytest.raises(InputError, match="bytes instead of"):
        of_store(prepared).check()


@pytest.mark.parametrize("name", ["about.json", "targets.npy", "readable.npy"])
@pytest.mark.parametrize("damage", [b"", b"{}", b"\x93NUMPY\x01\0\xff"])
def test_a_damaged_store_is_reported(prepared, name, damage):
    (prepared / "train" / name).write_bytes(damage)
    with pytest.raises(InputError, match=r"train is damaged.*prepare it again"):
        of_store(prepared).check()


def test_a_damaged_mean_image_is_reported(tmp_path):
    (tmp_path / MEAN).write_bytes(b"no array")
    with pytest.raises(InputError, match=r"mean.npy cannot be read .*; make it with"):
        SubtractMean(str(tmp_path / MEAN)).mean  # noqa: B018


def test_a_store_knows_its_classes(prepared):
    assert Store(str(prepared / "val")).classes == WNIDS
    with pytest.raises(InputError, match=r"train has 3 classes instead of 12; set data\.classes=3"):
        of_store(prepared, "data.classes=12").check()


def test_only_the_mean_image(tree, tmp_path, command):
    what = ("prepare", f"data.folder={tree}", f"store={tmp_path}/store", *SIZE, "pixels=false")
    assert command(*what)[0] == 0
    assert [path.name for path in sorted((tmp_path / "store").iterdir())] == ["lock", MEAN]
    assert command(*what)[0] == 0


def test_about_says_what_is_in_it(prepared):
    about = json.loads((prepared / "val" / "about.json").read_text())
    assert about["shape"] == [6, 3, 64, 64]
    assert CHUNK % 2 == 0


def test_the_papers_experiment_runs_on_a_small_tree(tree, tmp_path, command):
    root = f"root={tmp_path}"
    assert command("prepare", f"data.folder={tree}", root, "processes=0", "partial=true", "data.classes=3")[0] == 0
    small = (
        "data.classes=3",
        "data.batch_size=6",
        "data.workers=0",
        "epochs=1",
        "+net.module.width=0.05",
        "logger=csv",
    )
    code, out, err = command("train", "experiment=paper", "seeds=[0,1]", *small, root)
    assert code == 0, err
    assert out.count(": val/acc_top1") == 2
    few = ("layers=[conv1]", "evaluation.nulls=[]", "figure=[]", "logger=csv")
    code, _, err = command("align", "experiment=paper", *few, root)
    assert code == 0, err
    folder = tmp_path / "outputs" / "align" / "paper" / "matching,layers=[conv1],nulls=[]"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["images"] == 6
    assert summary["pairs"][0]["samples"] == 6 * 55 * 55
