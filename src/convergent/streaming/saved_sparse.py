"""Sparse records of a layer's moments on disk.

Axes: `k` blocks of images, `u` units of all nets side by side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from convergent.core.sparse_layer_moments import SparseLayerMoments
from convergent.core.sparse_products import Sparse, matrix_of, tensors_of
from convergent.storage.tensors import opened

SQUARES = "square_ku"  # of sparse records only
_PARTS = "starts", "columns", "values"


def sparse_tensors(moments: SparseLayerMoments) -> dict[str, Tensor]:
    """What is saved of a sparse record beside what is saved of all."""
    tensors = {SQUARES: moments.square_ku}
    for (i, j), of_pair in moments.products.items():
        for k, product in enumerate(of_pair):
            tensors |= {f"products {i} {j} {k} {part}": x for part, x in tensors_of(product).items()}
    return tensors


class SavedProducts(Mapping[tuple[int, int], Sequence[Sparse]]):
    """The products of a file by (i, j), read when asked for: not all need fit into memory."""

    def __init__(self, file: Path, prefix: str, units: Sequence[slice]) -> None:
        self.file, self.prefix, self.units = file, f"{prefix}products ", units
        with opened(file) as saved:
            names = [key.removeprefix(self.prefix).split() for key in saved.keys() if key.startswith(self.prefix)]  # noqa: SIM118  (no mapping)
        self._keys = sorted({(int(i), int(j)) for i, j, *_ in names})
        self._blocks = 1 + max((int(k) for _, _, k, _ in names), default=-1)

    def __getitem__(self, key: tuple[int, int]) -> list[Sparse]:
        if key not in self._keys:
            raise KeyError(key)
        i, j = key
        shape = (self.units[i].stop - self.units[i].start, self.units[j].stop - self.units[j].start)
        with opened(self.file) as saved:
            every = (f"{self.prefix}{i} {j} {k}" for k in range(self._blocks))
            return [matrix_of({part: saved.get_tensor(f"{of} {part}") for part in _PARTS}, shape) for of in every]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)
