"""Fractals: the same from the same seed, of any size, rendered once; classes differ more than their pictures do."""

import numpy as np
import pytest

from convergent.data.fractals import Fractals, pictures, system


def test_a_seed_gives_the_same_pictures_and_another_seed_others(tmp_path):
    one, again, other = (
        Fractals(str(tmp_path / name), "train", 3, 8, 16, seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert one.shape == (24, 3, 18, 18)
    assert np.array_equal(one.pixels, again.pixels)
    assert not np.array_equal(one.pixels, other.pixels)
    assert np.bincount(one.targets).tolist() == [8, 8, 8]
    val = Fractals(str(tmp_path / "a"), "val", 3, 8, 16)
    assert len(val) == 6
    assert not any(np.array_equal(val.pixels[0], picture) for picture in one.pixels)


def test_they_are_rendered_once(tmp_path):
    place = Fractals(str(tmp_path), "val", 2, 4, 16).folder
    before = (place / "pixels.u8").stat().st_mtime_ns
    Fractals(str(tmp_path), "val", 2, 4, 16)
    assert (place / "pixels.u8").stat().st_mtime_ns == before
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


@pytest.mark.parametrize("size", [24, 72])
def test_pictures_have_contrast_and_fill_the_frame(size):
    systems = [system(np.random.default_rng(number)) for number in range(20)]
    made = pictures(systems, size, np.random.default_rng(0))
    assert made.shape == (20, 3, size, size)
    ink = np.abs(made.astype(float) - made[:, :, :1, :1]).mean(1) > 25
    share = ink.mean((1, 2))
    assert np.median(share) > 0.08
    assert share.max() < 0.9
    height = ink.any(2).sum(1) / size
    assert np.median(height) > 0.6


def test_a_class_looks_more_like_itself_than_like_others():
    systems = [system(np.random.default_rng(number)) for number in range(12)]

    def shapes(seed):
        made = pictures(systems, 32, np.random.default_rng(seed)).astype(float)
        ink = np.abs(made - np.median(made, (2, 3), keepdims=True)).mean(1)
        smooth = ink.reshape(12, 8, 4, 8, 4).mean((2, 4)).reshape(12, -1)
        return smooth / np.linalg.norm(smooth, axis=1, keepdims=True)

    alike = np.mean([shapes(seed) @ shapes(seed + 1).T for seed in range(0, 8, 2)], 0)
    assert np.mean(np.diag(alike)) > np.mean(alike[~np.eye(12, dtype=bool)]) + 0.1


def test_maps_contract():
    for number in range(50):
        one = system(np.random.default_rng(number))
        assert 2 <= len(one.offset_mi) <= 6
        assert np.abs(one.stretch_mi).max() < 1
