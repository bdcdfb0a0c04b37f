"""How units with planted codes are classified: `python tests/simulations/codes.py` writes the tables of docs/codes.md.

Axes: `n` samples, `a` units of net a, `b` units of net b.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[2] / "src"), str(Path(__file__).parents[1])]

from convergent.analysis.codes import FewToOne
from convergent.analysis.gains import CODES
from convergent.core.pairs import Pair
from simulations.intervals import write

UNITS, BLOCKS = 48, 20

# Units of a that each unit of b is the sum of, and the share of its variance that they make: the rest is noise of its own.
PLANTED = {
    "nothing in common": (0, 0.0),
    "one unit, R² = 0.5": (1, 0.5),
    "one unit, weak: R² = 0.1": (1, 0.1),
    "three units, R² = 0.5": (3, 0.5),
    "eight units, R² = 0.5": (8, 0.5),
    "eight units, weak: R² = 0.2": (8, 0.2),
    "thirty units, R² = 0.5": (30, 0.5),
    "thirty units, weak: R² = 0.1": (30, 0.1),
}


def pair_of(units: int, r2: float, samples: int, firing: float | None, seed: int) -> Pair:
    """Two nets; each unit of b sums up some units of a, all alike, beside noise of the same kind.

    Args:
        units: of a that a unit of b is made of.
        r2: share of its variance.
        samples: independent images.
        firing: rectified normal units that fire in this share of the images; normal ones if None.
        seed: of the draws.
    """
    generator = torch.Generator().manual_seed(seed)
    x_na, noise_nb = (_units(samples, firing, generator) for _ in range(2))
    chosen_bi = torch.rand(UNITS, UNITS, generator=generator).argsort(1)[:, :units]
    map_ab = torch.zeros(UNITS, UNITS).double().scatter_(0, chosen_bi.T, max(units, 1) ** -0.5)
    return Pair.of(x_na, r2**0.5 * x_na @ map_ab + (1 - r2) ** 0.5 * noise_nb, blocks=BLOCKS)


def shares(planted: str, samples: int, firing: float | None = None, repeats: int = 1) -> dict[str, float]:
    """Shares of units by the code that they are found to have."""
    every = torch.ones(UNITS, dtype=torch.bool)
    codes = [FewToOne.of(pair_of(*PLANTED[planted], samples, firing, seed), every).codes() for seed in range(repeats)]
    return {code: sum(one[code] for one in codes) / repeats for code in CODES}


def rows(repeats: int = 5) -> Iterator[str]:
    """The tables of docs/codes.md."""
    for title, firing in (("Normal units", None), ("Rectified units that fire in 7% of the images", 0.07)):
        yield f"\n{title}:\n"
        yield "| planted | samples | " + " | ".join(CODES).replace("_", " ") + " |"
        yield "|---|---:|" + "---:|" * len(CODES)
        for planted in PLANTED:
            for samples in (300, 1500, 6000):
                share = shares(planted, samples, firing, repeats)
                cells = " | ".join(f"{share[code]:.0%}" for code in CODES)
                yield f"| {planted} | {samples:,} | {cells} |"


def _units(samples: int, firing: float | None, generator: torch.Generator) -> Tensor:
    x_nu = torch.randn(samples, UNITS, generator=generator).double()
    if firing is not None:
        x_nu = (x_nu - torch.distributions.Normal(0, 1).icdf(torch.tensor(1 - firing))).clamp(min=0)
        x_nu = (x_nu - x_nu.mean()) / x_nu.std()
    return x_nu


if __name__ == "__main__":
    write("codes.md", rows())
