"""Tensors on disk with a checksum, so that a flipped bit or a torn file is noticed and no wrong number made of it.

The files are safetensors. The checksum (CRC-32 of the whole file, its own digits as zeros) is an entry of their metadata.
"""

import json
import math
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convergent.errors import InputError

# this module imports torch only where tensors are made: what is done already is to be said at once

_SEAL = "crc32"
_ENTRY, _UNSEALED = f'"{_SEAL}":"'.encode(), "0" * 8  # what comes before the digits, and they before it is known
_REMEDY = "delete it, the next alignment of these nets makes it again"
_AT_ONCE = 1 << 24  # bytes
_TYPES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32",
          "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL"}  # fmt: skip
_checked: dict[Path, tuple[int, int]] = {}  # size and time of files that were found whole: each is read once


@dataclass(frozen=True)
class Pieces:
    """A tensor to be saved that is nowhere in memory as a whole: its entries come one piece after another."""

    shape: Sequence[int]
    dtype: Any
    pieces: Callable[[], Iterable[Any]]


def save_tensors(tensors: Mapping[str, Any], file: Path, about: Mapping[str, str] | None = None) -> None:
    """Save tensors, `Pieces` among them, and texts about them, with a checksum; what is in memory is not copied whole."""
    every = sorted(tensors.items(), key=lambda item: (-item[1].dtype.itemsize, item[0]))  # so that all are aligned
    head: dict[str, Any] = {"__metadata__": dict(sorted({**(about or {}), _SEAL: _UNSEALED}.items()))}
    end = 0
    for name, x in every:
        start, end = end, end + math.prod(x.shape) * x.dtype.itemsize
        head[name] = {
            "dtype": _TYPES[str(x.dtype).removeprefix("torch.")],
            "shape": list(x.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(head, separators=(",", ":"), ensure_ascii=False).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    content = bytearray(len(text).to_bytes(8, "little") + text)
    crc = zlib.crc32(content)
    with file.open("wb") as stream:
        stream.write(content)
        for _, x in every:
            for piece in x.pieces() if isinstance(x, Pieces) else _in_pieces(x):
                values = _bytes_of(piece)
                crc = zlib.crc32(values, crc)
                stream.write(values)
        stream.seek(content.index(_ENTRY) + len(_ENTRY))
        stream.write(f"{crc:08x}".encode())


def _in_pieces(x: Any) -> Iterator[Any]:
    """A tensor piece by piece along its first axes, each of little memory."""
    if x.nbytes <= _AT_ONCE or not x.ndim:
        yield x
    elif x[:1].nbytes > _AT_ONCE:
        for row in x:
            yield from _in_pieces(row)
    else:
        yield from x.split(max(1, _AT_ONCE // x[:1].nbytes))


def _bytes_of(x: Any) -> Any:
    import torch

    x = x.detach().cpu().contiguous()
    return x.as_strided((x.numel(),), (1,)).view(torch.uint8).numpy()  # whose strides of axes of length 1 may be any


def save_net(net: Any, file: Path) -> None:
    """Save the weights of a net (nn.Module), those that several layers share once, with a checksum."""
    from safetensors.torch import save_model

    _written(file, lambda: save_model(net, str(file), {_SEAL: _UNSEALED}))


def opened(file: Path, remedy: str = _REMEDY) -> Any:
    """A file of tensors that is as it was written, see `safetensors.safe_open`; the remedy is for the message.

    Raises:
        FileNotFoundError: if it is not there.
        InputError: if it is damaged.
    """
    from safetensors import SafetensorError, safe_open

    check(file, remedy)
    try:
        return safe_open(file, "pt")
    except SafetensorError as error:
        raise InputError(f"{file} is damaged ({error}); {remedy}.") from None


class SavedTensors(Mapping[tuple[int, int], Any]):
    """The tensors of a file that are called "NAME i j", by (i, j), read when asked for: not all need fit into memory."""

    _saved: Any = None  # the file, kept open: its list of many tensors takes longer to read than a small one of them

    def __init__(self, file: Path, name: str) -> None:
        self.file, self.name = file, name
        with opened(file) as saved:
            ends = [key.removeprefix(f"{name} ").split() for key in saved.keys() if key.startswith(f"{name} ")]  # noqa: SIM118  (no mapping)
        self._keys = sorted((int(i), int(j)) for i, j in ends)

    def __getitem__(self, key: tuple[int, int]) -> Any:
        if key not in self._keys:
            raise KeyError(key)
        if self._saved is None:
            self._saved = opened(self.file)
        return self._saved.get_tensor(f"{self.name} {key[0]} {key[1]}")

    def __getstate__(self) -> dict[str, Any]:  # another process opens it itself
        return {"file": self.file, "name": self.name, "_keys": self._keys}

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def check(file: Path, remedy: str = _REMEDY) -> None:
    """Find out, once as long as a file stays the same, whether its bytes are those that were written.

    A file without a checksum is of another program or an earlier version: nothing is known of it.

    Raises:
        FileNotFoundError: if it is not there.
        InputError: if it is damaged.
    """
    about = file.stat()
    now = about.st_size, about.st_mtime_ns
    if _checked.get(file) == now:
        return
    with file.open("rb") as stream:
        head = _head(stream, about.st_size)
        if _ENTRY in head:
            place = head.index(_ENTRY) + len(_ENTRY)
            seal, head[place : place + 8] = bytes(head[place : place + 8]), _UNSEALED.encode()
            if _crc(head, stream) != seal:
                raise InputError(f"{file} is damaged (its checksum is of other bytes); {remedy}.")
    _checked[file] = now


def _written(file: Path, write: Callable[[], None]) -> None:
    """Write a file and seal it.

    Raises:
        OSError: if it cannot be written, which safetensors calls an error of its own.
        SafetensorError: for anything else.
    """
    from safetensors import SafetensorError

    try:
        write()
    except SafetensorError as error:
        if number := re.search(r"os error (\d+)", str(error)):
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from None
        raise
    _seal(file)


def _seal(file: Path) -> None:
    """Put the checksum in its place; the metadata are sorted, for safetensors writes them in any order."""
    with file.open("r+b") as stream:
        head = _head(stream, file.stat().st_size)
        content = json.loads(head[8:])
        content["__metadata__"] = dict(sorted(content["__metadata__"].items()))
        text = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) <= len(head) - 8:
            head[8:] = text.ljust(len(head) - 8)
        place = head.index(_ENTRY) + len(_ENTRY)
        head[place : place + 8] = _crc(head, stream)
        stream.seek(0)
        stream.write(head)


def _head(stream: Any, size: int) -> bytearray:
    """The length of the header and the header, as far as there are any."""
    length = stream.read(8)
    return bytearray(length + stream.read(min(int.from_bytes(length, "little"), size)))


def _crc(head: bytes | bytearray, stream: Any) -> bytes:
    crc = zlib.crc32(head)
    while some := stream.read(_AT_ONCE):
        crc = zlib.crc32(some, crc)
    return f"{crc:08x}".encode()
