import torch

from convergent.figures.contact_sheets import mosaic
from convergent.report.sprites import Sprites, montage
from convergent.streaming.patches import GREY, TILE, Patches, cropped, cut, load_patches, save_patches
from convergent.streaming.receptive_fields import Span
from convergent.streaming.top_images import TopImages


def test_a_crop_is_the_padded_picture_s():
    picture = torch.randint(256, (3, 9, 7), dtype=torch.uint8)
    padded = torch.full((3, 29, 27), GREY, dtype=torch.uint8)
    padded[:, 10:19, 10:17] = picture
    for rows, columns in [(range(-4, 3), range(2, 5)), (range(5, 14), range(-3, 12)), (range(-9, -2), range(0, 3))]:
        expected = padded[:, rows.start + 10 : rows.stop + 10, columns.start + 10 : columns.stop + 10]
        assert torch.equal(cropped(picture, (rows, columns)).permute(2, 0, 1), expected)


def test_a_large_crop_is_shrunk_evenly():
    picture = torch.full((1, 300, 200), 77, dtype=torch.uint8)
    tile = cropped(picture, None)
    assert tile.shape == (TILE, round(200 * TILE / 300), 1)
    assert (tile == 77).all()


def made(c=5, k=9, side=4):
    top = TopImages(torch.rand(c, k) + 1, torch.randint(12, (c, k)), torch.randint(25, (c, k)))
    return Patches(top, (Span(-1, 2, side), Span(0, 1, side)), 5, torch.empty(0, dtype=torch.uint8))


def test_tiles_are_cut_where_the_unit_was_excited():
    patches, pictures = made(), torch.randint(256, (12, 1, 10, 8), dtype=torch.uint8)
    patches.top.activation_ck[2, 3] = 0  # silent
    patches.top.image_ck[4, 8] = -1  # fewer images than places

    def read(images):
        assert images == sorted(set(images))  # each image once
        for image in images:
            if image != 7:  # cannot be read
                yield image, {"net": pictures[image]}

    tiles = cut({"net": patches}, read)["net"].tile_ckhwd
    assert tiles.shape == (5, 9, 4, 4, 1)
    for unit in range(5):
        for rank in range(9):
            image = int(patches.top.image_ck[unit, rank])
            row, column = divmod(int(patches.top.position_ck[unit, rank]), 5)
            box = range(-1 + 2 * row, 3 + 2 * row), range(column, column + 4)
            blank = image in (7, -1) or (unit, rank) == (2, 3)
            expected = torch.full((4, 4, 1), GREY) if blank else cropped(pictures[image], box)
            assert torch.equal(tiles[unit, rank], expected.to(torch.uint8))


def test_patches_come_back_from_their_file(tmp_path):
    cut_out = cut(
        {"a/seed=0": made(), "b": made()},
        lambda images: ((i, dict.fromkeys(["a/seed=0", "b"], torch.zeros(3, 9, 9).byte())) for i in images),
    )
    save_patches(cut_out, tmp_path / "x.safetensors")
    back = load_patches(tmp_path / "x.safetensors")
    assert list(back) == list(cut_out)
    for name, patches in cut_out.items():
        assert (back[name].field, back[name].across) == (patches.field, patches.across)
        assert torch.equal(back[name].tile_ckhwd, patches.tile_ckhwd)
        assert torch.equal(back[name].top.image_ck, patches.top.image_ck)


def test_a_sprite_page_holds_each_tile_in_its_place():
    tiles = torch.randint(256, (7, 9, 4, 5, 3), dtype=torch.uint8)
    sheet = montage(tiles, across=3)
    for unit in range(7):
        for k in range(9):
            row, column = (unit // 3) * 3 + k // 3, (unit % 3) * 3 + k % 3
            assert torch.equal(sheet[row * 4 : row * 4 + 4, column * 5 : column * 5 + 5], tiles[unit, k])


def test_more_pictures_are_smaller():
    assert Sprites(100, 30e6).side == TILE
    few, many = Sprites(50_000, 30e6), Sprites(500_000, 30e6)
    assert TILE > few.side > many.side
    patches = Patches(made().top, None, 1, torch.randint(256, (5, 9, 64, 48, 3), dtype=torch.uint8))
    pages, about = few.of(patches)
    assert (about["height"], about["width"]) == (few.side, round(few.side * 0.75))
    assert len(pages) == 1


def test_a_mosaic_shows_patches_in_rows_of_three_and_blanks_silent_ones():
    patches = Patches(made(1, 9, 30).top, None, 1, torch.full((1, 9, 30, 30, 3), 7, dtype=torch.uint8))
    patches.top.activation_ck[0, 8] = 0
    sheet = mosaic(patches, 0)
    assert sheet.shape == (98, 98, 3)
    assert (sheet[2:32, 2:32] == 7).all()
    assert not (sheet[[0, 32, 33, 97]] == 7).any()
    assert (sheet[66:96, 66:96] > 200).all()
