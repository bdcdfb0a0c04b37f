"""Simulates the null of wide layers where Haar's rotation is possible, too, and where only some positions are read.

cd tests && python -m simulations.wide       # some minutes of one core; writes the table into docs/chance.md
"""

from pathlib import Path

import torch
from torch import Generator, Tensor

from convergent.analysis.nulls import threshold
from convergent.core.moments import Moments
from convergent.core.rotation import HAAR, turning, wide_turning

PAGE = Path(__file__).parents[2] / "docs" / "chance.md"
MARK = "<!-- wide: written by tests/simulations/wide.py -->"
DRAWS, REPETITIONS, SOME = 2, 8, 16
TRUTHS = {"independent units": (0, 0.0), "8 dimensions shared": (8, 0.0), "32 dimensions shared": (32, 1.0)}
HEADINGS = ("Haar", "groups", "64 positions", f"{SOME} of them")


def nets(shape: tuple[int, int, int], dimensions: int, noise: float, generator: Generator) -> list[Tensor]:
    """Pre-activations of two nets, shape (units, images, positions): half of the variance is alike in all of an image."""
    units, images, positions = shape

    def drawn(rows: int) -> Tensor:
        image, position = (torch.randn(rows, images, p, generator=generator) for p in (1, positions))
        return (image + position) / 2**0.5

    shared = drawn(dimensions) if dimensions else None
    both = []
    for _ in range(2):
        h = drawn(units) * (noise if dimensions else 1.0)
        if shared is not None:
            h += torch.tensordot(torch.randn(units, dimensions, generator=generator), shared, 1) / dimensions**0.5
        both.append(h / h.std((1, 2), keepdim=True) - 1)  # fires at 16%
    return both


def best(x: Tensor, y: Tensor) -> Tensor:
    """The highest correlation of each unit of y with one of x; both of shape (units, ...)."""
    z, w = (
        (of - of.mean(1, keepdim=True)) / of.std(1, keepdim=True, correction=0) for of in (x.flatten(1), y.flatten(1))
    )
    return (z @ w.T / z.shape[1]).amax(0)


def repetition(dimensions: int, noise: float, seed: int) -> Tensor:
    """Share of units above each null's threshold, and each null's mean highest correlation, shape (2, 4)."""
    generator, rows = torch.Generator().manual_seed(seed), []
    for shape in ((1100, 300, 12), (64, 2000, 64)):
        a, b = nets(shape, dimensions, noise, generator)
        flat, a = b.flatten(1), a.relu()
        best_b, null = best(a, b.relu()), ([], [])
        pre = Moments.of(flat.T)
        for _ in range(DRAWS):
            haar = turning(pre, generator, flat)(flat).view(shape).relu()
            null[0].append(best(a, haar))
            if shape[0] > HAAR:
                null[1].append(best(a, wide_turning(flat, generator)(flat).view(shape).relu()))
            else:
                null[1].append(best(a[..., :SOME], haar[..., :SOME]))
        rows += [torch.stack([(best_b > threshold(of)).float().mean(), of.mean()]) for of in map(torch.cat, null)]
    return torch.stack(rows, 1)


def main() -> None:
    """Simulate, and write the table between its marks."""
    torch.set_num_threads(1)
    shares, means = (" | ".join(f"{what}: {of}" for of in HEADINGS) for what in ("above", "null's r"))
    lines = [f"| what the nets share | {shares} | {means} |", "| --- |" + " ---: |" * 8]
    for name, (dimensions, noise) in TRUTHS.items():
        repetitions = torch.stack([repetition(dimensions, noise, seed) for seed in range(REPETITIONS)])
        mean, error = repetitions.mean(0), repetitions.std(0) / REPETITIONS**0.5
        cells = [f"{m:.3f} ± {e:.3f}" for m, e in zip(mean.flatten(), error.flatten())]
        lines.append(f"| {name} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    before, _, after = PAGE.read_text().split(MARK)
    table = "\n".join(lines)
    PAGE.write_text(f"{before}{MARK}\n{table}\n{MARK}{after}")


if __name__ == "__main__":
    main()
