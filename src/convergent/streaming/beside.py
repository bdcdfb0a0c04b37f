"""Work of the pass that runs beside the nets on a GPU, on a stream of its own; on a processor it is done at once."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor

from convergent.memory import huge_zeros

_SHARE = 4  # sums stay on a GPU where they take no more than one in so many parts of its free memory


class Beside:
    """What one accumulator does on the pass's stream of a device.

    Memory that the nets' stream has written is read by `work`, in order; before it is written again, freed, or what came of
    the work is looked at, `join` makes the nets' stream wait for that work, not the processor.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self._stream = device, _stream(device)
        self._done: torch.cuda.Event | None = None

    @contextmanager
    def work(self) -> Iterator[None]:
        """What is done inside begins when all that the nets' stream was given so far is done."""
        if self._stream is None:
            yield
            return
        self._stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._stream):
            yield
        self._done = self._stream.record_event()

    def join(self) -> None:
        """What the nets' stream is given from now on begins when the work is done."""
        if self._done is not None:
            torch.cuda.current_stream(self.device).wait_event(self._done)
            self._done = None


def zeros(rows: int, columns: int, device: torch.device) -> Tensor:
    """Sums in float64 on a GPU with room for them, else on the host."""
    if room(device, rows * columns * 8):
        return torch.zeros(rows, columns, dtype=torch.float64, device=device)
    return huge_zeros(rows, columns)


def sent(numbers: Sequence[int] | Tensor, device: torch.device) -> Tensor:
    """Whole numbers of the host on a device, for which the processor does not wait."""
    numbers_n = torch.as_tensor(numbers)
    return numbers_n.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else numbers_n


def room(device: torch.device, size: int) -> bool:
    """Whether so many bytes are to lie on a GPU until the end of the pass, so that nothing waits for them to move."""
    return device.type == "cuda" and _SHARE * size <= torch.cuda.mem_get_info(device)[0]


@cache
def _stream(device: torch.device) -> torch.cuda.Stream | None:
    return torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
