"""p-values of balanced clusters of nets that have nothing in common: `python tests/simulations/clusters.py` prints a table.

Axes: `n` samples, `u` units of one net.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2] / "src"))

from convergent.analysis.balanced import cluster_rows
from convergent.core.pairs import Pair
from convergent.methods.sparse import SparsePrediction

UNITS, IMAGES, POSITIONS = 24, 600, 4
KINDS = ("normal", "rectified", "positions")


def p_values_of(kind: str, repeats: int) -> Tensor:
    """The p-values of all clusters that independent nets were found to have.

    Args:
        kind: normal units that six latent variables correlate within each net; the same rectified; or units each as alike at
            all positions of an image as it happens, so that their correlations are of unequal noise.
        repeats: pairs of nets.
    """
    p_values: list[float] = []
    for seed in range(repeats):
        generator = torch.Generator().manual_seed(seed)
        x_na, x_nb = (_net(kind, generator) for _ in range(2))
        image_n = torch.arange(IMAGES) // (POSITIONS if kind == "positions" else 1)
        rows = cluster_rows(SparsePrediction(alpha=0.05), Pair.of(x_na, x_nb, image_n))
        p_values.extend(row["p_value"] for row in rows)
    return torch.tensor(p_values)


def _net(kind: str, generator: torch.Generator) -> Tensor:
    if kind == "positions":
        shared_u = torch.rand(UNITS, generator=generator).double()
        image, own = (torch.randn(IMAGES // POSITIONS, n, UNITS, generator=generator).double() for n in (1, POSITIONS))
        return (shared_u.sqrt() * image + (1 - shared_u).sqrt() * own).flatten(0, 1)
    latent_nl, map_lu = torch.randn(IMAGES, 6, generator=generator), torch.randn(6, UNITS, generator=generator)
    x_nu = torch.randn(IMAGES, UNITS, generator=generator) + 0.4 * latent_nl @ map_lu
    return ((x_nu / x_nu.std(0) - 1.2).clamp(min=0) if kind == "rectified" else x_nu).double()


if __name__ == "__main__":
    print("| units | clusters | p below .05 | below .01 | below .5 |\n|---|---:|---:|---:|---:|")
    for kind in KINDS:
        p_c = p_values_of(kind, 500)
        cells = " | ".join(f"{(p_c <= level).double().mean():.1%}" for level in (0.05, 0.01, 0.5))
        print(f"| {kind} | {len(p_c):,} | {cells} |", flush=True)
