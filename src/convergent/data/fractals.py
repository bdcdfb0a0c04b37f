"""Pictures of fractals: a labelled data set of any size, number of classes and resolution, made here from a seed.

A class is an iterated function system, a few contracting affine maps of the plane; a picture is what the maps leave of a
point that is moved by one of them after another. Pictures of a class differ in angles, offsets, place, size and colours, so
that a net has to tell shapes apart.

Axes: `b` pictures of a chunk, `m` maps, `w` points that walk at the same time, `t` steps.
"""

import json
import shutil
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from filelock import FileLock

from convergent.data.store import ABOUT, PIXELS, READABLE, TARGETS, Store
from convergent.options import TEXT, whole, word

_CHUNK = 64  # pictures that are rendered together, from one random state
_BURN_IN = 20  # steps after which a point is on the fractal
_WALKERS = 256


class System(NamedTuple):
    """An iterated function system: each map turns, stretches by at most one, turns again and moves the plane.

    Angles are in radians, stretches signed singular values, all of shape (m, 2).
    """

    angles_mi: Any
    stretch_mi: Any
    offset_mi: Any


class Fractals(Store):
    """A store of fractals, rendered when it is first asked for: classes x per_class x 3 x size x size bytes.

    Args:
        folder: of all splits.
        split: "train" or "val".
        classes: number of classes.
        per_class: training pictures of each; there are a quarter as many for validation.
        size: height and width of the crops that nets see; pictures are an eighth larger.
        seed: of everything.

    Source: Kataoka et al. 2020, "Pre-training without natural images"; singular values after Anderson, Farrell 2022,
    "Improving fractal pre-training", section 3.
    """

    def __init__(
        self,
        folder: Annotated[str, TEXT],
        split: Annotated[str, word("train", "val")],
        classes: Annotated[int, whole(1)],
        per_class: Annotated[int, whole(1)],
        size: Annotated[int, whole(1)],
        seed: Annotated[int, whole()] = 0,
    ) -> None:
        size, per_class = round(size * 9 / 8), per_class if split == "train" else max(per_class // 4, 1)
        key = f"fractals {split} {classes} {per_class} {size} {seed}"
        place = Path(folder) / f"{split}-{classes}x{per_class}-{size}-{seed}"
        place.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(place.with_suffix(".lock")):  # of several processes one renders, the others wait
            if not (place / ABOUT).exists():
                _render(place, key, split, classes, per_class, size, seed)
        super().__init__(str(place))


def _render(place: Path, key: str, split: str, classes: int, per_class: int, size: int, seed: int) -> None:
    partial = place.with_name(f".{place.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    images = classes * per_class
    targets_n = np.arange(images) % classes
    kinds = [system(np.random.default_rng([seed, 0, number])) for number in range(classes)]
    with (partial / PIXELS).open("wb") as file:
        for first in range(0, images, _CHUNK):
            rng = np.random.default_rng([seed, 1 + ("train", "val").index(split), first])
            file.write(pictures([kinds[target] for target in targets_n[first : first + _CHUNK]], size, rng))
    np.save(partial / TARGETS, targets_n)
    np.save(partial / READABLE, np.ones(images, bool))
    about = {"name": "fractals", "shape": [images, 3, size, size], "key": key}
    (partial / ABOUT).write_text(json.dumps(about))
    partial.replace(place)


def system(rng: np.random.Generator) -> System:
    """A random system of two to six maps whose fractal fills the plane neither too little nor too much."""
    while True:
        maps = int(rng.integers(2, 7))
        high_m = rng.uniform(0.3, 1.0, maps)
        low_m = high_m * rng.uniform(0.0, 1.0, maps)
        wanted = rng.uniform(0.5 * (5 + maps), 0.5 * (6 + maps))  # of the sum of the large and twice the small ones
        scale = wanted / (high_m + 2 * low_m).sum()
        if (high_m * scale).max() < 0.98:
            break
    stretch_mi = np.stack([high_m, low_m], 1) * scale * rng.choice([-1, 1], (maps, 2))
    return System(rng.uniform(-np.pi, np.pi, (maps, 2)), stretch_mi, rng.uniform(-1, 1, (maps, 2)))


def pictures(systems: list[System], size: int, rng: np.random.Generator) -> Any:
    """One picture of each system, bytes (b, 3, size, size)."""
    x_btw, y_btw = _walk(systems, max(100, size * size * 6 // _WALKERS), rng)
    angle_b = rng.uniform(-0.3, 0.3, (len(systems), 1, 1)).astype(np.float32)
    x_btw, y_btw = (
        np.cos(angle_b) * x_btw - np.sin(angle_b) * y_btw,
        np.sin(angle_b) * x_btw + np.cos(angle_b) * y_btw,
    )
    side_b = size * rng.uniform(0.75, 1.0, (len(systems), 1, 1)).astype(np.float32)
    column, row = (_pixel(axis, side_b, size, rng) for axis in (x_btw, y_btw))
    number = np.arange(len(systems))[:, None, None] * size**2 + row * size + column
    count = np.bincount(number.ravel(), minlength=len(systems) * size**2).reshape(-1, 1, size, size)
    share = np.log1p(count) / np.log1p(count.max((2, 3), keepdims=True))
    ground, ink = _colours(len(systems), rng)
    return np.rint(ground + share * (ink - ground)).astype(np.uint8)


def _walk(systems: list[System], steps: int, rng: np.random.Generator) -> tuple[Any, Any]:
    """The places of all points, x and y of shape (b, t, w); the systems' angles and offsets vary from picture to picture."""
    most = max(len(one.offset_mi) for one in systems)
    map_bm6 = np.zeros((len(systems), most, 6), np.float32)
    until_bm = np.ones((len(systems), most), np.float32)
    for b, one in enumerate(systems):
        angles_mi = one.angles_mi + rng.uniform(-0.12, 0.12, one.angles_mi.shape)
        offset_mi = one.offset_mi * rng.uniform(0.85, 1.15, one.offset_mi.shape)
        (c0, c1), (s0, s1), (h, l) = np.cos(angles_mi).T, np.sin(angles_mi).T, one.stretch_mi.T  # noqa: E741
        linear = [
            c0 * h * c1 - s0 * l * s1,
            -c0 * h * s1 - s0 * l * c1,
            s0 * h * c1 + c0 * l * s1,
            -s0 * h * s1 + c0 * l * c1,
        ]
        map_bm6[b, : len(h)] = np.stack([*linear, *offset_mi.T], 1)
        area_m = np.abs(h * l) + 0.02  # the more a map covers, the more often it is taken
        until_bm[b, : len(h)] = np.cumsum(area_m / area_m.sum())
    pictures = np.arange(len(systems))[:, None]
    x, y = np.zeros((2, len(systems), _WALKERS), np.float32)
    places = np.empty((2, len(systems), steps, _WALKERS), np.float32)
    for t in range(-_BURN_IN, steps):
        chance = rng.random((len(systems), _WALKERS), np.float32)
        chosen = (chance[:, :, None] >= until_bm[:, None, :-1]).sum(2)
        a, b, c, d, e, f = np.moveaxis(map_bm6[pictures, chosen], 2, 0)
        x, y = a * x + b * y + e, c * x + d * y + f
        if t >= 0:
            places[:, :, t] = x, y
    return places[0], places[1]


def _pixel(axis_btw: Any, side_b: Any, size: int, rng: np.random.Generator) -> Any:
    low, high = axis_btw.min((1, 2), keepdims=True), axis_btw.max((1, 2), keepdims=True)
    start = rng.uniform(0, 1, side_b.shape).astype(np.float32) * (size - side_b)
    place = start + (axis_btw - low) / np.maximum(high - low, 1e-6) * side_b
    return np.minimum(place.astype(np.int64), size - 1)


def _colours(number: int, rng: np.random.Generator) -> tuple[Any, Any]:
    """A ground and an ink for each picture that differ enough to be told apart, (number, 3, 1, 1) in 0..255."""
    ground = rng.uniform(0, 255, (number, 3, 1, 1))
    ink = rng.uniform(0, 255, (number, 3, 1, 1))
    near = np.abs(ink.mean(1) - ground.mean(1))[:, 0, 0] < 80
    ink[near] = np.where(ground[near].mean(1, keepdims=True) > 127, ink[near] * 0.3, 255 - ink[near] * 0.3)
    return ground, ink
