"""The streaming pass behind `Moments`: activations of k nets in, second moments per block of images out.

The copy out of the net is the only one: a hook writes its activations, shifted, into a preallocated buffer in which all
nets' units lie side by side; a full buffer is multiplied, in strips of the upper triangle, and added to float64 sums.

Axes: `n` images of a batch, `c` units of one net, `u` units of all nets, `p` positions of an image, `s` samples, `k` blocks
of images, `f` sums in the order of a `Packing`, `g` groups of images that are multiplied together, a buffer each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from convergent.core.layer_moments import LayerMoments
from convergent.core.packing import Packing
from convergent.streaming.arithmetic import Arithmetic, add_products, centred
from convergent.streaming.beside import Beside, sent, zeros
from convergent.streaming.collector import over_processes
from convergent.streaming.layers import check_size
from convergent.streaming.nonfinite import NonFinite

# Samples per matrix product: enough that adding the product to the float64 sums is a few per cent of its cost, few
# enough that float32 products lose nothing (their error grows with the samples summed in float32).
_SAMPLES = 4096
# Wide layers of few samples, in float64, are added to without a product in between, by as many numbers at a time: what is
# left for the end of the pass is little.
_NUMBERS = 1 << 21


class Accumulator:
    """Second moments of one layer of k nets, per block of images, in one pass.

    Per batch: `begin`, then `write` once per net, then `end`; at last `close` and `moments`. A block that comes again is
    added to. Sums lie where the work is done, on the device of the shift, and go to the host at the end; where a GPU has no
    room for all of them those of the block that is read lie there, the others on the host.

    Args:
        layer: its name.
        widths: number of units of each net, by name.
        positions: samples per image.
        arithmetic: of the sums.
        blocks: of images.
        packing: of these nets: which are to be compared; all with all by default.
    """

    def __init__(
        self,
        layer: str,
        widths: Mapping[str, int],
        positions: int,
        arithmetic: Arithmetic,
        blocks: int = 1,
        packing: Packing | None = None,
    ) -> None:
        self.layer, self.nets, self.positions = layer, list(widths), positions
        self.packing = Packing.of(list(widths.values())) if packing is None else packing
        self.units = dict(zip(widths, self.packing.units))
        self.arithmetic, self.blocks = arithmetic, blocks
        self.dtype, self.product, self.scale = arithmetic.dtype, arithmetic.product, arithmetic.scale
        self.shift_u = arithmetic.shift_u.to(self.dtype)  # less a float32 shift float32 rounds
        self.sums_kf = torch.zeros(0)
        samples = min(_SAMPLES, _NUMBERS // len(self.shift_u)) if self.dtype == torch.float64 else _SAMPLES
        self._images = max(1, samples // positions)  # of one product
        self._buffers: list[Tensor] = []  # each of shape (u, s), for one product; filled one after another
        self._fill = 0  # images in the buffers
        self._batch, self._batches = -1, list[int]()  # of the images in the buffers
        self._block_n: list[int] = []  # of the images in the buffers
        self._open: tuple[int, Tensor] | None = None  # the block that is read, and its sums
        self._bad = NonFinite(len(self.shift_u), self.device)
        self._beside = Beside(self.device)

    @property
    def memory(self) -> int:
        """Bytes of host memory that the sums take by the end of the pass."""
        return self.blocks * self.packing.size * 8

    @property
    def pass_memory(self) -> int:
        """Bytes of host memory that a pass takes: sums, and samples for a product."""
        samples = self._images * self.positions * len(self.shift_u) * self.dtype.itemsize
        return self.memory + (2 * samples if self.device.type == "cpu" else 0)

    @property
    def method_memory(self) -> int:
        """Bytes that aligning the two widest nets takes: their blocks' moments, and some six matrices made of them."""
        widest = sum(sorted(units.stop - units.start for units in self.units.values())[-2:])
        return int((2 * self.blocks + 6) * widest**2 * 8)

    @property
    def products(self) -> str:
        """In what type they are made."""
        return str(self.dtype).removeprefix("torch.")

    @property
    def device(self) -> torch.device:
        """Where products are made and summed."""
        return self.shift_u.device

    def begin(self, block_n: Sequence[int]) -> None:
        """Start a batch of images, given the block of each."""
        self._batch += 1
        if self._block_n and block_n and self._block_n[-1] != block_n[0]:
            with self._beside.work():
                self._multiply(everything=True)
        while len(self._buffers) * self._images < self._fill + len(block_n):
            shape = len(self.shift_u), self._images * self.positions
            self._buffers.append(torch.empty(shape, dtype=self.dtype, device=self.device))
        self._block_n += block_n
        self._batches += [self._batch] * len(block_n)

    def write(self, net: str, x_ncp: Tensor) -> None:
        """Take one net's activations of the batch, shape (n, c, p), whatever later happens to that memory.

        Raises:
            InputError: if the net's units or positions are not those announced.
        """
        units, m, p = self.units[net], self._images, self.positions
        check_size(x_ncp, units.stop - units.start, p, f"Layer {self.layer} of net {net}")
        self._beside.join()  # buffers that are read are not written
        x_ncp = x_ncp.to(self.device)
        widened = x_ncp.dtype.itemsize < self.dtype.itemsize and self.device.type == "cpu"
        shift_c11 = self.shift_u[units, None, None]
        image = 0
        while image < len(x_ncp):
            group, slot = divmod(self._fill + image, m)
            stop = min(len(x_ncp), image + m - slot)
            into_cs = self._buffers[group][units, slot * p : (slot + stop - image) * p]
            into_cnp, from_cnp = into_cs.view(len(into_cs), stop - image, p), x_ncp[image:stop].transpose(0, 1)
            if widened:  # for `torch.sub` a processor would first make a widened copy in memory of its own
                into_cnp.copy_(from_cnp).sub_(shift_c11)
            else:
                torch.sub(from_cnp, shift_c11, out=into_cnp)
            if self.scale != 1:
                into_cnp.mul_(self.scale)
            image = stop

    def end(self) -> None:
        """Finish the batch: multiply what is full."""
        self._fill = len(self._block_n)
        with self._beside.work():
            self._multiply(everything=False)

    def close(self) -> None:
        """Finish the pass: every block's sums are in `sums_kf`."""
        with self._beside.work():
            self._multiply(everything=True)
        self._beside.join()
        self._finish_block()
        self._bad.check(self.layer, self.units)
        self._sums(0)
        self._buffers = []  # the memory is needed for what follows

    def over_processes(self) -> None:
        """Add the sums of all processes up, in all of them; block by block bounds the memory that this takes."""
        for sums_f in self.sums_kf:
            over_processes(sums_f, self.device)

    def moments(self, images: int) -> LayerMoments:
        """The record of all that was read; it takes over the memory of the sums, so this is the last call."""
        arithmetic = replace(self.arithmetic, shift_u=self.shift_u)
        sums_kf, self.sums_kf = self.sums_kf, torch.zeros(0)
        count_k, mean_ku, scatter, energies = centred(sums_kf, self.packing, arithmetic)
        return LayerMoments(self.layer, self.nets, self.packing.units, count_k, mean_ku, scatter, images, energies)

    def state(self) -> dict[str, Tensor]:
        """All that a pass has read so far, see `Collector.state`."""
        self._beside.join()
        used = self._buffers[: -(-self._fill // self._images)]
        state = {
            "shift_u": self.shift_u.cpu(),
            "buffer_gus": torch.stack(used).cpu() if used else torch.empty(0),
            "block_n": torch.tensor(self._block_n, dtype=torch.long),
            "batches": torch.tensor(self._batches, dtype=torch.long),
            "batch": torch.tensor(self._batch),
            "bad_u": self._bad.batch_u.cpu(),
        }
        if self._open is not None:
            state["open_block"] = torch.tensor(self._open[0])
            if self._open[1].device != self.sums_kf.device:
                state["open_f"] = self._open[1].cpu()
        if len(self.sums_kf):
            read_k = self.sums_kf[:, 0].nonzero()[:, 0]
            state |= {"read_k": read_k.cpu(), "sums_kf": self.sums_kf[read_k].cpu()}
        return state

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on where `state` was taken."""
        self.shift_u = state["shift_u"].to(self.device)
        # copies, for they are aligned as ever, so that products round alike
        self._buffers = [x_us.to(self.device, copy=True) for x_us in state["buffer_gus"]]
        self._block_n, self._batches = state["block_n"].tolist(), state["batches"].tolist()
        self._fill, self._batch = len(self._block_n), int(state["batch"])
        self._bad.batch_u.copy_(state["bad_u"])
        if "sums_kf" in state:
            self._sums(0)
            self.sums_kf[state["read_k"].to(self.sums_kf.device)] = state["sums_kf"].to(self.sums_kf.device)
        if "open_block" in state:
            block = int(state["open_block"])
            self._open = (block, self._opened(block, state.get("open_f")))

    def _multiply(self, *, everything: bool) -> None:
        """Add the products of the full buffers, or of everything in them, to the sums."""
        m, p = self._images, self.positions
        full = self._fill // m
        for group in range(full + (everything and self._fill % m > 0)):
            first, stop = group * m, min(self._fill, (group + 1) * m)
            block_n = self._block_n[first:stop]
            x_us = self._buffers[group][:, : (stop - first) * p]
            for block in dict.fromkeys(block_n):  # nearly always one; several only where images come in foreign order
                of_block = [slot for slot, b in enumerate(block_n) if b == block]
                together = slice(of_block[0] * p, (of_block[-1] + 1) * p)
                side_by_side = of_block[-1] - of_block[0] < len(of_block)
                some = x_us if side_by_side else x_us.view(len(x_us), -1, p)
                part_us = some[:, together] if side_by_side else some[:, sent(of_block, self.device)].flatten(1)
                self._add(block, part_us, self._batches[first])
        left = 0 if everything else self._fill - full * m
        self._buffers = self._buffers[full:] + self._buffers[:full]  # what is left comes first
        self._block_n = self._block_n[self._fill - left : self._fill]
        self._batches = self._batches[self._fill - left : self._fill]
        self._fill = left

    def _add(self, block: int, x_us: Tensor, batch: int) -> None:
        if self._open is None or self._open[0] != block:
            self._finish_block()
            self._open = (block, self._opened(block))
        open_f = self._open[1]
        s_u = x_us.sum(1).double()
        self._bad.see(s_u, batch)
        open_f[0] += x_us.shape[1]
        self.packing.sums(open_f).add_(s_u)
        add_products(open_f, x_us, self.packing, self.product)

    def _sums(self, block: int) -> Tensor:
        """The sums of a block; the host's memory is taken from the system as blocks are read."""
        if not len(self.sums_kf):
            self.sums_kf = zeros(self.blocks, self.packing.size, self.device)
        return self.sums_kf[block]

    def _opened(self, block: int, open_f: Tensor | None = None) -> Tensor:
        """Where a block's sums are added to: all blocks' own where these lie where the work is done."""
        sums_f = self._sums(block)
        if sums_f.device == self.device:
            return sums_f if open_f is None else sums_f.add_(open_f.to(self.device))
        return torch.zeros_like(sums_f, device=self.device) if open_f is None else open_f.to(self.device)

    def _finish_block(self) -> None:
        block, open_f = self._open or (0, self.sums_kf)
        if self.sums_kf.device.type == "cpu":  # else nothing is to wait for a GPU
            self._bad.check(self.layer, self.units)
        if open_f.device != self.sums_kf.device:
            self.sums_kf[block] += open_f.cpu()
        self._open = None
