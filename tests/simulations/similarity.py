"""Measures of similarity where the truth is known: unrelated nets with dependent samples, and what intervals cover.

`cd tests && python -m simulations.similarity` writes the tables of docs/similarity.md, in some minutes of one core.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from convergent.analysis.intervals import jackknife
from convergent.core.pairs import Pair
from convergent.similarity.every import MEASURES

PAGE = Path(__file__).parents[2] / "docs" / "similarity.md"
# Images, positions of each, share of the variance that those have in common.
SAMPLES = ((512, 1, 0.0), (512, 16, 0.5), (512, 64, 0.5), (128, 64, 0.9))
DEPENDENT = ("cka", "cka_debiased_samples", "cka_debiased")
UNITS, DRAWS = 40, 60
# Whose truth is known from so many samples that nothing is left of chance.
COVERED = ("cka_debiased", "rsa_pearson", "rv", "svcca", "procrustes", "gulp", "soft_matching", "cka", "overlap_95")
BLOCKS = 20


def net(shared: Tensor | None, shape: tuple[int, int, int], share: float, generator: torch.Generator) -> Tensor:
    """Rectified units, shape (images * positions, units), which vary with what is shared, the image and the position."""
    images, positions, units = shape
    of_image, own = (torch.randn(images, p, units, generator=generator).double() for p in (1, positions))
    x = share**0.5 * of_image + (1 - share) ** 0.5 * own
    return torch.relu(x if shared is None else x + shared).flatten(0, 1)


def unrelated(images: int, positions: int, share: float, seed: int, blocks: int = 64) -> Pair:
    """Two nets that have nothing in common; positions of an image do."""
    generator = torch.Generator().manual_seed(seed)
    a, b = (net(None, (images, positions, UNITS), share, generator) for _ in "ab")
    return Pair.of(a, b, torch.arange(images).repeat_interleave(positions), blocks=blocks)


def related(images: int, seed: int, positions: int = 4, units: int = 6) -> Pair:
    """Two nets that share three dimensions of each image; the same two nets whatever the seed."""
    of_nets, generator = torch.Generator().manual_seed(0), torch.Generator().manual_seed(seed + 1)
    latent = torch.randn(images, 1, 3, generator=generator).double()
    mixing = [1.5 * torch.randn(3, units, generator=of_nets).double() for _ in "ab"]
    a, b = (net(latent @ mixed, (images, positions, units), 0.5, generator) for mixed in mixing)
    return Pair.of(a, b, torch.arange(images).repeat_interleave(positions), blocks=BLOCKS)


def coverage(images: int, repetitions: int, names: tuple[str, ...] = COVERED) -> Mapping[str, float]:
    """How often a measure's interval over so many images holds its value on 100,000 images."""
    whole = related(100_000, -1)

    def values(pair: Pair) -> Tensor:
        return torch.tensor([MEASURES[name](pair) for name in names], dtype=torch.float64)

    truth, held = values(whole), torch.zeros(len(names))
    for seed in range(repetitions):
        interval = jackknife(values, related(images, seed))
        held += (interval.low <= truth) & (truth <= interval.high)
    return dict(zip(names, (held / repetitions).tolist()))


def tables() -> Iterator[tuple[str, list[str]]]:
    """The tables by the name of their marks."""
    rows = ["| images x positions, dependence | `cka` (biased) | `cka_debiased_samples` | `cka_debiased` (blocks) |",
            "| --- | ---: | ---: | ---: |"]  # fmt: skip
    for images, positions, share in SAMPLES:
        pairs = (unrelated(images, positions, share, seed) for seed in range(DRAWS))
        values = torch.tensor([[MEASURES[name](pair) for name in DEPENDENT] for pair in pairs])
        error = values.std(0) / DRAWS**0.5
        cells = [f"{mean:.4f} ± {of:.4f}" for mean, of in zip(values.mean(0).tolist(), error.tolist())]
        rows.append(f"| {images} x {positions}, {share:g} | {' | '.join(cells)} |")
        print(rows[-1], flush=True)
    yield "dependent", rows
    rows = ["| measure | 200 images | 1,000 images |", "| --- | ---: | ---: |"]
    few, many = coverage(200, 600), coverage(1000, 600)
    rows += [f"| `{name}` | {few[name]:.1%} | {many[name]:.1%} |" for name in COVERED]
    print("\n".join(rows), flush=True)
    yield "coverage", rows


def main() -> None:
    """Simulate, and write the tables between their marks."""
    torch.set_num_threads(1)
    for name, rows in tables():
        mark = f"<!-- {name}: written by tests/simulations/similarity.py -->"
        before, _, after = PAGE.read_text().split(mark)
        PAGE.write_text(f"{before}{mark}\n{chr(10).join(rows)}\n{mark}{after}")


if __name__ == "__main__":
    main()
