"""Nets of which the truth is known: what they share, how often their units fire, by which nonlinearity.

Axes: `n` samples, `s` dimensions of a shared space, `u` units of one net. A net is its pre-activations, of mean 0 and
deviation 1 before thresholds: one matrix (n, u), or two where a nonlinearity is gated.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import prod

import torch
from torch import Generator, Tensor
from torch.nn import functional

from convergent.analysis.nulls import rotated_before

Net = tuple[Tensor, ...]
Draw = Callable[[int, int, int, Generator], list[Tensor]]

# Thresholds of units that fire at 50, 16 and 7% of the samples; by unit: at 2 to 50%.
FIRING = {"50%": 0.0, "16%": -1.0, "7%": -1.5, "2-50%, by unit": None}


def same(h: Tensor) -> Tensor:
    return h


# A gated unit multiplies what its two parts give.
NONLINEARITIES: dict[str, tuple[Callable[[Tensor], Tensor], ...]] = {
    "ReLU": (functional.relu,),
    "GELU": (functional.gelu,),
    "leaky ReLU": (partial(functional.leaky_relu, negative_slope=0.1),),
    "SwiGLU": (functional.silu, same),
    "none": (same,),
}


def standardised(h_nu: Tensor) -> Tensor:
    return (h_nu - h_nu.mean(0)) / h_nu.std(0, correction=0)


def normal(*shape: int, generator: Generator) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def laplace(*shape: int, generator: Generator) -> Tensor:
    """Sparse variables: of many small values and few large ones."""
    uniform = torch.rand(*shape, generator=generator, dtype=torch.float64) - 0.5
    return -uniform.sign() * torch.log1p(-2 * uniform.abs().clamp(max=0.5 - 1e-12))


def independent(
    nets: int, n: int, units: int, generator: Generator, of: Callable[..., Tensor] = normal
) -> list[Tensor]:
    return [standardised(of(n, units, generator=generator)) for _ in range(nets)]


def space(
    nets: int, n: int, units: int, generator: Generator, dimensions: int = 8, noise: float = 0.0, own: str = "alike"
) -> list[Tensor]:
    """All nets read the same variables, each unit a direction of its own at random, with noise of its own.

    `own` says how much of each unit is its own: "alike", or in units of variance "half" (half of the units nothing, the
    others everything) or "uniform".
    """
    shared_ns = normal(n, dimensions, generator=generator)
    of_nets = []
    for _ in range(nets):
        weight_su = normal(dimensions, units, generator=generator)
        private_nu = normal(n, units, generator=generator)
        if own == "alike":
            h_nu = shared_ns @ weight_su / dimensions**0.5 + noise * private_nu
        else:
            part_u = torch.rand(units, generator=generator) if own == "uniform" else (torch.arange(units) % 2)
            h_nu = standardised(shared_ns @ weight_su) * (1 - part_u).sqrt() + part_u.sqrt() * private_nu
        of_nets.append(standardised(h_nu))
    return of_nets


def planted(
    nets: int, n: int, units: int, generator: Generator, dimensions: int = 0, noise: float = 0.5, share: float = 1.0
) -> list[Tensor]:
    """A share of the units are the same in all nets, but for noise in all nets after the first and their order."""
    draw = partial(space, dimensions=dimensions) if dimensions else independent
    of_nets = draw(nets, n, units, generator)
    common = round(share * units)
    for i in range(1, nets):
        noisy_nu = of_nets[0][:, :common] + noise * normal(n, common, generator=generator)
        of_nets[i] = torch.cat([standardised(noisy_nu), of_nets[i][:, common:]], 1)  # the common ones come first
    return of_nets


def along_sources(nets: int, n: int, units: int, generator: Generator) -> list[Tensor]:
    """Sparse variables: net a reads them at random, every other net has one variable a unit."""
    source_nu = laplace(n, units, generator=generator)
    mixed_nu = source_nu @ normal(units, units, generator=generator)
    return [standardised(mixed_nu), *(standardised(source_nu) for _ in range(nets - 1))]


@dataclass(frozen=True)
class Truth:
    """Nets to draw.

    Attributes:
        name: what they have in common.
        draw: their pre-activations, by number of nets, samples, units, generator.
        firing: how often units fire, a key of FIRING.
        nonlinearity: a key of NONLINEARITIES.
    """

    name: str
    draw: Draw
    firing: str = "50%"
    nonlinearity: str = "ReLU"

    def nets(self, number: int, n: int, units: int, seed: int) -> list[Net]:
        """Pre-activations with the thresholds added."""
        generator = torch.Generator().manual_seed(seed)
        parts = [self.draw(number, n, units, generator) for _ in NONLINEARITIES[self.nonlinearity]]
        if len(parts) > 1:  # both parts read the same variables: the nets of one draw, side by side, are cut in two
            wide = self.draw(number, n, len(parts) * units, generator)
            parts = [[h_nu[:, part * units : (part + 1) * units] for h_nu in wide] for part in range(len(parts))]
        level = FIRING[self.firing]
        nets = []
        for net in zip(*parts):
            by_unit = -2 * torch.rand(units, generator=generator, dtype=torch.float64) if level is None else level
            nets.append((net[0] + by_unit, *net[1:]))
        return nets

    def activations(self, net: Net) -> Tensor:
        """What the nonlinearity makes of a net, shape (n, u)."""
        return prod(of(h_nu) for of, h_nu in zip(NONLINEARITIES[self.nonlinearity], net))

    def rotated(self, net: Net, seed: int, beside: Net | None = None) -> Tensor:
        """The net's activations on random axes: one rotation of all parts, whole or of what is shared."""
        pre_na = None if beside is None else torch.cat(beside, 1)
        ways = NONLINEARITIES[self.nonlinearity]
        return prod(rotated_before(h_nu, of, seed, pre_na) for of, h_nu in zip(ways, net))


_SPACES = {
    "independent units": independent,
    "8 dimensions shared": partial(space, dimensions=8),
    "32 dimensions shared": partial(space, dimensions=32),
    "8 dimensions shared, as much noise in each unit": partial(space, dimensions=8, noise=1.0),
}
# Nothing of the axes is shared: 5 of 100 units are to exceed a threshold of 5%.
NOTHING = [
    *(Truth(name, draw, firing) for name, draw in _SPACES.items() for firing in FIRING),
    *(
        Truth(name, draw, firing, nonlinearity)
        for nonlinearity in ("GELU", "leaky ReLU")
        for name, draw in list(_SPACES.items())[:3]
        for firing in ("50%", "7%")
    ),
    *(Truth(name, draw, "50%", way) for way in ("SwiGLU", "none") for name, draw in list(_SPACES.items())[:3]),
]
# Every unit of net b has its own in net a.
PLANTED = [
    *(
        Truth(f"the same units, noise {noise:g}", partial(planted, noise=noise), firing)
        for noise in (0.5, 1.5)
        for firing in ("50%", "7%")
    ),
    *(
        Truth("the same directions of 8 dimensions, noise 0.5", partial(planted, dimensions=8), firing)
        for firing in ("50%", "7%")
    ),
]
# Where the null is not, or is not only, about what axes share.
LIMITS = [
    *(
        Truth("independent sparse units (Laplace)", partial(independent, of=laplace), firing)
        for firing in ("50%", "7%")
    ),
    *(
        Truth(f"{s} dimensions shared, {name}", partial(space, dimensions=s, own=own), firing)
        for s in (8, 32)
        for own, name in (("uniform", "in each unit a random part"), ("half", "by half of the units only"))
        for firing in ("50%", "7%")
    ),
    *(Truth("sparse sources: b's units, a's at random", along_sources, firing) for firing in ("50%", "7%")),
    *(
        Truth("the same directions of 8 dimensions, noise 1.5", partial(planted, dimensions=8, noise=1.5), firing)
        for firing in ("50%", "7%")
    ),
    *(
        Truth("half the same directions of 8, half at random", partial(planted, dimensions=8, share=0.5), firing)
        for firing in ("50%", "7%")
    ),
]
# Four nets at once.
TOGETHER = [
    *(Truth(name, draw, firing) for name, draw in list(_SPACES.items())[:3] for firing in ("50%", "7%")),
    Truth(
        "8 dimensions shared, as much noise in each unit",
        _SPACES["8 dimensions shared, as much noise in each unit"],
        "7%",
    ),
    *(Truth(f"the same units, noise {noise:g}", partial(planted, noise=noise), "7%") for noise in (0.5, 1.5)),
    Truth("half the same directions of 8, half at random", partial(planted, dimensions=8, share=0.5), "7%"),
]
