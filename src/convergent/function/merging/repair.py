"""REPAIR: the units of a merged net get the means and the variances back that averaging weights takes from them.

Source: Jordan, Sedghi, Saukh, Entezari, Neyshabur 2023, "REPAIR: REnormalizing Permuted Activations for Interpolation
Repair".
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

Statistics = dict[str, tuple[Tensor, Tensor]]  # mean and standard deviation of each unit, by the module that gives it


def repaired(net: nn.Module, targets: Statistics, batches: Sequence[Tensor]) -> nn.Module:
    """A merged net, in place, with the statistics of its units renewed; in evaluation mode.

    With BatchNorm they are measured anew. Otherwise the outputs of every convolution and linear map, but those of the last
    one, get the means and standard deviations they are to have, by rescaling and shifting weights and biases: from the
    first to the last in one pass, for each sees what those before it now give. Without a bias nothing is shifted.

    Args:
        net: whose weights are an average.
        targets: means and standard deviations that units are to have, see `mixed`.
        batches: images, where the net is.
    """
    if has_batch_norm(net):
        return _measured_anew(net, batches)
    modules = dict(net.named_modules())
    for path, (mean_u, sd_u) in statistics(net, batches, targets).items():
        module, (mean, sd) = modules[path], targets[path]
        gain_u = torch.where(sd_u > 0, sd / sd_u, 1.0).to(module.weight)
        with torch.no_grad():
            module.weight.mul_(gain_u.reshape(-1, *[1] * (module.weight.ndim - 1)))
            if module.bias is not None:
                module.bias.copy_((module.bias - mean_u) * gain_u + mean)
    return net


def mixed(ends: Sequence[Statistics], shares: Sequence[float]) -> Statistics:
    """The means and the standard deviations that the ends' units have on average."""
    return {
        path: tuple(sum(share * end[path][of] for share, end in zip(shares, ends)) for of in (0, 1))  # type: ignore[misc]
        for path in ends[0]
    }


def has_batch_norm(net: nn.Module) -> bool:
    """Whether a net keeps running statistics of its units."""
    return any(isinstance(module, _BatchNorm) and module.running_mean is not None for module in net.modules())


def statistics(net: nn.Module, batches: Sequence[Tensor], targets: Statistics | None = None) -> Statistics:
    """Mean and standard deviation of each unit that a convolution or a linear map gives, before the nonlinearity.

    With `targets` every output is given these before it is handed on: each batch by its own statistics, whose means over
    the batches are returned.
    """
    layers = _layers(net, batches[0][:1])
    sums: dict[str, list[Tensor]] = {path: [] for path in layers}

    def hook(path: str) -> Callable[..., Any]:
        def see(module: nn.Module, _x: Any, output: Tensor) -> Tensor | None:
            units = 1 if isinstance(module, _ConvNd) else output.ndim - 1
            others = [place for place in range(output.ndim) if place != units]
            variance, mean = torch.var_mean(output, others, correction=0)
            variance, mean = variance.double(), mean.double()
            sums[path].append(len(output) * torch.stack([mean, variance + mean.square()]))
            if targets is None:
                return None
            sd = variance.sqrt()
            gain = torch.where(sd > 0, targets[path][1] / sd, 1.0)
            shift = targets[path][0] - mean * gain if module.bias is not None else 0 * mean
            shape = [-1 if place == units else 1 for place in range(output.ndim)]
            return output * gain.to(output).reshape(shape) + shift.to(output).reshape(shape)

        return see

    handles = [module.register_forward_hook(hook(path)) for path, module in layers.items()]
    try:
        with torch.no_grad():
            for x in batches:
                net(x)
    finally:
        for handle in handles:
            handle.remove()
    images, found = sum(map(len, batches)), {}
    for path, parts in sums.items():
        mean_u, square_u = torch.stack(parts).sum(0) / images
        found[path] = mean_u, (square_u - mean_u.square()).clamp(min=0).sqrt()
    return found


def _layers(net: nn.Module, x: Tensor) -> dict[str, Any]:
    """Convolutions and linear maps that are called once, but for the last one, which gives the net's output."""
    calls: list[str] = []
    modules = {path: module for path, module in net.named_modules() if isinstance(module, _ConvNd | nn.Linear)}
    handles = [
        module.register_forward_hook(lambda _module, _x, _output, path=path: calls.append(path))
        for path, module in modules.items()
    ]
    with torch.no_grad():
        net(x)
    for handle in handles:
        handle.remove()
    return {path: modules[path] for path in calls[:-1] if calls.count(path) == 1}


def _measured_anew(net: nn.Module, batches: Sequence[Tensor]) -> nn.Module:
    """The running statistics of BatchNorm, averaged over batches as they come."""
    norms = [module for module in net.modules() if isinstance(module, _BatchNorm) and module.running_mean is not None]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
        norm.train()
    with torch.no_grad():
        for x in batches:
            net(x)
    for norm, momentum in zip(norms, before):
        norm.momentum = momentum
    return net.eval()
