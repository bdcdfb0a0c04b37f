"""Joint histograms of every layer, counted while nets read the images: exact, on a seeded subset of the positions.

Axes: `n` images of a batch, `c` units of one net, `u` units of all nets, `p` positions, `s` samples, `k` folds of images.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from convergent.core.histogram_edges import edges_of
from convergent.core.histogram_source import Counting
from convergent.core.packing import Packing, blocks_within
from convergent.errors import InputError
from convergent.memory import check_memory
from convergent.streaming.capture import Capture, mask_of, places_of
from convergent.streaming.collector import Collector, First, Start, from_first_process, table_of
from convergent.streaming.deal import Deal
from convergent.streaming.histograms.layer_histograms import FoldCounter, LayerHistograms
from convergent.streaming.layers import Layers, Pairs, check_size, random_positions, resolve
from convergent.streaming.reading import Reading
from convergent.streaming.rotations import Rotations

# Edges are those of all images up to 10,000, of all their positions where these make 131,072 samples at most. Of more images
# a fiftieth, at least 10,000 and at most 20,000, are read before the pass; nats then err by less than 5e-4, 4e-5 on average
# (simulated: ten bins, rectified units, edges of 10,000 of 400,000 samples).
_CALIBRATION, _SHARE, _MOST = 10_000, 50, 20_000
_SAMPLES, _BYTES = 1 << 17, 1 << 28  # of a layer; at least one sample of every image that is read

_HEADINGS = ("joint histograms of", "units", "bins", "positions", "samples", "folds", "memory")


class HistogramPass(Collector):
    """Counts the joint histograms of all layers, one for each fold of the blocks that `StatisticsPass` makes.

    Edges come from images read before the pass, all of them up to 10,000, the same in all processes; sums of counts are
    whole numbers, so that the number of processes changes nothing at all.

    Arguments are as for `StatisticsPass`, but for `images` (how many, in all processes together, and what gives the first
    of them), and `rotations`, whose histograms with the nets are counted instead of those of the nets.

    Raises:
        InputError: if a layer cannot be captured, the nets disagree on its positions, an activation is NaN or infinite,
            or memory does not suffice.
    """

    def __init__(
        self,
        nets: Mapping[str, nn.Module],
        layers: Layers,
        images: tuple[int, First],
        reading: Reading | None = None,
        pairs: Pairs = None,
        counting: Counting | None = None,
        rotations: Rotations | None = None,
    ) -> None:
        super().__init__(nets, layers, reading or Reading(), rotations)
        self.counting, (number, first) = counting or Counting(), images
        self.block_n = Deal(number, self.reading.blocks, self.reading.group_n).block_n
        self._per_image = max(1, self.counting.samples // number)
        wanted = None if pairs is None else [(self.nets.index(a), self.nets.index(b)) for a, b in pairs]
        self._pairs = {
            layer: rotations.pairs(len(rotations.draws[layer]), wanted) if rotations else wanted
            for layer in self.layers
        }
        self._positions: dict[str, int] = {}
        self._width: dict[str, int] = {}  # of the first batch's mask
        seen = self._calibrate(nets, first)
        self._layers = {layer: self._counters(layer, seen[layer]) for layer in self.layers}
        self._check_memory()
        self._batch: dict[str, dict[str, Tensor]] = {}
        self._image_s: dict[str, Tensor] = {}  # of the batch's samples

    @classmethod
    def start(
        cls,
        layers: Layers,
        reading: Reading | None = None,
        pairs: Pairs = None,
        counting: Counting | None = None,
        rotated: int = 0,
    ) -> Start:
        """What starts this collector in a pass; arguments as for the class, and of how many rotations it is instead."""

        def started(nets: Mapping[str, nn.Module], images: int | None, first: First) -> HistogramPass:
            if images is None:
                raise InputError(
                    "Joint histograms need to know how many images there are, which this loader does not say; give a "
                    "DataLoader of a data set with a length, or a list of batches."
                )
            every, read = resolve(nets, layers), reading or Reading()
            rotations = Rotations(nets, every, read, first, lambda _: rotated) if rotated else None
            return cls(nets, layers, (images, first), read, pairs, counting, rotations)

        return started

    def see(self, net: str, layer: str, activation: Tensor) -> None:
        """Keep some positions of an activation until all nets are there."""
        x_ncp = self.samples(net, layer, activation)
        units = self._layers[layer].widths[net]
        check_size(x_ncp, units, self._positions[layer], f"Layer {layer} of net {net}")
        x_ncp, self._image_s[layer] = self._some(net, layer, activation, x_ncp, self._per_image)
        self._batch.setdefault(layer, {})[net] = x_ncp.clone()  # what comes later in the net may overwrite it

    def end(self) -> None:
        """Finish the batch: count what is enough for a product."""
        super().end()
        for layer, folds in self._layers.items():
            seen = self._batch.pop(layer)
            folds.add(torch.cat([seen[net] for net in folds.widths], 1), self._image_s[layer])

    def collected(self) -> dict[str, LayerHistograms]:
        """The histograms of every layer, summed over all processes."""
        return {layer: LayerHistograms(layer, folds.finish()) for layer, folds in self._layers.items()}

    def parts_read(self) -> dict[str, FoldCounter]:
        """The counts of each layer."""
        return self._layers

    def plan(self) -> str:
        """A table of what is counted and what it takes, a line per layer."""
        rows = []
        for layer, folds in self._layers.items():
            positions = min(self._positions[layer], self._per_image)
            counts = list(map(str, folds.widths.values()))
            rows.append([
                layer,
                f"{len(counts)} nets x {counts[0]}" if len(set(counts)) == 1 else ", ".join(counts),
                str(self.counting.bins),
                f"{positions:,}",
                f"{len(self.block_n) * positions:,}",
                str(len(folds.counters)),
                f"{folds.memory / 1e6:,.0f} MB",
            ])  # fmt: skip
        return table_of(_HEADINGS, rows, 2)

    def _check_memory(self) -> None:
        check_memory(
            sum(folds.memory for folds in self._layers.values()),
            "The joint histograms of these layers",
            "ask for fewer bins, for fewer folds (folds=2), for the layers in several passes (layers_per_pass=1), "
            "for some layers or pairs of nets only (layers=[...], pairs=[[NET,NET],...])",
        )

    def _counters(self, layer: str, seen: Mapping[str, Tensor]) -> FoldCounter:
        x_us = torch.cat(list(seen.values()))
        for net, x_cs in seen.items():
            if not torch.isfinite(x_cs).all():
                unit = int((~torch.isfinite(x_cs)).any(1).nonzero()[0])
                raise InputError(
                    f"Layer {layer} of net {net} gives NaN or infinite activations (unit {unit}, in the first images); "
                    "check its weights and the images, or leave this net or layer out."
                )
        edges_ue = edges_of(x_us, self.counting.bins).cpu()
        from_first_process(edges_ue, x_us.device)  # another kind of processor may round otherwise
        widths = {net: len(x_cs) for net, x_cs in seen.items()}
        finest = int(self.block_n.max()) + 1
        energies = self.reading.energies and not self.rotations  # as the moments beside have them
        packing = Packing.of(list(widths.values()), self._pairs[layer], energies=energies)
        blocks = blocks_within(packing, finest, self.reading.block_memory)
        folds = max(1, min(self.counting.folds, blocks))
        fold_n = self.block_n * blocks // finest % folds
        return FoldCounter(
            layer, widths, self.reading.placed(edges_ue.to(x_us.device)), fold_n, folds, self._pairs[layer]
        )

    def _calibrate(self, nets: Mapping[str, nn.Module], first: First) -> dict[str, dict[str, Tensor]]:
        """Samples of every layer of every net for the first images: {layer: {net: (c units, s samples)}}."""
        seen: dict[str, dict[str, list[Tensor]]] = {
            layer: {net: [] for net in self.names(layer)} for layer in self.layers
        }
        images = calibration_images(len(self.block_n))
        chosen: dict[str, int] = {}

        def keep(net: str, layer: str, activation: Tensor) -> None:
            x_ncp = self.samples(net, layer, activation)
            if self._positions.setdefault(layer, x_ncp.shape[2]) != x_ncp.shape[2]:
                raise InputError(
                    f"Layer {layer} has unequal numbers of positions ({x_ncp.shape[2]} in {net}, {self._positions[layer]} "
                    "in another net); compare them with sample=pooled."
                )
            samples = min(_SAMPLES, _BYTES // (len(seen[layer]) * x_ncp.shape[1] * x_ncp.element_size()))
            some = chosen.setdefault(layer, max(1, min(self._per_image, samples // images)))
            x_ncp, _ = self._some(net, layer, activation, x_ncp, some)
            seen[layer][net].append(x_ncp.transpose(0, 1).flatten(1).clone())

        with Capture(nets, self.layers, keep, self.rotations, self.reading.output) as capture:
            for image_n, x in first(images):
                self.name_images(image_n, mask_of(x), places_of(x))
                capture.run(x)
        return {layer: {net: torch.cat(parts, 1) for net, parts in of.items()} for layer, of in seen.items()}

    def _some(self, net: str, layer: str, activation: Tensor, x_ncp: Tensor, chosen: int) -> tuple[Tensor, Tensor]:
        """So many random positions of each image, the same for all nets, shape (n, c, chosen), and the images' numbers.

        Where positions are masked, that share of the others, shape (s, c, 1): of texts of any length the same.
        """
        if self.unmasked is None or self.by_unit(net, layer, activation).ndim < 3:
            if chosen < x_ncp.shape[2]:
                chosen_np = random_positions(self.images_on(activation.device), x_ncp.shape[2], chosen)
                x_ncp = x_ncp.gather(2, chosen_np[:, None].expand(-1, x_ncp.shape[1], -1))
            return x_ncp, self.image_n
        image_s, sample_np = self.image_n[self.unmasked.image_s], self.unmasked.sample_np
        width = sample_np.shape[1]
        chosen = max(1, round(chosen * width / self._width.setdefault(layer, width)))
        if chosen >= width or self.reading.sample == "pooled":
            return x_ncp, image_s
        chosen_np = random_positions(self.image_n, width, chosen)
        kept_s = torch.zeros_like(sample_np).scatter(1, chosen_np, True)[sample_np]
        return x_ncp[kept_s.to(x_ncp.device)], image_s[kept_s]


def calibration_images(images: int) -> int:
    """How many images give the edges."""
    return min(images, max(_CALIBRATION, min(_MOST, images // _SHARE)))
