"""How often 95% intervals cover the truth: `python tests/simulations/intervals.py` writes the table of docs/intervals.md.

Axes: `k` blocks of images, `n` samples, `r` repetitions, `i` and `j` nets.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2] / "src"))

from convergent.analysis.intervals import jackknife, over_nets
from convergent.core.moments import Moments
from convergent.core.pairs import Pair

BLOCKS, IMAGES, R = 20, 8, 0.5  # images of a block; the correlation whose interval is found
TOGETHER = 50  # pairs of units that share a pair of nets

# How the samples are dealt to the blocks: multiples of the smallest number of positions of an image.
SIZES = {
    "equal": torch.ones(BLOCKS),
    "1 : 2 : ... : 20": torch.arange(1.0, BLOCKS + 1),
    "each 0.85 of the one before": 0.85 ** -torch.arange(BLOCKS),
    "one holds a third": torch.cat([torch.ones(BLOCKS - 1), torch.tensor([(BLOCKS - 1) / 2])]),
}

# Shares of each net, of which a pair has the mean: a beta distribution's two numbers, and the units that are counted in
# each direction of a pair (0: the shares themselves, without noise).
SHARES = {
    "half, 50%": (5.0, 5.0, 0),
    "skewed, 20%": (2.0, 8.0, 0),
    "skewed, 10%": (1.0, 9.0, 0),
    "skewed, 3%": (1.0, 30.0, 0),
    "3% of 32 units": (1.0, 30.0, 32),
    "1% of 128 units": (1.0, 99.0, 128),
    "1% of 32 units": (1.0, 99.0, 32),
    "half a % of 128 units": (1.0, 199.0, 128),
}


def over_images(sizes: Tensor, dependence: float, repeats: int, seed: int = 0) -> float:
    """Coverage of the jackknife for the correlation of two units, on images with unequal numbers of positions.

    Args:
        sizes: of the blocks, relative, shape (k,).
        dependence: share of variance that the positions of one image have in common.
        repeats: pairs of units.
        seed: of the draws.
    """
    if repeats > TOGETHER:  # a pair's moments grow with the square of its units
        parts = [over_images(sizes, dependence, TOGETHER, seed + part) for part in range(repeats // TOGETHER)]
        return sum(parts) / len(parts)
    generator = torch.Generator().manual_seed(seed)
    blocks = []
    for size in sizes.tolist():
        positions = max(1, round(4 * size))
        image, own = (torch.randn(2, IMAGES, n, repeats, generator=generator) for n in (1, positions))
        noise = (dependence**0.5 * image + (1 - dependence) ** 0.5 * own).double().flatten(1, 2)
        blocks.append(Moments.of(torch.cat([noise[0], R * noise[0] + (1 - R**2) ** 0.5 * noise[1]], 1)))
    pair = Pair(Moments.stack(blocks), slice(0, repeats), slice(repeats, 2 * repeats))
    interval = jackknife(lambda each: torch.atanh(each.corr_ab.diagonal()), pair)
    return covered(interval.low, interval.high, torch.atanh(torch.tensor(R)).double())


def over_seeds(
    nets: int, shares: tuple[float, float, int], repeats: int, bounds: tuple[float, float] | None, seed: int = 0
) -> tuple[float, float]:
    """Coverage of the interval over nets for the mean of a share, each net with a share of its own; and its median width.

    Tables of zeros, of which there is no interval, are left out.
    """
    *numbers, units = shares
    gamma_x = [_gamma(number, (repeats, nets), seed + side) for side, number in enumerate(numbers)]
    share_ri = gamma_x[0] / (gamma_x[0] + gamma_x[1])
    share_rij = (share_ri[:, :, None] + share_ri[:, None]) / 2
    if units:
        generator = torch.Generator().manual_seed(seed + 2)
        share_rij = torch.binomial(torch.full_like(share_rij, units), share_rij, generator=generator) / units
    intervals = [over_nets(share_ij, bounds=bounds) for share_ij in share_rij if share_ij.fill_diagonal_(0).any()]
    low, high = (torch.stack([getattr(each, end) for each in intervals]) for end in ("low", "high"))
    return covered(low, high, torch.tensor(numbers[0] / sum(numbers)).double()), float((high - low).median())


def covered(low: Tensor, high: Tensor, truth: Tensor) -> float:
    """Share of intervals that hold the truth."""
    return float(((low <= truth) & (truth <= high)).double().mean())


def rows(scale: int = 1) -> Iterator[str]:
    """The tables of docs/intervals.md, with `scale` times as many repetitions as the tests have."""
    yield "| blocks of images | positions of an image independent | 50% of the variance in common | 90% |"
    yield "|---|---:|---:|---:|"
    for name, sizes in SIZES.items():
        shares = [over_images(sizes, dependence, 300 * scale) for dependence in (0.0, 0.5, 0.9)]
        yield f"| {name} | " + " | ".join(f"{share:.1%}" for share in shares) + " |"
    yield ""
    yield "| shares of nets | 4 nets, by t | Wilson's | its median width | 8 nets, by t | Wilson's | its median width |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for name, numbers in SHARES.items():
        cells = []
        for nets in (4, 8):
            (by_t, _), (bounded, width) = (
                over_seeds(nets, numbers, 1000 * scale, bounds) for bounds in (None, (0.0, 1.0))
            )
            cells += [f"{by_t:.1%}", f"{bounded:.1%}", f"{width:.1%}"]
        yield f"| {name} | " + " | ".join(cells) + " |"


def write(page: str, table: Iterator[str]) -> None:
    """Put a table between the marks of a page of docs/."""
    path = Path(__file__).parents[2] / "docs" / page
    head, _, rest = path.read_text().partition("<!-- simulated -->\n")
    _, _, tail = rest.partition("<!-- end -->\n")
    path.write_text(f"{head}<!-- simulated -->\n" + "\n".join(table) + f"\n<!-- end -->\n{tail}")


def _gamma(number: float, shape: tuple[int, int], seed: int) -> Tensor:
    """Gamma variables from a generator of their own, which torch's distributions do not take."""
    generator = torch.Generator().manual_seed(seed)
    return torch._standard_gamma(torch.full(shape, number).double(), generator=generator)


if __name__ == "__main__":
    write("intervals.md", rows(scale=4))
