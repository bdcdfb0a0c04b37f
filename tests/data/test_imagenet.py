"""A small tree in ILSVRC-2012's true layout, with the oddities of the real set."""

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from PIL import Image
from scipy.io import savemat

from conftest import PROJECT
from convergent.cli.train import build_data
from convergent.data.imagenet import DEVKIT, ImageNet, wnids_by_id
from convergent.errors import InputError

# by the kit's own ids, which are in no order that folders have; 1001 is an inner node of WordNet
KIT = {1: "n02119789", 2: "n02100735", 3: "n01440764", 1001: "n02087122"}
WNIDS = sorted(KIT[number] for number in (1, 2, 3))


def imagenet_tree(root, train=4, val=6, size=(300, 260), flat=False):
    """Train and validation images of three classes; picture k of a class has the class's colour."""
    rng = np.random.default_rng(0)

    def save(file, wnid):
        colour = 80 * WNIDS.index(wnid) + 40
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.clip(rng.normal(colour, 10, (size[1], size[0], 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(file, "JPEG", quality=92)

    for wnid in WNIDS:
        for k in range(train):
            save(root / "train" / wnid / f"{wnid}_{k}.JPEG", wnid)
    truth = [1 + k % 3 for k in range(val)]
    for k, number in enumerate(truth):
        name = f"ILSVRC2012_val_{k + 1:08d}.JPEG"
        save(root / "val" / name if flat else root / "val" / KIT[number] / name, KIT[number])
    kit = root / DEVKIT / "data"
    kit.mkdir(parents=True)
    (kit / "ILSVRC2012_validation_ground_truth.txt").write_text("".join(f"{number}\n" for number in truth))
    kind = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    synsets = np.array([(n, wnid, "a, b", int(n > 1000)) for n, wnid in KIT.items()], dtype=kind)
    savemat(kit / "meta.mat", {"synsets": synsets.reshape(-1, 1)})
    return root


def configured(name, *overrides):
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
        return compose(name, list(overrides))


def brightness(dataset):
    return [np.asarray(dataset[k][0]).mean() for k in range(len(dataset))]


@pytest.mark.parametrize("flat", [False, True])
def test_classes_are_numbered_in_the_order_of_their_wnids(tmp_path, flat):
    root = imagenet_tree(tmp_path, flat=flat)
    train, val = (ImageNet(str(root), split, classes=3) for split in ("train", "val"))
    assert train.classes == val.classes == ["n01440764", "n02100735", "n02119789"]
    assert (len(train), len(val)) == (12, 6)
    for dataset in (train, val):  # each picture has its class's colour
        expected = [80 * target + 40 for _, target in dataset.samples]
        assert brightness(dataset) == pytest.approx(expected, abs=3)
    assert np.bincount([target for _, target in val.samples]).tolist() == [2, 2, 2]


def test_the_kits_meta_file_is_read_without_inner_nodes(tmp_path):
    imagenet_tree(tmp_path)
    assert wnids_by_id(tmp_path / DEVKIT / "data" / "meta.mat") == {n: KIT[n] for n in (1, 2, 3)}


def test_oddities_of_the_real_set_are_read(tmp_path, recwarn):
    root = imagenet_tree(tmp_path)
    folder = root / "train" / WNIDS[0]
    picture = Image.new("RGB", (50, 40), (200, 100, 50))
    picture.convert("CMYK").save(folder / "n0.JPEG", "JPEG", quality=95)
    picture.save(folder / "n1.JPEG", "PNG")  # n02105855_2933.JPEG is one
    Image.new("RGBA", (50, 40), (200, 100, 50, 128)).save(folder / "n2.JPEG", "PNG")
    Image.new("L", (50, 40), 117).save(folder / "n3.JPEG", "JPEG")
    exif = b"Exif\x00\x00II*\x00\x08\x00\x00\x00\xff\x00\x01\x01\x03\x00\xff\xff"
    picture.save(folder / "n4.JPEG", "JPEG", exif=exif, quality=95)
    dataset = ImageNet(str(root), "train", classes=3)
    means = {file[-7:-5]: np.asarray(dataset[k][0]).mean((0, 1)) for k, (file, _) in enumerate(dataset.samples)}
    for name in ("n0", "n1", "n2", "n4"):
        assert means[name] == pytest.approx([200, 100, 50], abs=3)
    assert means["n3"] == pytest.approx([117] * 3, abs=1)
    assert not [warning for warning in recwarn if "EXIF" in str(warning.message)]
    config = configured("train", "data=imagenet", f"data.folder={root}", "data.classes=3", "data.workers=0")
    data = build_data(config, order_seed=0, augment_seed=0)
    assert sum(len(batch[0]) for batch in data.train_dataloader()) == 17


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: (root / "val" / "n09999999").mkdir(), "has 4 classes instead of 3"),
        (lambda root: (root / "train" / WNIDS[1]).rename(root / "train" / "dogs"), "dogs is no WordNet id"),
        (lambda root: (root / "train" / WNIDS[1]).rename(root / "train" / "n00000001"), "is no class of .*meta.mat"),
        (lambda root: [f.unlink() for f in (root / "train" / WNIDS[2]).iterdir()], "no image of class n02119789"),
        (lambda root: (root / "train" / WNIDS[1]).rename(root / "train" / "n09"), "n09 is no WordNet id"),
        (lambda root: (root / DEVKIT / "data" / "meta.mat").write_bytes(b"no"), "meta.mat cannot be read"),
    ],
)
def test_a_tree_that_is_not_right_is_reported(tmp_path, damage, message):
    damage(imagenet_tree(tmp_path))
    config = configured("train", "data=imagenet", f"data.folder={tmp_path}", "data.classes=3")
    with pytest.raises(InputError, match=message):
        build_data(config, order_seed=0, augment_seed=0).check()


def test_train_and_val_of_different_classes_are_reported(tmp_path):
    root = imagenet_tree(tmp_path)
    (root / "val" / WNIDS[1]).rename(root / "val" / "n02100736")
    with pytest.raises(InputError, match=r"train and val of .* differ in class n02100735"):
        ImageNet(str(root), "val", classes=3)


def test_flat_validation_images_need_the_kit_and_as_many_truths(tmp_path):
    root = imagenet_tree(tmp_path, flat=True)
    (root / "val" / "ILSVRC2012_val_00000001.JPEG").unlink()
    with pytest.raises(InputError, match=r"tells of 6 images, but .* has 5"):
        ImageNet(str(root), "val", classes=3)
    (root / DEVKIT / "data" / "ILSVRC2012_validation_ground_truth.txt").unlink()
    config = configured("train", "data=imagenet", f"data.folder={root}", "data.classes=3")
    with pytest.raises(InputError, match=r"has no class folders, and .*ground_truth.txt is not there"):
        build_data(config, order_seed=0, augment_seed=0).check()


def test_a_file_that_vanishes_is_reported_by_its_name(tmp_path):
    root = imagenet_tree(tmp_path)
    config = configured("train", "data=imagenet", f"data.folder={root}", "data.classes=3", "data.workers=1")
    data = build_data(config, order_seed=0, augment_seed=0)
    loader = data.val_dataloader()
    (root / "val" / KIT[1] / "ILSVRC2012_val_00000001.JPEG").unlink()
    with pytest.raises(InputError, match=r"val_00000001.JPEG cannot be read \(.*No such file"):
        list(loader)


def test_decoded_pictures_are_those_of_pillow(tmp_path):
    dataset = ImageNet(str(imagenet_tree(tmp_path)), "val", classes=3)
    expected = np.asarray(Image.open(dataset.samples[0][0]).convert("RGB"))
    assert torch.equal(torch.from_numpy(np.array(dataset[0][0])), torch.from_numpy(expected.copy()))
