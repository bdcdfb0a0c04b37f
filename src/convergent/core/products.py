"""Matrix products of the statistics pass: the fastest that this machine has, tested to agree, `torch.mm` as fallback.

Axes: `i` and `j` units, `s` samples.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor

from convergent.errors import InputError

# a_is, b_js -> their product over s, shape (i, j)
Product = Callable[[Tensor, Tensor], Tensor]

# A backend is taken only if it is faster by this factor, so that noise decides nothing where they are alike.
_CLEARLY = 1.2


def portable(a_is: Tensor, b_js: Tensor) -> Tensor:
    """The product by `torch.mm`, which every device and type has."""
    return a_is @ b_js.T


def onednn(a_is: Tensor, b_js: Tensor) -> Tensor:
    """The product by oneDNN, which has kernels for AVX-512 where torch's BLAS does not use them (on AMD's processors).

    The operator is private to torch: `fastest` tries it first; where gaps in rows slow it down, `torch.mm` steps in.
    """
    if not (a_is.is_contiguous() and b_js.is_contiguous()):
        return portable(a_is, b_js)
    return torch.ops.mkldnn._linear_pointwise(a_is, b_js, None, "none", [], "")  # type: ignore[no-any-return]


def tf32(a_is: Tensor, b_js: Tensor) -> Tensor:
    """The product of operands rounded to 11 bits, on a GPU some four times as fast; correlations err by 1e-6 to 1e-4."""
    with _precision("high"):
        return a_is @ b_js.T


_BACKENDS: dict[str, Product] = {"portable": portable, "onednn": onednn, "tf32": tf32}


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Products of float32 in float32, whatever the nets' own were set to, autocast included."""
    with _precision("highest"), torch.autocast(device.type, enabled=False):
        yield


@contextmanager
def _precision(name: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def chosen(products: str, device: torch.device, dtype: torch.dtype) -> Product:
    """The backend of that name, or for "auto" the fastest, the same in all processes.

    Operands on a processor that are not float32 are left to `torch.mm`; tf32 is of GPUs.

    Raises:
        InputError: if there is no such backend, or this machine does not have it.
    """
    if products not in ("auto", *_BACKENDS):
        raise InputError(f"products needs to be auto, portable, onednn or tf32, not {products!r}.")
    if products == "tf32" and device.type != "cuda":
        raise InputError("products=tf32 needs a GPU; choose products=auto.")
    if products == "tf32" and dtype == torch.float32:
        return tf32
    if products == "portable" or device.type != "cpu" or dtype != torch.float32:
        return portable
    if products == "onednn":
        if not _works():
            raise InputError("This torch has no oneDNN product; choose products=auto.")
        return onednn
    faster = torch.tensor(float(_faster()))
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        if torch.distributed.get_backend() == "nccl":
            faster = faster.cuda()
        torch.distributed.all_reduce(faster, torch.distributed.ReduceOp.MIN)
    return onednn if faster else portable


@cache
def _works() -> bool:
    """Whether the private operator exists and agrees with `torch.mm`."""
    a_is, b_js = _operands((5, 300), (70, 300))
    try:
        return bool(torch.allclose(onednn(a_is, b_js), portable(a_is, b_js), atol=1e-3))
    except (AttributeError, RuntimeError, TypeError):
        return False


@cache
def _faster() -> bool:
    """Whether oneDNN is clearly faster here, by some twenty milliseconds of either."""
    if not _works():
        return False
    a_is, b_js = _operands((64, 4096), (512, 4096))
    return least_seconds(lambda: portable(a_is, b_js)) > _CLEARLY * least_seconds(lambda: onednn(a_is, b_js))


def _operands(*shapes: tuple[int, int]) -> list[Tensor]:
    """Random matrices of their own generator: a caller's random numbers are not to depend on what is tried here."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def least_seconds(run: Callable[[], object], times: int = 8) -> float:
    """The shortest of some runs: what the others took longer was the machine's other work."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
