"""How activations are read: the options of a pass. Light to import, so that the command line is checked at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from convergent.errors import InputError
from convergent.options import FLAG, LATER, NULL, TEXT, aside, check_fields, listed, number, saying, table, whole, word

if TYPE_CHECKING:
    from torch import Tensor

_UNITS = word("auto", "channel", "last", "flat")


@dataclass(frozen=True)
class Reading:
    """How activations are read; options that are put aside (`options.aside`) change no correlation by more than 1e-6.

    Attributes:
        sample: of a layer with positions, see `layers.samples`.
        units: which axis of an activation they are, see `layers.by_unit`; or a dictionary that says so per net.
        blocks: of images; layers too wide for `block_memory` get a half, a quarter, ... of them.
        block_memory: bytes that one layer's blocks may take.
        products: backend of the float32 matrix products, see `products.chosen`; or sparse, in float64, which auto takes for
            layers that are nearly all zero, see `SparseAccumulator.where_faster`.
        device: where products are made and summed, as torch names it; None for where the nets are.
        layers_per_pass: read the images anew for every so many layers, to save memory; None for one pass where they fit.
        memory: bytes that the sums of a pass may take, see `divided_pass`; None for what is free.
        snapshot_minutes: between two snapshots of a pass.
        energies: whether the samples' energies are collected, see `energies.Energies`: a column more per net.
        output: which tensor of layers that give several, see `capture.tensor_of`; None for the first.
        drop: positions that are no samples, such as [0] for a class token; negative ones from the end.
        mask: which positions are samples and which are padding: the key of a mapping's mask, or a function from a batch to
            one, shape (n, positions), true for samples; None where all are.
        group_n: the group (document, video, subject) of each image by its number: groups are dealt into blocks whole, so
            that folds and intervals are over groups; None where every image is alone.
        forward: how a net takes a batch that is neither pictures nor a mapping of its arguments: forward(net, batch).

    Raises:
        InputError: if a value is none that its option can have.
    """

    sample: Annotated[str | int, word("every", "pooled", "centre") | whole(1)] = "every"
    units: Annotated[str | Mapping[str, str], _UNITS | saying("a dictionary from nets to these", table(_UNITS))] = (
        "auto"
    )
    blocks: Annotated[int, whole(1)] = 64
    block_memory: Annotated[float, number(0, above=True)] = 1e9
    products: Annotated[str, aside(word("auto", "portable", "onednn", "tf32", "sparse"))] = "auto"
    device: Annotated[str | None, aside(TEXT | NULL)] = None
    layers_per_pass: Annotated[int | None, aside(whole(1) | NULL)] = None
    memory: Annotated[float | None, aside(number(0, above=True) | NULL)] = None
    snapshot_minutes: Annotated[float, aside(number(0))] = 5.0
    energies: Annotated[bool, FLAG] = field(default=True, metadata=LATER)
    output: Annotated[str | int | None, TEXT | whole() | NULL] = field(default=None, metadata=LATER)
    drop: Annotated[Sequence[int], listed(whole(None), 0)] = field(default=(), metadata=LATER)
    mask: Any = field(default="attention_mask", metadata=LATER)
    forward: Any = field(default=None, metadata=LATER)
    group_n: Any = field(default=None, metadata=LATER, compare=False, repr=False)  # part of what the images are

    def __post_init__(self) -> None:
        check_fields(self)

    def units_of(self, net: str) -> str:
        """Where a net's activations have their units."""
        return self.units if isinstance(self.units, str) else self.units.get(net, "auto")

    def placed(self, x: Tensor) -> Tensor:
        """A tensor on the device where the work is to be done.

        Raises:
            InputError: if there is no such device.
        """
        if self.device is None:
            return x
        try:
            return x.to(self.device)
        except (RuntimeError, AssertionError) as error:  # torch raises either
            raise InputError(
                f"device needs to be cpu or a GPU that is here, not {self.device} ({str(error).splitlines()[0]})."
            ) from None
