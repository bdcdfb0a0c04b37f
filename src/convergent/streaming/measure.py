"""The statistics pass over any loader, on any device: no trainer, no configuration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from convergent.core.layer_moments import LayerMoments
from convergent.core.matrices import described
from convergent.errors import InputError
from convergent.streaming.capture import mask_of, places_of, run
from convergent.streaming.collector import Start
from convergent.streaming.layers import Layers
from convergent.streaming.loader import Batches, device_of
from convergent.streaming.reading import Reading
from convergent.streaming.statistics_pass import StatisticsPass

Nets = Mapping[str, nn.Module] | Sequence[nn.Module]


def measure(
    nets: Nets, loader: Iterable[Any], layers: Layers, reading: Reading | None = None
) -> dict[str, LayerMoments]:
    """The second moments of layers of all nets side by side, in one pass over the images.

    Nets are run in evaluation mode, without gradients, where they are, and left as they were. Moments are exact whatever the
    batches: each image belongs to a block, by its number, and of blocks held-out scores and intervals are made.

    Args:
        nets: by name, or a list of them, which are then called net0, net1, ...
        loader: any iterable of batches: a tensor, (x, y), (x, y, image numbers) or a mapping from the net's arguments to
            tensors. Images are numbered as they come where no numbers are given; no length is needed, see `deal.Deal`.
        layers: what is compared: paths of modules as `get_submodule` takes them, patterns such as "layer*.0", or where
            architectures differ lists with one path per net. A module that is called several times in a forward pass (a
            recurrent cell, a shared module) is compared call by call: "cell#0" is its first one.
        reading: what of an activation units and samples are, padding masks, and how a net takes a batch.

    Returns:
        {layer: its moments}; `measure(...)["layer1"].pair("a", "b")` is what a method takes.

    Raises:
        InputError: if there is nothing to read, a layer does not exist, a batch is of no known kind, or activations are NaN.

    >>> nets = {"a": nn.Sequential(nn.Linear(4, 3)), "b": nn.Sequential(nn.Linear(4, 2))}
    >>> moments = measure(nets, [torch.randn(10, 4)], ["0"])
    >>> moments["0"].pair("a", "b").corr_ab.shape
    torch.Size([3, 2])
    """
    by_name = named(nets)
    reading = with_device(reading or Reading(), by_name)
    (moments,) = collect(by_name, loader, [StatisticsPass.start(layers, reading)], reading)
    return moments


def collect(
    nets: Mapping[str, nn.Module], loader: Iterable[Any], starts: Sequence[Start], reading: Reading
) -> list[dict[str, Any]]:
    """What several collectors make of one pass: {layer: what was collected} of each.

    Raises:
        InputError: if there are several processes.
    """
    dist = torch.distributed
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        raise InputError("Several processes measure together in `convergent align` only; measure in one process.")
    batches = Batches(nets, loader, reading)
    with torch.no_grad(), evaluating(nets.values()), ExitStack() as hooks:
        collectors = [start(nets, batches.images, batches.first) for start in starts]
        for collector in collectors:  # only now, for they run the nets when they start
            hooks.enter_context(collector)
        for image_n, seen in batches:
            for collector in collectors:
                collector.begin(image_n, mask_of(seen), places_of(seen))
                if batches.target_n is not None:
                    collector.label(batches.target_n)
            run(nets, seen)
            for collector in collectors:
                collector.end()
        hooks.close()
        return [collector.finish() for collector in collectors]


def named(nets: Nets) -> dict[str, nn.Module]:
    """Nets by name.

    Raises:
        InputError: if there are none, one is no module, or two are the same.
    """
    by_name = dict(nets) if isinstance(nets, Mapping) else {f"net{number}": net for number, net in enumerate(nets)}
    if not by_name:
        raise InputError("There are no nets to measure; give {name: module, ...}.")
    for name, net in by_name.items():
        if not isinstance(name, str) or not isinstance(net, nn.Module):
            raise InputError(f"Nets need to be modules by name, {{name: module, ...}}, not {name!r}: {described(net)}.")
        if same := [other for other, it in by_name.items() if it is net and other != name]:
            raise InputError(f"Nets {name} and {same[0]} are one and the same module; give each its own, or a copy.")
    return by_name


def with_device(reading: Reading, nets: Mapping[str, nn.Module]) -> Reading:
    """The reading with a device to sum on where the nets' own will not do: several of them, or one without float64."""
    devices = list(dict.fromkeys(device_of(net) for net in nets.values()))
    if reading.device is not None or (len(devices) == 1 and devices[0].type != "mps"):
        return reading
    return replace(reading, device="cpu" if any(device.type == "mps" for device in devices) else str(devices[0]))


@contextmanager
def evaluating(nets: Iterable[nn.Module]) -> Iterator[None]:
    """Nets in evaluation mode, and afterwards each of their modules as it was."""
    every = list(nets)
    training = {module: module.training for net in every for module in net.modules()}
    try:
        for net in every:
            net.eval()
        yield
    finally:
        for net in every:
            net.train(training[net])
        for module, before in training.items():
            module.training = before
