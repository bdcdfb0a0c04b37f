"""How samples become sums of products without losing digits, and these moments: a shift, a type, a product, a factor.

Axes: `k` blocks of images, `u` units of all nets side by side, `s` samples, `f` sums in the order of a `Packing`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from convergent.core.energies import Energies
from convergent.core.packing import Packing
from convergent.core.products import Product, full_precision, portable

# Below this many samples a layer is accumulated in float64 throughout: float32's error, which averages out over many
# products, is largest for few. From here on a correlation errs by 2e-7 at most, by oneDNN's products 6e-7
# (tests/benchmarks/accuracy.py --samples 250000).
FLOAT64_BELOW = 250_000

_SQUARES, _CENTRED = 64, 8  # units at a time


# Activations that are few distinct numbers (of half precision, or with a mean of many deviations) less a shift are whole
# multiples of a power of two, and so are their products: what float32 sums of those round off is then no noise but of one
# sign, and errs by 1e-6 in a correlation however many samples there are. A factor that is no short binary fraction ends
# that; zeros stay zeros.
OFF_GRID = 0.7390851332151607
_MANY_DEVIATIONS = 128


def on_grid(x_us: Tensor, dtype: torch.dtype) -> bool:
    """Whether samples, shape (u, s), given in some type are so few distinct numbers that `OFF_GRID` is to multiply them."""
    if dtype in (torch.float16, torch.bfloat16):
        return True
    mean_u, sd_u = mean_and_deviation(x_us)
    return bool(((mean_u.abs() > _MANY_DEVIATIONS * sd_u) & (sd_u > 0)).any())


def mean_and_deviation(x_us: Tensor) -> tuple[Tensor, Tensor]:
    """Each unit's mean and standard deviation, by few units at a time: a third of what `torch.std` takes."""
    mean_u = x_us.mean(1)
    of_some = zip(torch.split(x_us, _CENTRED), torch.split(mean_u, _CENTRED))
    return mean_u, torch.cat([(some_us - of[:, None]).square_().mean(1) for some_us, of in of_some]).sqrt()


def grid_shift(mean_u: Tensor, sd_u: Tensor) -> Tensor:
    """A shift of few bits near the mean, shape (u,): round(mean / q) q, with q the power of two below the deviation.

    Subtracting it rounds almost nothing, zeros of sparse rectified units stay zeros (it is 0 for |mean| < q / 2), and
    what is left of the mean is at most half a standard deviation, so sums of products in float32 keep their digits.
    """
    sd_u = sd_u.double().clamp(min=torch.finfo(torch.float32).tiny)
    q_u = torch.exp2(torch.floor(torch.log2(sd_u)))
    return (torch.round(mean_u.double() / q_u) * q_u).float()


@dataclass(frozen=True)
class Arithmetic:
    """How the sums of a layer are made.

    Attributes:
        shift_u: subtracted from every sample; the same in all processes.
        dtype: of the products, float32 or float64.
        product: how matrices are multiplied, see `products`.
        scale: multiplies the shifted samples, see `OFF_GRID`.
    """

    shift_u: Tensor
    dtype: torch.dtype = torch.float64
    product: Product = portable
    scale: float = 1.0

    @classmethod
    def of(
        cls, x_us: Tensor, given: Iterable[torch.dtype], dtype: torch.dtype = torch.float64, product: Product = portable
    ) -> Arithmetic:
        """For samples like these, shape (u, s), float64, which the nets gave in some types."""
        shift_u = grid_shift(*(of.nan_to_num() for of in mean_and_deviation(x_us)))
        quantised = dtype == torch.float32 and any(on_grid(x_us, kind) for kind in given)
        return cls(shift_u, dtype, product, OFF_GRID if quantised else 1.0)


def centred(
    sums_kf: Tensor, packing: Packing, arithmetic: Arithmetic
) -> tuple[Tensor, Tensor, dict[tuple[int, int], Tensor], Energies | None]:
    """Counts, means and centred sums of products from a pass's sums, in their memory; shapes as in `LayerMoments`.

    The products of a net with itself become triangles.
    """
    count_k, scale = sums_kf[:, 0].clone(), arithmetic.scale
    if scale != 1:
        packing.sums(sums_kf).div_(scale)
        packing.products(sums_kf).div_(scale**2)
    mean_ku = packing.sums(sums_kf) / count_k.clamp(min=1)[:, None]  # from the shift
    for sums_f, mean_u, count in zip(sums_kf, mean_ku, count_k.tolist()):
        for rows, columns, of_strip in packing.strips(sums_f):
            of_strip.addr_(mean_u[rows], mean_u[columns], alpha=-count)
    sums_kf, mean_ku, count_k = sums_kf.cpu(), mean_ku.cpu(), count_k.cpu()  # what lies on a GPU is finished there
    packing.fold(sums_kf)
    scatter = {(i, j): packing.block(sums_kf, i, j) for i, j in packing.blocks()}
    if not packing.within:
        squares_ku = packing.squares(sums_kf) - count_k[:, None] * mean_ku.square()
        scatter |= {(i, i): squares_ku[:, units] for i, units in enumerate(packing.units)}
    energies = _centred_energies(sums_kf, packing, arithmetic, count_k, mean_ku) if packing.energies else None
    mean_ku += arithmetic.shift_u.double().cpu()
    return count_k, mean_ku, scatter, energies


def _centred_energies(
    sums_kf: Tensor, packing: Packing, arithmetic: Arithmetic, count_k: Tensor, mean_ku: Tensor
) -> Energies | None:
    """The energies from a pass's sums, given the units' means from the shift; None where they left the numbers' range."""
    scale, (sum_ki, with_energies_kij, with_units_kiu) = arithmetic.scale, packing.energy(sums_kf)
    mean_ki = sum_ki / (scale**2 * count_k.clamp(min=1)[:, None])
    total_ki = count_k[:, None] * mean_ki
    with_energies_kij = with_energies_kij / scale**4 - total_ki[:, :, None] * mean_ki[:, None]
    with_units_kiu = with_units_kiu / scale**3 - total_ki[:, :, None] * mean_ku[:, None]
    if not all(of.isfinite().all() for of in (mean_ki, with_energies_kij, with_units_kiu)):
        return None
    return Energies(packing.units, arithmetic.shift_u.double().cpu(), mean_ki, with_energies_kij, with_units_kiu)


def add_products(open_f: Tensor, x_us: Tensor, packing: Packing, product: Product = portable) -> None:
    """Add products of samples, shape (u, s), to the sums, float64, strip by strip of the upper triangle."""
    if not packing.within:
        packing.squares(open_f).add_(torch.linalg.vector_norm(x_us, dim=1).double().square())
    with full_precision(x_us.device):
        for rows, columns, into in packing.strips(open_f):
            if x_us.dtype == into.dtype:
                into.addmm_(x_us[rows], x_us[columns].T)  # no product in memory of its own
            else:
                into.add_(product(x_us[rows], x_us[columns]))
        if packing.energies:
            energy_is = torch.stack([_squares(x_us[of]) for of in packing.units])
            sum_i, with_energies_ij, with_units_iu = packing.energy(open_f)
            sum_i.add_(energy_is.sum(1))
            with_energies_ij.add_(energy_is @ energy_is.T)
            with_units_iu.add_(energy_is.to(x_us.dtype) @ x_us.T)


def _squares(x_us: Tensor) -> Tensor:
    """Each sample's sum of squares over units, shape (s,), by few units at a time, which stay in a processor's cache."""
    sum_s = torch.zeros(x_us.shape[1], dtype=torch.float64, device=x_us.device)
    for some_us in torch.split(x_us, _SQUARES):
        sum_s += some_us.square().sum(0)
    return sum_s
