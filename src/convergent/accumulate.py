"""The streaming pass behind `Moments`: activations of k nets in, second moments per block of images out.

The copy out of the net is the only one: a hook writes its activations, shifted, into one preallocated buffer in which all
nets' units lie side by side; a full buffer is multiplied, in strips of the upper triangle, and added to float64 sums.

Axes: `n` images of a batch, `c` units of one net, `u` units of all nets, `p` positions of an image, `s` samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from convergent.errors import InputError
from convergent.moments import Moments
from convergent.products import Product, portable

# Samples per matrix product: enough that adding the product to the float64 sums is a few per cent of its cost, few
# enough that float32 products lose nothing (their error grows with the samples summed in float32).
_SAMPLES = 4096

# Below this many samples a layer is accumulated in float64 throughout: it costs little there, and float32's error, which
# averages out over many products, is largest for few.
FLOAT64_BELOW = 1_000_000


@dataclass(frozen=True)
class Sums:
    """Sums of shifted samples and of their products over one block: what is added up, also between processes."""

    count: float
    s_u: Tensor
    s_uu: Tensor

    def __add__(self, other: Sums) -> Sums:
        """The sums over both sets of samples (of one shift)."""
        return Sums(self.count + other.count, self.s_u + other.s_u, self.s_uu + other.s_uu)

    def moments(self, shift_u: Tensor) -> Moments:
        """The moments, given the shift that had been subtracted from every sample."""
        count = torch.tensor(self.count, dtype=torch.float64)
        mean_u = self.s_u / max(self.count, 1.0)
        upper_uu = self.s_uu.triu()
        s_uu = upper_uu + upper_uu.triu(1).T
        return Moments(count, shift_u.double() + mean_u, s_uu - self.count * torch.outer(mean_u, mean_u))


def grid_shift(mean_u: Tensor, sd_u: Tensor) -> Tensor:
    """A shift near the mean with few significant bits: round(mean / q) q, q the power of two below the deviation.

    Subtracting it rounds almost nothing, zeros of sparse rectified units stay zeros (it is 0 for |mean| < q / 2), and
    what is left of the mean is at most half a standard deviation, so sums of products in float32 keep their digits.

    Args:
        mean_u: mean of a calibration batch, shape (u,).
        sd_u: its standard deviation, shape (u,).
    """
    sd_u = sd_u.double().clamp(min=torch.finfo(torch.float32).tiny)
    q_u = torch.exp2(torch.floor(torch.log2(sd_u)))
    return (torch.round(mean_u.double() / q_u) * q_u).float()


class Accumulator:
    """Second moments of one layer of k nets, per block of images, in one pass.

    Per batch: `begin`, then `write` once per net, then `end`. Sums of a block move to the host when another block begins;
    a block that comes again is added to.
    """

    def __init__(
        self,
        layer: str,
        units: dict[str, slice],
        positions: int,
        shift_u: Tensor,
        dtype: torch.dtype,
        product: Product = portable,
    ) -> None:
        """Prepare the buffer.

        Args:
            layer: name of the layer, for messages.
            units: which of the u units are each net's.
            positions: samples per image.
            shift_u: subtracted from every sample; the same in all processes; its device is where the work is done.
            dtype: of the products, float32 or float64.
            product: how matrices are multiplied, see `products`.
        """
        self.layer, self.units, self.positions = layer, units, positions
        self.dtype, self.product = dtype, product
        self.shift_u = shift_u.to(dtype)  # float32 activations less a float32 shift would round in float32
        self.done: dict[int, Sums] = {}
        self._images = max(1, _SAMPLES // positions)  # of one product
        self._buffer_gus = torch.empty(0, len(shift_u), self._images * positions, dtype=dtype, device=shift_u.device)
        self._fill = 0  # images in the buffer
        self._batch = -1
        self._batches: list[int] = []  # of the images in the buffer
        self._block_n: list[int] = []  # of the images in the buffer
        self._open: tuple[int, Sums] | None = None
        self._bad_u = torch.full((len(shift_u),), -1, device=shift_u.device)  # first batch with NaN, on the device

    def begin(self, block_n: Sequence[int]) -> None:
        """Start a batch of images, given the block of each."""
        self._batch += 1
        if self._block_n and self._block_n[-1] != block_n[0]:
            self._multiply(everything=True)
        groups = -(-(self._fill + len(block_n)) // self._images)
        if groups > len(self._buffer_gus):
            grown_gus = self._buffer_gus.new_empty(groups, *self._buffer_gus.shape[1:])
            grown_gus[: len(self._buffer_gus)] = self._buffer_gus
            self._buffer_gus = grown_gus
        self._block_n += block_n
        self._batches += [self._batch] * len(block_n)

    def write(self, net: str, x_ncp: Tensor) -> None:
        """Take one net's activations of the batch, shape (n, c, p), whatever later happens to that memory.

        Raises:
            InputError: if the net's units or positions are not those announced.
        """
        units, m, p = self.units[net], self._images, self.positions
        if x_ncp.shape[1:] != (units.stop - units.start, p):
            raise InputError(
                f"Layer {self.layer} of net {net} gives {x_ncp.shape[1]} units at {x_ncp.shape[2]} positions here, but "
                f"{units.stop - units.start} units at {p} positions for the first images; resize the images to one size."
            )
        shift_c11 = self.shift_u[units, None, None]
        image = 0
        while image < len(x_ncp):
            group, slot = divmod(self._fill + image, m)
            stop = min(len(x_ncp), image + m - slot)
            into_cs = self._buffer_gus[group, units, slot * p : (slot + stop - image) * p]
            into_cnp = into_cs.view(len(into_cs), stop - image, p)
            torch.sub(x_ncp[image:stop].transpose(0, 1), shift_c11, out=into_cnp)
            image = stop

    def end(self) -> None:
        """Finish the batch: multiply what is full."""
        self._fill = len(self._block_n)
        self._multiply(everything=False)

    def close(self) -> None:
        """Finish the pass: every block's sums are in `done`.

        Raises:
            InputError: if an activation was NaN or infinite.
        """
        self._multiply(everything=True)
        self._finish_block()

    def _multiply(self, *, everything: bool) -> None:
        """Add the products of the buffer's full groups, or of everything in it, to the sums."""
        m, p = self._images, self.positions
        full = self._fill // m
        for group in range(full + (everything and self._fill % m > 0)):
            first, stop = group * m, min(self._fill, (group + 1) * m)
            block_n = self._block_n[first:stop]
            x_us = self._buffer_gus[group, :, : (stop - first) * p]
            for block in dict.fromkeys(block_n):  # nearly always one; several only where images come in foreign order
                of_block = [slot for slot, b in enumerate(block_n) if b == block]
                whole = len(of_block) == len(block_n)
                part_us = x_us if whole else x_us.view(len(x_us), -1, p)[:, of_block].flatten(1)
                self._add(block, part_us, self._batches[first])
        kept = 0 if everything else self._fill - full * m
        if kept and full:
            self._buffer_gus[0, :, : kept * p] = self._buffer_gus[full, :, : kept * p]
        self._block_n = self._block_n[self._fill - kept : self._fill]
        self._batches = self._batches[self._fill - kept : self._fill]
        self._fill = kept

    def _add(self, block: int, x_us: Tensor, batch: int) -> None:
        if self._open is None or self._open[0] != block:
            self._finish_block()
            u = len(x_us)
            zeros = torch.zeros(u, u + 1, dtype=torch.float64, device=x_us.device)
            self._open = (block, Sums(0.0, zeros[:, u], zeros[:, :u]))
        sums = self._open[1]
        s_u = x_us.sum(1, dtype=torch.float64)
        self._bad_u = torch.where((self._bad_u < 0) & ~torch.isfinite(s_u), batch, self._bad_u)
        sums.s_u.add_(s_u)
        add_gram(sums.s_uu, x_us, self.product)
        self._open = (block, Sums(sums.count + x_us.shape[1], sums.s_u, sums.s_uu))

    def _finish_block(self) -> None:
        if self._open is None:
            return
        block, sums = self._open
        if (self._bad_u >= 0).any():
            unit = int((self._bad_u >= 0).nonzero()[0])
            net = next(name for name, units in self.units.items() if units.start <= unit < units.stop)
            raise InputError(
                f"Layer {self.layer} of net {net} gives NaN or infinite activations (unit "
                f"{unit - self.units[net].start}, from batch {int(self._bad_u[unit])} on); "
                "check its weights and the images, or leave this net or layer out."
            )
        sums = Sums(sums.count, sums.s_u.cpu().clone(), sums.s_uu.cpu().clone())
        self.done[block] = self.done[block] + sums if block in self.done else sums
        self._open = None


def add_gram(s_uu: Tensor, x_us: Tensor, product: Product = portable) -> None:
    """Add the upper triangle of x x^T to `s_uu`, in row strips: little more than half the work of the full product.

    Args:
        s_uu: float64 sums, shape (u, u); below the diagonal blocks nothing is added.
        x_us: samples in columns, shape (u, s), float32 or float64.
        product: of two matrices over their columns.
    """
    u = len(x_us)
    strip = 64 if u <= 256 else 128 if u <= 1536 else 256
    for i in range(0, u, strip):
        s_uu[i : i + strip, i:].add_(product(x_us[i : i + strip], x_us[i:]))
