"""The accumulator of layers whose activations are nearly all zero: sparse autoencoders, top-k codes.

It makes the sums of `accumulate.Accumulator`, in float64, from the entries that are not zero: of each sample as many
products as pairs of active units, not as pairs of units. What fits is handed on as the dense record, what does not stays
sparse: units that are never active together have no entry.

Axes: `n` images of a batch, `c` units of one net, `p` positions, `s` samples, `k` blocks of images, `f` sums of a `Packing`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product

import scipy.sparse as sp
import torch
from torch import Tensor

from convergent.core.layer_moments import LayerMoments
from convergent.core.packing import Packing, blocks_within
from convergent.core.sparse_layer_moments import SparseLayerMoments
from convergent.core.sparse_products import Sparse, active_entries, add_products, by_rows, matrix_of, tensors_of
from convergent.errors import InputError
from convergent.streaming.activity import Activity
from convergent.streaming.arithmetic import Arithmetic, centred
from convergent.streaming.collector import over_processes
from convergent.streaming.layers import check_size
from convergent.streaming.reading import Reading
from convergent.streaming.sparse_exchange import sum_of_processes

# At least and at most so many products are worth a matrix product; and so many entries are kept for it at most.
_PRODUCTS, _ENTRIES = (1 << 22, 1 << 27), 1 << 24


class SparseAccumulator:
    """Second moments of one layer of k nets, per block of images, in one pass; used as `accumulate.Accumulator` is.

    Args:
        layer: its name.
        widths: number of units of each net, by name.
        positions: samples per image.
        blocks: of images.
        packing: of these nets: which are to be compared.
        activity: of the layer.
        sparse: whether the record stays sparse, and then has squares only within nets.
    """

    dtype, products = torch.float64, "sparse"

    @classmethod
    def where_faster(
        cls, layer: str, seen: Mapping[str, Tensor], packing: Packing, blocks: int, samples: float, reading: Reading
    ) -> SparseAccumulator | None:
        """What sums a layer, given samples of each net, shape (n, c, p); None where dense products are faster.

        On a GPU these are wherever their record fits. One that would not fit with two blocks stays sparse.
        """
        if reading.products not in ("auto", "sparse"):
            return None
        first, wide = next(iter(seen.values())), min(2, blocks) * packing.unfolded_size * 8 > reading.block_memory
        packing = replace(packing, within=False, energies=False) if wide else packing
        activity = Activity.of(seen, packing, samples)
        if reading.products == "auto" and not (activity.suits and (wide or first.device.type == "cpu")):
            return None
        fewer = activity.blocks if wide else blocks_within
        widths = {net: x_ncp.shape[1] for net, x_ncp in seen.items()}
        blocks = fewer(packing, blocks, reading.block_memory)
        return cls(layer, widths, first.shape[2], blocks, packing, activity, sparse=wide)

    def __init__(
        self,
        layer: str,
        widths: Mapping[str, int],
        positions: int,
        blocks: int,
        packing: Packing,
        activity: Activity,
        *,
        sparse: bool = False,
    ) -> None:
        self.layer, self.nets, self.positions, self.blocks = layer, list(widths), positions, blocks
        self.packing, self.activity, self.sparse = packing, activity, sparse
        self.units = dict(zip(widths, packing.units))
        self.device = torch.device("cpu")  # of all sums
        self._small = replace(packing, pairs=[], within=False)  # all sums but the products
        self.sums_kf = torch.zeros(blocks, self._small.size, dtype=torch.float64)
        self._products: dict[tuple[int, int, int], Sparse] = {}  # of a block and two nets
        self._parts: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {net: [] for net in widths}  # not yet multiplied
        self._blocks: list[Tensor] = []  # of their samples
        self._batch, self._entries, self._pending = -1, 0.0, 0.0  # entries that are kept, products that are to be made

    @property
    def memory(self) -> int:
        """Bytes of host memory that the sums take by the end of the pass, at most."""
        dense = self.blocks * self.packing.size * 8
        return self.activity.memory(self.packing, self.blocks) if self.sparse else dense

    @property
    def pass_memory(self) -> int:
        """Bytes of host memory that a pass takes: sums, a copy of them while they are saved, and entries not multiplied."""
        entries = self.activity.density * self.packing.width * (self.activity.samples or torch.inf)
        return 2 * self.memory + int(24 * min(entries, _ENTRIES))

    @property
    def method_memory(self) -> int:
        """Bytes that aligning two nets takes: the record; where it is dense, that and some six matrices made of it."""
        widest = sum(sorted(units.stop - units.start for units in self.units.values())[-2:])
        return 3 * self.memory if self.sparse else int((2 * self.blocks + 6) * widest**2 * 8)

    def begin(self, block_n: Sequence[int]) -> None:
        """Start a batch of images, given the block of each."""
        self._batch += 1
        self._blocks.append(torch.tensor(block_n, dtype=torch.long).repeat_interleave(self.positions))

    def write(self, net: str, x_ncp: Tensor) -> None:
        """Take one net's activations of the batch, shape (n, c, p), whatever later happens to that memory.

        Raises:
            InputError: if the net's units or positions are not those announced, or activations are NaN or infinite.
        """
        units = self.units[net]
        check_size(x_ncp, units.stop - units.start, self.positions, f"Layer {self.layer} of net {net}")
        count_s, column, value = active_entries(x_ncp.transpose(1, 2).flatten(0, 1))
        if not torch.isfinite(value).all():
            raise InputError(
                f"Layer {self.layer} of net {net} gives NaN or infinite activations (unit "
                f"{int(column[~torch.isfinite(value)][0])}, from batch {self._batch} on); "
                "check its weights and the images, or leave this net or layer out."
            )
        self._parts[net].append((count_s, column, value))

    def end(self) -> None:
        """Finish the batch: multiply once the products are as many as the sums that they are added to."""
        self._count_last()
        if self._entries < _ENTRIES:
            if self._pending < min(max(_PRODUCTS[0], self.packing.size / 2), _PRODUCTS[1]):
                return
            waiting = torch.unique(torch.cat(self._blocks)).tolist()
            if self._pending < sum(of.nnz for (block, _, _), of in self._products.items() if block in waiting):
                return
        self._multiply()

    def close(self) -> None:
        """Finish the pass: every block's sums are there."""
        self._multiply()

    def over_processes(self) -> None:
        """Add the sums of all processes up, in all of them."""
        over_processes(self.sums_kf)
        for block, (i, j) in product(range(self.blocks), self.packing.blocks()):
            whole = sum_of_processes(self._products.pop((block, i, j), None), self._shape(i, j))
            self._products |= {(block, i, j): whole} if whole.nnz else {}

    def moments(self, images: int) -> LayerMoments:
        """The record of all that was read; it takes over the memory of the sums, so this is the last call."""
        if self.sparse:
            return self._sparse_moments(images)
        sums_kf = torch.zeros(self.blocks, self.packing.size, dtype=torch.float64)
        head = 1 + self.packing.width * (1 if self.packing.within else 2)  # count, sums, and squares if need be
        sums_kf[:, :head] = self.sums_kf[:, :head]
        if self.packing.energies:
            for into, of in zip(self.packing.energy(sums_kf), self._small.energy(self.sums_kf)):
                into.copy_(of)
        while self._products:
            (block, i, j), matrix = self._products.popitem()
            self.packing.add(sums_kf[block], i, j, torch.from_numpy(matrix.toarray()))
        arithmetic = Arithmetic(torch.zeros(self.packing.width))
        count_k, mean_ku, scatter, energies = centred(sums_kf, self.packing, arithmetic)
        return LayerMoments(self.layer, self.nets, self.packing.units, count_k, mean_ku, scatter, images, energies)

    def _sparse_moments(self, images: int) -> SparseLayerMoments:
        count_k, products = self.sums_kf[:, 0], {}
        for i, j in self.packing.pairs:
            empty = sp.csr_array(self._shape(i, j))
            products[i, j] = [self._products.pop((k, i, j), empty) for k in range(self.blocks)]
        mean_ku = self._small.sums(self.sums_kf) / count_k.clamp(min=1)[:, None]
        of_units, square_ku = (self.layer, self.nets, self.packing.units), self._small.squares(self.sums_kf)
        return SparseLayerMoments(*of_units, count_k, mean_ku, images, square_ku=square_ku, products=products)

    def state(self) -> dict[str, Tensor]:
        """All that a pass has read so far, see `Collector.state`."""
        state = {"sums_kf": self.sums_kf, "batch": torch.tensor(self._batch)}
        for key, matrix in self._products.items():
            state |= {f"{' '.join(map(str, key))}/{part}": x for part, x in tensors_of(matrix).items()}
        if self._blocks:
            state["block_s"] = torch.cat(self._blocks)
            for net, parts in enumerate(self._parts.values()):
                state |= {f"waiting {net} {part}": torch.cat(x) for part, x in enumerate(zip(*parts))}
        return state

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on where `state` was taken."""
        self.sums_kf.copy_(state["sums_kf"])
        self._batch = int(state["batch"])
        for name in dict.fromkeys(name.partition("/")[0] for name in state if "/" in name):
            block, i, j = map(int, name.split())
            parts = {part: state[f"{name}/{part}"] for part in ("starts", "columns", "values")}
            self._products[block, i, j] = matrix_of(parts, self._shape(i, j))
        if "block_s" in state:
            self._blocks = [state["block_s"]]
            for net, waiting in enumerate(self._parts.values()):
                count_s, column, value = (state[f"waiting {net} {part}"] for part in range(3))
                waiting.append((count_s, column, value))
            self._count_last()

    def _count_last(self) -> None:
        """Count the entries that were written last, and the products that are to be made of them."""
        count_is = [self._parts[net][-1][0].double() for net in self.nets]
        self._entries += sum(float(count_s.sum()) for count_s in count_is)
        self._pending += sum(float(count_is[i] @ count_is[j]) for i, j in self.packing.blocks())

    def _multiply(self) -> None:
        """Add the products of what is kept to the sums of its blocks."""
        if not self._blocks:
            return
        block_s, x_of = torch.cat(self._blocks), []
        self._blocks, self._entries, self._pending = [], 0.0, 0.0
        for net, parts in self._parts.items():
            count_s, column, value = map(torch.cat, zip(*parts))
            parts.clear()
            x_of.append(by_rows(count_s, column, value, self.units[net].stop - self.units[net].start))
        for block in torch.unique(block_s).tolist():
            sample = (block_s == block).nonzero()[:, 0].numpy()
            self._add(block, x_of if len(sample) == len(block_s) else [x_su[sample] for x_su in x_of])

    def _add(self, block: int, x_of: Sequence[Sparse]) -> None:
        """Add some samples of a block to its sums, given each net's."""
        sums_f, small = self.sums_kf[block], self._small
        sums_f[0] += x_of[0].shape[0]
        energies = []
        for units, x_su in zip(small.units, x_of):
            squares_su = x_su.multiply(x_su)
            small.sums(sums_f)[units] += torch.from_numpy(x_su.sum(0))
            small.squares(sums_f)[units] += torch.from_numpy(squares_su.sum(0))
            energies.append(torch.from_numpy(squares_su.sum(1)))
        if small.energies:
            energy_is = torch.stack(energies)
            sum_i, with_energies_ij, with_units_iu = small.energy(sums_f)
            sum_i.add_(energy_is.sum(1))
            with_energies_ij.add_(energy_is @ energy_is.T)
            for units, x_su in zip(small.units, x_of):
                with_units_iu[:, units] += torch.from_numpy((x_su.T @ energy_is.numpy().T).T)
        for i, j in self.packing.blocks():
            key = (block, i, j)
            self._products[key] = add_products(self._products.pop(key, None), x_of[i], x_of[j])

    def _shape(self, i: int, j: int) -> tuple[int, int]:
        units = self.packing.units
        return units[i].stop - units[i].start, units[j].stop - units[j].start
