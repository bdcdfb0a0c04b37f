"""Stitching: one net's units in the place of another's.

Axes: `n` images of a batch, `a` and `b` units of the two nets, `p` positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from convergent.core.alignment import Alignment
from convergent.core.prediction import Prediction
from convergent.errors import InputError
from convergent.streaming.capture import tensor_of
from convergent.streaming.layers import INPUT, JOINED, by_unit, find_layer, layout, module_and_call
from convergent.streaming.unit_axis import axis_by_type


class Site:
    """Where a net is cut: the output of one of its layers, as it is read and as it is replaced.

    Args:
        net: whose layer it is.
        path: of the layer's module, with `#CALL` where it is called several times.
        name: how a message calls the net.
        units: which axis they are, see `layers.by_unit`.
        output: which tensor of a layer that gives several, see `capture.tensor_of`.

    Raises:
        InputError: if there is no such layer, or it is what a module is given, or a population of several.
    """

    def __init__(
        self, net: nn.Module, path: str, name: str = "b", units: str = "auto", output: str | int | None = None
    ) -> None:
        self.net, self.path, self.name, self.units, self.output = net, path, name, units, output
        if INPUT in path or JOINED in path:
            raise InputError(
                f"{self.where} is no module's output, so nothing can take its place; choose the module that gives it."
            )
        self.module, self.call = find_layer(net, path, name), module_and_call(path)[1] or 0
        self.by_type = axis_by_type(net, path)

    @property
    def where(self) -> str:
        """How a message names it."""
        return f"Layer {self.path} of net {self.name}"

    def by_unit(self, activation: Tensor) -> Tensor:
        """An activation with its units in axis 1 and its positions in axis 2, shape (n, units, p)."""
        x_nc = by_unit(activation, layout(activation.shape, self.units, self.by_type), self.where)
        return x_nc.flatten(2) if x_nc.ndim > 2 else x_nc[:, :, None]

    def as_output(self, x_ncp: Tensor, like: Tensor) -> Tensor:
        """The other way round: laid out as an activation of this layer, of any number of images."""
        axis = layout(like.shape, self.units, self.by_type)
        x_nc = x_ncp.movedim(1, -1) if axis == "last" else x_ncp
        return x_nc.reshape(len(x_ncp), *like.shape[1:]).contiguous()  # as a module that views it wants it

    @contextmanager
    def read(self) -> Iterator[list[Tensor]]:
        """While open, a list that gets the layer's activation in each forward pass."""
        seen: list[Tensor] = []

        def keep(activation: Tensor) -> None:
            seen.append(activation.clone())  # a later module may overwrite it

        with self._hooked(keep):
            yield seen

    @contextmanager
    def replaced(self, make: Callable[[Tensor], Tensor]) -> Iterator[None]:
        """While open, the rest of the net goes on with what is made of the layer's activation."""
        with self._hooked(make):
            yield

    @contextmanager
    def _hooked(self, take: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
        calls = 0

        def hook(_module: nn.Module, _args: object, output: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls - 1 != self.call:
                return None
            made = take(tensor_of(output, self.output, self.where))
            return None if made is None else _with_part(output, self.output, made)

        def begin(_module: nn.Module, _args: object) -> None:
            nonlocal calls
            calls = 0

        handles = [self.net.register_forward_pre_hook(begin), self.module.register_forward_hook(hook)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


class Stitched(nn.Module):
    """Net b with a layer's units predicted from net a's: a module like any other, that takes what both nets take.

    Of net a nothing is used but the layer; of net b all that comes behind its own. Both run whole, in the mode they are in,
    and nothing is left on them.

    Args:
        a: the net that predicts.
        b: the net whose layer is replaced.
        layer: path of the layer in both nets, or the two paths.
        alignment: of the two nets in this layer, as a method gives it, or one of its `predictions`, each fitted without a
            fold of the images.
        restored: give each unit its variance back, which a prediction that explains part of it has lost.
        lowest: what no unit of b falls below, a number or shape (q,), such as 0 behind a ReLU; None for no bound.

    Raises:
        InputError: if a net has no such layer, or the alignment is of other numbers of units than the nets have.

    Source: Lenc, Vedaldi 2015, "Understanding image representations by measuring their equivariance and equivalence";
        Bansal, Nakkiran, Barak 2021, "Revisiting model stitching"; for the variance Jordan et al. 2023, "REPAIR".
    """

    def __init__(
        self,
        a: nn.Module,
        b: nn.Module,
        layer: str | Sequence[str],
        alignment: Alignment | Prediction,
        *,
        restored: bool = False,
        lowest: float | Tensor | None = None,
    ) -> None:
        super().__init__()
        # modules of their own, so that their layers are no layers of a's and b's; the weights are the same
        self.a, self.b = (deepcopy(net, {id(x): x for x in [*net.parameters(), *net.buffers()]}) for net in (a, b))
        path_a, path_b = (layer, layer) if isinstance(layer, str) else layer
        self._a, self._b = Site(self.a, path_a, "a"), Site(self.b, path_b, "b")
        of = Prediction.of(alignment.map_ab, alignment.pair) if isinstance(alignment, Alignment) else alignment
        for name in ("weight_ab", "mean_a", "mean_b", "gain_b"):
            self.register_buffer(name, getattr(of, name).float(), persistent=False)
        bound = torch.tensor(-torch.inf) if lowest is None else torch.as_tensor(lowest, dtype=torch.float32)
        self.register_buffer("lowest_b", bound.expand(len(of.mean_b)).clone(), persistent=False)
        self.restored = restored

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What net b gives with its layer predicted from net a's.

        Raises:
            InputError: if net a never calls the layer, or the nets' numbers of units or positions do not fit.
        """
        with self._a.read() as seen:
            self.a(*args, **kwargs)
        if not seen:
            raise InputError(f"{self._a.where} was never called in the forward pass; choose another layer.")
        x_nap = self._a.by_unit(seen[-1])

        def in_its_place(activation: Tensor) -> Tensor:
            check_sizes(x_nap, self._b.by_unit(activation), self.weight_ab, self._b.where)  # type: ignore[arg-type]
            of = Prediction(self.weight_ab, self.mean_a, self.mean_b, self.gain_b)  # type: ignore[arg-type]
            y_nbp = predicted(of, x_nap, restored=self.restored).maximum(self.lowest_b[:, None])  # type: ignore[index]
            return self._b.as_output(y_nbp.to(activation.dtype), activation)

        with self._b.replaced(in_its_place):
            return self.b(*args, **kwargs)


def predicted(of: Prediction, x_nap: Tensor, *, restored: bool) -> Tensor:
    """Net b's units as they are predicted, if asked for with their variance restored, shape (n, q, p)."""
    off_nbp = torch.einsum("nap,ab->nbp", x_nap.to(of.weight_ab.dtype) - of.mean_a[:, None], of.weight_ab)
    return of.mean_b[:, None] + (off_nbp * of.gain_b[:, None] if restored else off_nbp)


def check_sizes(x_nap: Tensor, x_nbp: Tensor, weight_ab: Tensor, where: str) -> None:
    """Refuse activations that a map does not belong to.

    Raises:
        InputError: if the numbers of units or of positions differ.
    """
    if (x_nap.shape[1], x_nbp.shape[1]) != tuple(weight_ab.shape):
        raise InputError(
            f"{where} has {x_nbp.shape[1]} units and the other net's {x_nap.shape[1]}, but the alignment is of "
            f"{weight_ab.shape[1]} and {weight_ab.shape[0]}; take the alignment of this layer of these nets."
        )
    if x_nap.shape[2] != x_nbp.shape[2]:
        raise InputError(
            f"{where} has {x_nbp.shape[2]} positions and the other net's {x_nap.shape[2]}, so one cannot take the other's "
            "place; choose layers with the same positions."
        )


def logits_of(output: object, net: str) -> Tensor:
    """A net's output as logits, classes last.

    Raises:
        InputError: if it is none.
    """
    logits_nc = tensor_of(output, None, f"Net {net}")
    if logits_nc.ndim < 2 or not logits_nc.is_floating_point():
        raise InputError(
            f"Decisions need a net that gives a row of logits for each image, but net {net} gives a tensor of shape "
            f"{tuple(logits_nc.shape)}; judge nets that do."
        )
    return logits_nc


def _with_part(output: Any, name: str | int | None, made: Tensor) -> Any:
    """A layer's output with the tensor that `capture.tensor_of` takes from it replaced."""
    if isinstance(output, Tensor):
        return made
    if isinstance(output, Mapping):
        changed = dict(output) | {name if name is not None else next(iter(output)): made}
        made_of: Any = type(output)
        return made_of(**changed) if is_dataclass(output) else made_of(changed)
    if is_dataclass(output) and not isinstance(output, type):
        return replace(output, **{str(name or fields(output)[0].name): made})
    parts = list(output)
    names = [*getattr(output, "_fields", range(len(parts)))]
    place = 0 if name is None else names.index(name) if name in names else int(name)
    parts[place] = _with_part(parts[place], None, made)
    return type(output)(*parts) if hasattr(output, "_fields") else type(output)(parts)
