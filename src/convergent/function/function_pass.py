"""One pass over the images for all maps of a layer: each net is run on with each map in place of its own units.

Axes: `n` images of a batch, `c` classes, `b` units of a net, `p` positions, `v` maps, `k` blocks of images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from convergent.core.prediction import Prediction
from convergent.errors import InputError
from convergent.function.judged import SUMS, Judged, decisions
from convergent.function.stitch import Site, check_sizes, logits_of, predicted
from convergent.function.stitches import RESTORED, Stitch
from convergent.streaming.collector import Collector, First, Start, over_processes
from convergent.streaming.deal import Deal
from convergent.streaming.layers import Layer
from convergent.streaming.loader import device_of
from convergent.streaming.pre_activations import PreActivations
from convergent.streaming.reading import Reading
from convergent.streaming.rotations import Rotations

_AT_ONCE = 2**27  # bytes of a layer's activations that are sent through the rest of a net together
_IMAGES = 2048
_CALIBRATION = 4


class FunctionPass(Collector):
    """Judges all maps of one layer while nets read images, none of which a map was fitted to.

    Net b's rest is run on as many images at once as there are maps, where nothing goes round the layer; otherwise, as inside
    a residual block, the whole net is.

    Args:
        nets: by name.
        layer: its name, and the path of its module in each net.
        images: that were measured; those that are read here are some of these.
        first: gives the first images.
        reading: how activations are read.
        stitches: the maps.
        lowest: what no unit of a net falls below, shape (q,), by the net's name; nets that are not there have no bound.
        rotations: of the nets, where maps are from rotated ones.

    Raises:
        InputError: if nets cannot take one another's place, or a net's output does not depend on the layer.
    """

    def __init__(
        self,
        nets: Mapping[str, nn.Module],
        layer: tuple[str, Layer],
        images: int,
        first: First,
        reading: Reading,
        stitches: Sequence[Stitch],
        lowest: Mapping[str, Tensor],
        rotations: Rotations | None = None,
    ) -> None:
        name, paths = layer
        super().__init__(nets, {name: paths}, reading, rotations)
        self.layer, self._modules = name, nets
        self.stitches = [replace(stitch, versions=[version]) for stitch in stitches for version in stitch.versions]
        self._sites = {
            net: Site(nets[net], path, net, reading.units_of(net), reading.output) for net, path in paths.items()
        }
        self.deal = Deal(images, reading.blocks, reading.group_n)
        self._deals = {stitch.dealt: Deal(images, stitch.dealt, reading.group_n) for stitch in stitches}
        device = device_of(next(iter(nets.values())))
        self._lowest = {net: bound.float().to(device)[:, None] for net, bound in lowest.items()}
        placed = cache(lambda of: _placed(of, device))  # maps of several versions and subsets have the same
        self._predictions = [[placed(of) for of in stitch.predictions] for stitch in self.stitches]
        shape = len(self.stitches), self.deal.blocks, len(SUMS)
        self.sums_vks = torch.zeros(shape, dtype=torch.float64, device=device)
        self.difference_v = torch.zeros(len(self.stitches), device=device)
        self._of_b = {
            b: [v for v, stitch in enumerate(self.stitches) if stitch.b == b]
            for b in dict.fromkeys(of.b for of in stitches)
        }
        self._sources = {stitch.source for stitch in stitches} | set(self._of_b)
        self._x: dict[str, Tensor] = {}
        self._given: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}
        self._own: dict[str, Tensor] = {}
        self._target_n: Tensor | None = None
        self._handles: list[Any] = []
        self._together = self._calibrate(first)

    @classmethod
    def start(
        cls, layer: tuple[str, Layer], reading: Reading, stitches: Sequence[Stitch], lowest: Mapping[str, Tensor]
    ) -> Start:
        """What starts this collector in a pass; arguments as for the class. It makes the rotations that maps are from."""

        def started(nets: Mapping[str, nn.Module], images: int | None, first: First) -> FunctionPass:
            assert images is not None
            every, rotations = replace(reading, sample="every"), None  # what is replaced is so at all positions
            if any(stitch.name == "rotated" for stitch in stitches):
                some = {net: nets[net] for net in dict.fromkeys(of.a for of in stitches if of.a)}
                paths = {net: layer[1][net] for net in some}
                rotations = Rotations(some, {layer[0]: paths}, every, first, lambda _units: 1)
            return cls(nets, layer, images, first, every, stitches, lowest, rotations)

        return started

    def __enter__(self) -> FunctionPass:
        super().__enter__()
        for b in self._of_b:
            net = self._modules[b]
            self._handles.append(net.register_forward_pre_hook(partial(self._take_input, b), with_kwargs=True))
            self._handles.append(net.register_forward_hook(partial(self._take_output, b)))
        return self

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        while self._handles:
            self._handles.pop().remove()

    def label(self, target_n: Tensor) -> None:
        """Take the classes of the batch's images."""
        self._target_n = target_n

    def see(self, net: str, layer: str, activation: Tensor) -> None:
        """Keep the activations that maps are from."""
        if net in self._sources:
            x_nb = self.by_unit(net, layer, activation)
            self._x[net] = (x_nb.flatten(2) if x_nb.ndim > 2 else x_nb[:, :, None]).clone()

    def end(self) -> None:
        """Judge every map on the batch."""
        super().end()
        for b, maps in self._of_b.items():
            n = len(self._x[b])
            at_once = max(1, min(_AT_ONCE // self._x[b].nbytes, _IMAGES // n))
            for first in range(0, len(maps), at_once):
                some = maps[first : first + at_once]
                logits_nc = self._rest(b, torch.cat([self._made(v) for v in some]), together=self._together[b])
                self._add(b, some, logits_nc.view(len(some), n, *logits_nc.shape[1:]))
        self._x, self._own, self._given = {}, {}, {}

    def collected(self) -> dict[str, Judged]:
        """The sums of the layer over all processes."""
        sums_vks, difference_v = self.sums_vks.cpu(), self.difference_v.cpu()
        over_processes(sums_vks)
        return {self.layer: Judged(self.stitches, sums_vks, difference_v)}

    def state(self) -> dict[str, Tensor]:
        """The sums so far."""
        return super().state() | {"sums": self.sums_vks.cpu(), "difference": self.difference_v.cpu()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on where `state` was taken."""
        super().load_state(state)
        self.sums_vks.copy_(state["sums"])
        self.difference_v.copy_(state["difference"])

    def plan(self) -> str:
        """How many maps are judged, and how each net's rest is run."""
        nets = ", ".join(f"{net} {'from the layer on' if joint else 'whole'}" for net, joint in self._together.items())
        return f"{self.layer}: {len(self.stitches)} maps; {nets}"

    def _made(self, v: int) -> Tensor:
        """What a map gives for a batch, each image by the fold that left it out, shape (n, b, p)."""
        stitch, x_nap, own_nbp = self.stitches[v], self._x[self.stitches[v].source], self._x[self.stitches[v].b]
        folds, deal = self._predictions[v], self._deals[self.stitches[v].dealt]
        check_sizes(x_nap, own_nbp, folds[0].weight_ab, self._sites[stitch.b].where)
        fold_n = (deal.block(self.image_n) * stitch.blocks // deal.blocks) % len(folds)
        made_nbp = torch.empty_like(own_nbp, dtype=x_nap.dtype)
        for fold in sorted(set(fold_n.tolist())):
            of_fold = (fold_n == fold).nonzero()[:, 0].to(x_nap.device)
            made_nbp[of_fold] = predicted(folds[fold], x_nap[of_fold], restored=stitch.versions[0] == RESTORED)
        if stitch.b in self._lowest:
            made_nbp = made_nbp.maximum(self._lowest[stitch.b])
        if (positions := made_nbp.shape[2]) > 1:  # what is no sample, as the first token, no map is of
            dropped = [p for p in self.reading.drop if -positions <= p < positions]
            made_nbp[:, :, dropped] = own_nbp[:, :, dropped].to(made_nbp.dtype)
        if stitch.units_fb is None:
            return made_nbp
        return made_nbp.where(stitch.units_fb[fold_n][:, :, None].to(made_nbp.device), own_nbp)

    def _rest(self, b: str, x_nbp: Tensor, *, together: bool) -> Tensor:
        """What net b gives with other activations in its layer, of several times as many images as the batch has."""
        site, (args, kwargs), n = self._sites[b], self._given[b], len(self._x[b])
        times = len(x_nbp) // n
        if not together:
            args, kwargs = tree_map(
                lambda x: torch.cat([x] * times) if isinstance(x, Tensor) and x.ndim and len(x) == n else x,
                (args, kwargs),
            )
        with PreActivations.looking_away(), site.replaced(lambda own: site.as_output(x_nbp.to(own.dtype), own)):
            return logits_of(self._modules[b](*args, **kwargs), b)

    def _take_input(self, b: str, _net: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._given.setdefault(b, (args, kwargs))

    def _take_output(self, b: str, _net: nn.Module, _args: object, output: object) -> None:
        self._own.setdefault(b, logits_of(output, b))

    def _add(self, b: str, maps: Sequence[int], logits_vnc: Tensor) -> None:
        """Add what is left of net b's decisions up, map by map and block by block."""
        own_nc, block_n = self._own[b], self.deal.block(self.image_n)
        if own_nc.ndim > 2:
            block_n = block_n[:, None].expand(own_nc.shape[:-1])
        sums_vts, counted_n = decisions(logits_vnc, own_nc, self._target_n)
        there, block_t = torch.tensor(maps, device=sums_vts.device), block_n[counted_n.cpu()].to(sums_vts.device)
        self.sums_vks[there] = self.sums_vks[there].index_add(1, block_t, sums_vts)
        difference_v = (logits_vnc - own_nc).abs().flatten(1).amax(1)
        self.difference_v[there] = self.difference_v[there].maximum(difference_v.to(self.difference_v.dtype))

    def _calibrate(self, first: First) -> dict[str, bool]:
        """Whether the rest of each net may be run for several maps at once; nets and layer are checked on the way.

        Raises:
            InputError: if nets have other classes than others, or a net's output does not depend on the layer.
        """
        self.image_n, seen = next(first(_CALIBRATION))
        together = {}
        with self, torch.inference_mode():
            self._capture.run(seen)
            if len({own_nc.shape[-1] for own_nc in self._own.values()}) > 1:
                classes = ", ".join(f"{own_nc.shape[-1]} in {net}" for net, own_nc in self._own.items())
                raise InputError(f"Nets judged by their decisions need the same classes ({classes}); name such nets.")
            for b in self._of_b:
                x_nbp, n = torch.cat([self._x[b], self._x[b] + 1]), len(self._x[b])
                logits_nc = self._rest(b, x_nbp, together=False)
                if torch.equal(logits_nc[:n], logits_nc[n:]):
                    raise InputError(
                        f"{self._sites[b].where} does not reach the net's output: nothing changes with other activations in "
                        "its place; choose a layer that its decisions depend on."
                    )
                try:
                    logits_of_both_nc = self._rest(b, x_nbp, together=True)
                    together[b] = torch.allclose(logits_of_both_nc, logits_nc, rtol=1e-3, atol=1e-4)
                except (RuntimeError, ValueError, InputError):  # something goes round the layer and is of other images
                    together[b] = False
        self._x, self._own, self._given = {}, {}, {}
        return together


def _placed(of: Prediction, device: torch.device) -> Prediction:
    return Prediction(*(getattr(of, field.name).to(device, torch.float32) for field in fields(of)))
