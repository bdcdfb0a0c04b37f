"""How often two events coincide, for all pairs of many events: exact matrix products of zeros and ones.

Axes: `i` and `j` events (a unit above an edge), `s` samples.
"""

from collections.abc import Callable
from functools import cache, partial

import torch
from torch import Tensor

from convergent.core.products import full_precision, least_seconds, portable
from convergent.errors import InputError

# bool a_is, b_js of at most `SAMPLES` columns -> in how many samples both are true, shape (i, j), int32
Count = Callable[[Tensor, Tensor], Tensor]

# `packed` keeps two counts in the 24 digits that float32 adds exactly, 12 for each: up to 4095 samples.
_DIGITS = 12
SAMPLES = 4032  # of one product: below that, and a multiple of what processors and GPUs read at once

# int8 is taken only if it is faster by this factor, so that noise decides nothing where they are alike.
_CLEARLY = 1.2


def int8(a_is: Tensor, b_js: Tensor) -> Tensor:
    """Coincidences by the int8 product, which adds in int32.

    The operator is private to torch: `chosen` tries and times it first, for it may be fifty times as slow as `packed`.
    """
    rows, columns = len(a_is), len(b_js)
    if a_is.device.type == "cuda":  # its kernels take whole eights only, and more than 16 rows
        a_is, b_js = _padded(a_is, 24), _padded(b_js, 8)
    product_ij: Tensor = torch._int_mm(a_is.view(torch.int8), b_js.view(torch.int8).T)
    return product_ij[:rows, :columns]


def packed(a_is: Tensor, b_js: Tensor) -> Tensor:
    """Coincidences by the float32 product, two in one: the first half of a's events and 4096 times the second.

    Every partial sum is a whole number below 2^24, which float32 holds exactly, in whatever order they are added.
    """
    half = (len(a_is) + 1) // 2
    both_is = a_is[:half].float()
    both_is[: len(a_is) - half].add_(a_is[half:], alpha=1 << _DIGITS)
    with full_precision(both_is.device):
        both_ij = portable(both_is, b_js.float()).int()
    upper_ij = (both_ij >> _DIGITS)[: len(a_is) - half]
    return torch.cat([both_ij.bitwise_and_((1 << _DIGITS) - 1), upper_ij])


_BACKENDS: dict[str, Count] = {"int8": int8, "packed": packed}


def chosen(counts: str, device: torch.device) -> Count:
    """The backend of that name, or for "auto" the faster; all are exact, so processes may choose differently.

    Raises:
        InputError: if there is no such backend, or this machine does not have it.
    """
    if counts not in ("auto", *_BACKENDS):
        raise InputError(f"counts needs to be auto, int8 or packed, not {counts!r}.")
    if counts == "int8" and not _works(device):
        raise InputError("This torch has no int8 product on this device; choose counts=auto.")
    return _BACKENDS[("int8" if _faster(device) else "packed") if counts == "auto" else counts]


@cache
def _works(device: torch.device) -> bool:
    """Whether the private operator exists and agrees with float32."""
    events = torch.rand(70, 264, generator=torch.Generator().manual_seed(0)) < 0.5
    a_is, b_js = events[:27].to(device), events[27:].to(device)
    try:
        return torch.equal(int8(a_is, b_js).int(), packed(a_is, b_js))
    except (AttributeError, RuntimeError, TypeError):
        return False


@cache
def _faster(device: torch.device) -> bool:
    """Whether int8 is clearly faster here, by some twenty milliseconds of either on a processor."""
    if not _works(device) or device.type != "cpu":
        return _works(device)
    a_is, b_js = torch.ones(128, 1024, dtype=torch.bool), torch.ones(128, 1024, dtype=torch.bool)

    by_packed, by_int8 = (least_seconds(partial(count, a_is, b_js), 4) for count in (packed, int8))
    return by_packed > _CLEARLY * by_int8


def _padded(x_is: Tensor, least: int) -> Tensor:
    """Rows and columns filled up with events that never happen, to multiples of 8, and to so many rows."""
    rows, columns = max(least, -(-len(x_is) // 8) * 8), -(-x_is.shape[1] // 8) * 8
    return torch.nn.functional.pad(x_is, (0, columns - x_is.shape[1], 0, rows - len(x_is)))
