"""How exact streamed float32 correlations are on hard activations: against float64 in two passes over the same numbers.

Each case is a stream of seeded batches of two nets' activations, never whole in memory, that all ways read anew. Beside
the pass, two naive ways: `naive_float32` adds raw products, not shifted, in float32 and takes E[xy] - E[x] E[y] in
float32; `raw_float64_sums` adds the same float32 products to float64 sums and finishes in float64. A line of JSON per
case, then a line with the bounds; the exit status is 1 if one does not hold:

    python tests/benchmarks/accuracy.py
    python tests/benchmarks/accuracy.py --samples 300000 --cases gaussian_1e4 drift
"""

import argparse
import json
import math
import statistics
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from convergent.core.moments import Moments
from convergent.core.products import Product, chosen, portable
from convergent.errors import InputError
from streaming import Batch, machine, streamed

IMAGES, POSITIONS = 64, 48  # of a batch: 3072 samples, so that products and batches end at different samples
LATENTS = 8  # shared by all units of both nets
BOUNDS = {"portable": 3e-7, "any backend": 1e-6}

# A case makes activations (n, u, p) of standard normal, correlated ones, given how far the stream is, from 0 to 1.


def gaussian(mean: float) -> Callable[[Tensor, float], Tensor]:
    """Normal of this mean in standard deviations."""
    return lambda z_nup, _: z_nup + mean


def rectified(active: float) -> Callable[[Tensor, float], Tensor]:
    """Normal, rectified so that this share of the samples is above 0."""
    threshold = -statistics.NormalDist().inv_cdf(active)
    return lambda z_nup, _: (z_nup - threshold).clamp(min=0)


def nearly_constant(z_nup: Tensor, _: float) -> Tensor:
    """Rectified, half of the samples above 0, but the first and last two units are active in 1e-5 of the samples."""
    return torch.cat(
        [rectified(1e-5)(z_nup[:, :2], 0), rectified(0.5)(z_nup[:, 2:-2], 0), rectified(1e-5)(z_nup[:, -2:], 0)], 1
    )


def lognormal(z_nup: Tensor, _: float) -> Tensor:
    """Heavy tails: the exponential of a normal of deviation 2."""
    return (2 * z_nup).exp()


def drift(z_nup: Tensor, along: float) -> Tensor:
    """Ordered data: every second unit's mean goes from 0, where it is calibrated, to 20 deviations."""
    return z_nup + 20 * along * (torch.arange(z_nup.shape[1]) % 2)[:, None]


def half(dtype: torch.dtype, mean: float) -> Callable[[Tensor, float], Tensor]:
    """Normal of this mean in half precision: few distinct numbers."""
    return lambda z_nup, _: (z_nup + mean).to(dtype)


CASES = {
    **{f"gaussian_{mean:g}": gaussian(mean) for mean in (0, 3, 30, 300)},
    **{f"gaussian_{mean}": gaussian(float(mean)) for mean in ("1e4", "2e4", "5e4")},
    "bfloat16": half(torch.bfloat16, 0),
    "float16_3": half(torch.float16, 3),
    **{f"rectified_{active:g}": rectified(active) for active in (0.5, 0.1, 0.01, 0.001)},
    "nearly_constant_1e-5": nearly_constant,
    "lognormal_2": lognormal,
    "drift_20": drift,
}


def stream(case: str, units: int, batches: int) -> Iterator[Batch]:
    """The case's batches, the same numbers every time: float32, as nets give them."""
    generator = torch.Generator().manual_seed(zlib.crc32(case.encode()))
    strength_u = torch.linspace(0.1, 0.995, units).repeat(2)  # shares of the latents, alike in both nets
    load_ul = torch.randn(units, LATENTS, generator=generator).repeat(2, 1)  # units i of the nets correspond
    load_ul += 0.1 * torch.randn(2 * units, LATENTS, generator=generator)  # but not quite
    load_ul *= (strength_u / load_ul.norm(dim=1))[:, None]
    own_u = (1 - strength_u**2).sqrt()
    for batch in range(batches):
        latent_nlp = torch.randn(IMAGES, LATENTS, POSITIONS, generator=generator)
        z_nup = torch.randn(IMAGES, 2 * units, POSITIONS, generator=generator).mul_(own_u[:, None])
        x_nup = CASES[case](z_nup + load_ul @ latent_nlp, batch / batches)
        yield x_nup[:, :units], x_nup[:, units:]


def side_by_side(batches: Iterable[Batch]) -> Iterator[Tensor]:
    """Both nets' samples of each batch, (u, s)."""
    for batch in batches:
        yield torch.cat([x_ncp.transpose(0, 1).flatten(1) for x_ncp in batch])


def correlation(scatter_uu: Tensor) -> Tensor:
    """Scatter, normalised in its own type; 0 where a naive variance came out as nothing or less."""
    sd_u = scatter_uu.diagonal().sqrt()
    return (scatter_uu / sd_u / sd_u[:, None]).nan_to_num(0, 0, 0).clamp(-1, 1)


def exact(case: str, units: int, batches: int) -> Moments:
    """The moments in float64 and two passes: the means first, then products of what is left of every sample."""
    u, count = 2 * units, batches * IMAGES * POSITIONS
    mean_u = torch.zeros(u, dtype=torch.float64)
    for x_us in side_by_side(stream(case, units, batches)):
        mean_u += x_us.sum(1, dtype=torch.float64)
    mean_u /= count
    left_u, scatter_uu = torch.zeros(u, dtype=torch.float64), torch.zeros(u, u, dtype=torch.float64)
    for x_us in side_by_side(stream(case, units, batches)):
        x_us = x_us.double() - mean_u[:, None]
        left_u += x_us.sum(1)
        scatter_uu.addmm_(x_us, x_us.T)
    left_u /= count  # what rounding left of the means
    return Moments(
        torch.tensor(float(count), dtype=torch.float64),
        mean_u + left_u,
        scatter_uu - count * torch.outer(left_u, left_u),
    )


def naive(case: str, units: int, batches: int) -> dict[str, Tensor]:
    """Correlations by running sums of the samples as they are."""
    u, count = 2 * units, batches * IMAGES * POSITIONS
    kinds = {"naive_float32": torch.float32, "raw_float64_sums": torch.float64}
    s_u = {name: torch.zeros(u, dtype=dtype) for name, dtype in kinds.items()}
    s_uu = {name: torch.zeros(u, u, dtype=dtype) for name, dtype in kinds.items()}
    for x_us in side_by_side(stream(case, units, batches)):
        x_us = x_us.float()
        x_uu = x_us @ x_us.T
        for name, dtype in kinds.items():
            s_u[name] += x_us.sum(1, dtype=dtype)
            s_uu[name] += x_uu
    mean_u = {name: s / count for name, s in s_u.items()}
    return {name: correlation(s_uu[name] / count - torch.outer(mean_u[name], mean_u[name])) for name in kinds}


def backends() -> dict[str, Product]:
    """Every float32 product of this machine by name, portable first."""
    products = {"portable": portable}
    try:
        products["onednn"] = chosen("onednn", torch.device("cpu"), torch.float32)
    except InputError as error:
        print(f"onednn is left out: {error}", file=sys.stderr)
    return products


def measured(case: str, units: int, batches: int, products: dict[str, Product]) -> dict:
    """The largest error of a correlation by every way."""
    start = time.process_time()
    expected = exact(case, units, batches)
    active_u = expected.active_u
    both_uu = torch.outer(active_u, active_u)

    def error(corr_uu: Tensor) -> float:
        gap_uu = (corr_uu.double() - expected.corr_uu).abs()[both_uu]
        assert torch.isfinite(gap_uu).all()
        return gap_uu.max().item()

    row = {"case": case, "samples": round(expected.count.item()), "units": len(active_u)}
    row["constant"] = int((~active_u).sum())
    for name, product in products.items():
        batches_ = stream(case, units, batches)
        moments = streamed(batches_, batches * IMAGES, torch.float32, product)
        assert moments.count == expected.count
        assert (moments.active_u == active_u).all(), f"{name} takes other units for constant in {case}"
        row[name] = error(moments.corr_uu)
    row |= {name: error(corr_uu) for name, corr_uu in naive(case, units, batches).items()}
    apart_uu = expected.corr_uu[both_uu & ~torch.eye(len(active_u), dtype=torch.bool)].abs()
    row |= {"median_abs_corr": apart_uu.median().item(), "most_abs_corr": apart_uu.max().item()}
    return row | {"cpu_s": round(time.process_time() - start, 1)}


def main() -> None:
    """Measure the cases and judge them by the bounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--samples", type=int, default=3_145_728, help="of each case; the bounds are for 250,000 or more"
    )
    parser.add_argument("--units", type=int, default=48, help="of either net")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    options = parser.parse_args()
    torch.set_num_threads(1)
    products = backends()
    batches = math.ceil(options.samples / (IMAGES * POSITIONS))
    print(json.dumps(machine()))
    worst = dict.fromkeys(products, 0.0)
    for case in options.cases:
        row = measured(case, options.units, batches, products)
        print(json.dumps(row), flush=True)
        worst = {name: max(most, row[name]) for name, most in worst.items()}
    holds = {
        "portable": worst["portable"] <= BOUNDS["portable"],
        "any backend": max(worst.values()) <= BOUNDS["any backend"],
    }
    print(json.dumps({"bounds": BOUNDS, "worst": worst, "holds": holds}))
    sys.exit(not all(holds.values()))


if __name__ == "__main__":
    main()
