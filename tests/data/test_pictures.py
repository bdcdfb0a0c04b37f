"""Picture files of every depth, and such as no program should be sent: read as they are meant, or refused by name."""

import os
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from convergent.cli.train import build_data
from convergent.data.folder import PictureFolder
from convergent.data.opening import eight_bits, opened
from convergent.errors import InputError
from data.test_images import configured, picture_folder

RAMP = np.arange(65_536).reshape(256, 256)


def folder_data(folder, *overrides):
    whole = ("{_target_: torchvision.transforms.v2.Identity}",)
    prepare = f"data.prepare=[{whole[0]}]"
    return build_data(
        configured("data=folder", f"data.folder={folder}", "data.classes=2", "data.workers=0", prepare, *overrides)
    )


def one_picture(tmp_path, name, save):
    """A data folder whose first validation picture is written by `save(path)`."""
    folder = picture_folder(tmp_path / "pictures", per_class=2, size=(256, 256))
    save(folder / "val" / "n01" / f"a-{name}")
    return folder


def png(path, colour, depth, rows):
    """A PNG file of raw rows, as PIL writes none."""
    height, width = rows.shape[:2]

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    )


DEEP = {
    "16.png": lambda path: Image.fromarray(RAMP.astype(np.uint16)).save(path),
    "16.tif": lambda path: Image.fromarray(RAMP.astype(np.uint16)).save(path),
    "16B.tif": lambda path: Image.frombytes("I;16B", (256, 256), RAMP.astype(">u2").tobytes()).save(path),
    "16.pgm": lambda path: path.write_bytes(b"P5 256 256 65535\n" + RAMP.astype(">u2").tobytes()),
    "16rgb.png": lambda path: png(path, 2, 16, np.repeat(RAMP[:, :, None], 3, 2).astype(">u2")),
    "16la.png": lambda path: png(path, 4, 16, np.stack([RAMP, np.full_like(RAMP, 65_535)], 2).astype(">u2")),
}


@pytest.mark.parametrize("name", DEEP)
def test_16_bits_are_scaled_to_8(tmp_path, name):
    data = folder_data(one_picture(tmp_path, name, DEEP[name]))
    x = next(iter(data.val_dataloader()))[0][0]
    assert x.shape == (3, 256, 256)
    assert len(x.unique()) == 256
    assert (x[0].double() - torch.from_numpy(RAMP / 257)).abs().max() <= 1  # some decoders keep the upper byte


@pytest.mark.parametrize(("mode", "kind"), [("I", "integers of 32 bits"), ("F", "floats")])
def test_integers_and_floats_need_a_range(tmp_path, mode, kind):
    values = np.linspace(-1000, 3095, 65_536).reshape(256, 256)
    picture = Image.fromarray(values.astype(np.int32 if mode == "I" else np.float32))
    folder = one_picture(tmp_path, "ct.tif", picture.save)
    with pytest.raises(
        InputError, match=rf"a-ct.tif cannot be read \(its pixels are {kind}: say with data.value_range"
    ):
        list(folder_data(folder).val_dataloader())
    data = folder_data(folder, "data.skip_corrupt=true")
    assert [len(x) for x, *_ in data.val_dataloader()] == [4]
    assert data.skipped() == 1
    x = folder_data(folder, "data.value_range=[-1000,3095]").images("val")[0][0]
    assert len(x.unique()) == 256 * 3  # each channel is normalised in its way
    x = folder_data(folder, "data.value_range=[0,100]").images("val")[0][0][0]
    assert (x == x.min()).float().mean() == pytest.approx(1000 / 4095, abs=0.001)  # what is below the range is black
    with pytest.raises(InputError, match=r"data.value_range needs to be .*, not \[5, 5\]"):
        folder_data(folder, "data.value_range=[5,5]")


def test_values_that_are_not_finite_are_no_picture():
    with pytest.raises(ValueError, match="not finite"):
        eight_bits(Image.fromarray(np.full((2, 2), np.nan, np.float32)), [0, 1])
    for mode in ("L", "RGB"):
        picture = Image.new(mode, (2, 2))
        assert eight_bits(picture) is picture


def test_16_bits_of_other_data_sets_are_scaled_too():
    from convergent.data.pictures import Images
    from convergent.data.preparation import decoded

    pictures = [(Image.fromarray(RAMP.astype(np.uint16)), 0)]
    assert len(Images(pictures, decoded(1, []))[0][0].unique()) == 256


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "YCbCr"])
def test_pictures_of_8_bits_are_read_as_before(tmp_path, mode):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(file := tmp_path / f"it.{'jpg' if mode in ('CMYK', 'YCbCr') else 'png'}")
    assert np.array_equal(opened(str(file)).convert("RGB"), Image.open(file).convert("RGB"))


def text_bomb(path):
    info = PngInfo()
    info.add_text("a", "b" * 2_000_000, zip=True)
    Image.new("RGB", (256, 256)).save(path, pnginfo=info)


BAD = {
    "bomb.png": lambda path: png(path, 0, 1, np.zeros((16_000, 2_000), np.uint8)) or widen(path, 16_000),
    "text.png": text_bomb,
    "dangling.png": lambda path: path.symlink_to("nowhere.png"),
    "circle.png": lambda path: path.symlink_to(path.name),
    "fifo.png": os.mkfifo,
    "device.png": lambda path: path.symlink_to("/dev/zero"),
    "empty.png": lambda path: path.touch(),
    "words.jpg": lambda path: path.write_text("no picture"),
    "cut.jpg": lambda path: path.write_bytes(jpeg()[:900]),
    "cut.png": lambda path: Image.effect_noise((256, 256), 50).save(path) or os.truncate(path, 5_000),
    "postscript.png": lambda path: Image.new("RGB", (256, 256)).save(path, "EPS"),
    "line\nbreak.png": lambda path: path.touch(),
    os.fsdecode(b"latin-\xe9.png"): lambda path: path.touch(),
}


def widen(path, width):
    """Give a PNG of bits its true width: eight pixels a byte."""
    content = bytearray(path.read_bytes())
    content[16:20] = struct.pack(">I", width)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)


def jpeg():
    import io

    Image.effect_noise((256, 256), 50).save(stream := io.BytesIO(), "JPEG")
    return stream.getvalue()


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_read_is_reported_in_one_sentence_or_skipped(tmp_path, name):
    folder = one_picture(tmp_path, name, BAD[name])
    with pytest.raises(InputError, match=r"a-.* cannot be read \(.*\); mend or remove it") as refused:
        list(folder_data(folder).val_dataloader())
    assert str(refused.value).isprintable()
    data = folder_data(folder, "data.skip_corrupt=true")
    assert [len(x) for x, *_ in data.val_dataloader()] == [4]
    assert data.skipped() == 1


def test_a_name_that_is_no_utf_8_is_as_good_as_any(tmp_path):
    name = os.fsdecode(b"latin-\xe9.png")
    folder = one_picture(tmp_path, name, Image.new("RGB", (256, 256)).save)
    assert [len(x) for x, *_ in folder_data(folder).val_dataloader()] == [5]
    (folder / "val" / "n01" / f"a-{name}").unlink()
    (folder / "train" / "n02").rename(folder / "train" / name)
    with pytest.raises(InputError, match=r"latin-\\udce9.png of train is missing from val") as refused:
        folder_data(folder).check()
    str(refused.value).encode()


def test_pictures_of_several_sizes_are_reported(tmp_path):
    folder = one_picture(tmp_path, "small.png", Image.new("RGB", (20, 10)).save)
    with pytest.raises(
        InputError, match=r"several sizes \(.*a-small.png of 3 x 10 x 20 and .*n01_0.JPEG of 3 x 256 x 256"
    ):
        list(folder_data(folder).val_dataloader())


def classes(root, **of_split):
    for split, names in of_split.items():
        for name in names.split():
            (root / split / name).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(root / split / name / "it.png")
    return root


@pytest.mark.parametrize(
    ("train", "val", "number", "message"),
    [
        ("a b c", "a c", 3, "val has 2 classes instead of 3; set data.classes=2, or mend data.folder"),
        ("a b c", "a c d", 3, "need the same classes, but b of train is missing from val"),
        ("a b", "a b", 12, "train has 2 classes instead of 12; set data.classes=2"),
    ],
)
def test_class_folders_have_to_be_those_of_the_other_split_and_as_many_as_configured(
    tmp_path, train, val, number, message
):
    folder = classes(tmp_path, train=train, val=val)
    with pytest.raises(InputError, match=message):
        folder_data(folder, f"data.classes={number}").check()


def test_class_folders_without_pictures_are_reported(tmp_path):
    folder = classes(tmp_path, train="a b", val="a b")
    (folder / "val" / "b" / "it.png").unlink()
    with pytest.raises(InputError, match=r"val/b holds no picture .*; fill or remove this class folder"):
        folder_data(folder).check()
    (folder / "bare").mkdir()
    with pytest.raises(InputError, match="bare has no class folders"):
        PictureFolder(str(folder / "bare"))


def test_a_link_back_to_a_folder_around_it_is_reported_and_other_links_are_followed(tmp_path):
    folder = classes(tmp_path, train="a b", val="a b")
    (folder / "val" / "b" / "more").symlink_to(folder / "train" / "b")
    assert len(PictureFolder(str(folder / "val"))) == 3
    (folder / "val" / "b" / "loop").symlink_to(folder)
    with pytest.raises(InputError, match="loop/val/b is a link to a folder that it lies in itself"):
        PictureFolder(str(folder / "val"))


def test_pictures_are_numbered_as_torchvision_numbers_them(tmp_path):
    from torchvision.datasets import ImageFolder

    folder = classes(tmp_path, val="b a c")
    for place in ("a/z.png", "a/deep/b.png", "a/deep-er/c.png", "a/A.PNG", "c/0.png"):
        (folder / "val" / place).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(folder / "val" / place)
    theirs = ImageFolder(str(folder / "val"))
    assert PictureFolder(str(folder / "val")).samples == theirs.samples
    assert PictureFolder(str(folder / "val")).classes == theirs.classes


def test_a_batch_has_memory_of_all_processes_whether_or_not_torch_gives_it_directly(monkeypatch):
    from convergent.data import crops

    monkeypatch.setattr(crops, "get_worker_info", object)  # as in a worker
    assert crops._bytes((2, 3, 4, 5)).is_shared()
    monkeypatch.setattr(torch.UntypedStorage, "_new_shared", None)
    again = crops._bytes((2, 3, 4, 5))
    assert again.is_shared()
    assert again.shape == (2, 3, 4, 5)
    assert again.dtype == torch.uint8
