"""Tensors of pairs of nets in a file, read when asked for: whole layers of many nets need not fit into memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from convergent.storage.tensors import opened


class SavedTensors(Mapping[tuple[int, int], Tensor]):
    """The tensors of a safetensors file that are called "NAME i j", by (i, j).

    Args:
        file: as it was saved.
        name: what the tensors' names begin with.
    """

    def __init__(self, file: Path, name: str) -> None:
        self.file, self.name = file, name
        with opened(file) as saved:
            ends = [key.removeprefix(f"{name} ").split() for key in saved.keys() if key.startswith(f"{name} ")]  # noqa: SIM118  (no mapping)
        self._keys = sorted((int(i), int(j)) for i, j in ends)

    def __getitem__(self, key: tuple[int, int]) -> Tensor:
        if key not in self._keys:
            raise KeyError(key)
        with opened(self.file) as saved:
            return saved.get_tensor(f"{self.name} {key[0]} {key[1]}")  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)
