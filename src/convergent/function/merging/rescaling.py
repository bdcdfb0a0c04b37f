"""The scale of units: where doubling what a unit gives and halving what reads it leaves a net what it is, as with ReLU.

Two nets may have the same units at other scales: the average of what gives a unit and the average of what reads it, a
reciprocal, do not go together. So aligned nets are brought to one scale before they are averaged.
"""

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from convergent.function.merging.alignments import Measured
from convergent.function.merging.axes import Axis, blocks
from convergent.function.merging.permutations import TOLERANCE, first_tensor, named_tensors
from convergent.function.merging.ties import Group, Ties

_BOUNDS = 0.01, 100.0  # of a scale: what is beyond is said by units that hardly vary


def rescalable(net: nn.Module, ties: Ties, x: Tensor) -> list[Group]:
    """The groups of a net whose units have no scale of their own, as rescaling them and running the net on x shows."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        out, groups = first_tensor(net(x)), []
        for group in ties.groups:
            scale_n = 0.5 + 1.5 * torch.rand(group.atom.size, generator=generator)
            other = first_tensor(rescaled(net, ties, {group.atom: scale_n})(x))
            if group.points and not group.inner and (out - other).abs().max() <= TOLERANCE * out.abs().max():
                groups.append(group)
    return groups


def rescaled(net: nn.Module, ties: Ties, scale: Mapping[Axis, Tensor]) -> nn.Module:
    """A copy of a net whose units give `scale` times what they gave, shape (n,) of each axis, and are read as before.

    What gives a unit is the first axis of a weight, and a bias; what reads it are the other axes.
    """
    made = copy.deepcopy(net).eval()
    with torch.no_grad():
        for name, tensor in named_tensors(made).items():
            for place, axis in enumerate(ties.tensors.get(name, ())):
                if any(atom in scale for atom in axis.atoms):
                    along = torch.ones(axis.size)
                    for part, atoms in blocks(along, [axis]):
                        for within, atom in enumerate(atoms):
                            if atom in scale:
                                shape = [-1 if other == within else 1 for other in range(part.ndim)]
                                part.mul_(scale[atom].reshape(shape))
                    shape = [-1 if other == place else 1 for other in range(tensor.ndim)]
                    along = (along if place == 0 else 1 / along).to(tensor)
                    tensor.mul_(along.reshape(shape))
    return made


def scales(
    groups: Sequence[Group], measured: Measured, a: str, b: str, order: Mapping[Axis, Tensor]
) -> dict[Axis, Tensor]:
    """What brings net b's units, in the order given, to the standard deviations that net a's have on images."""
    scale: dict[Axis, Tensor] = {}
    for group in groups:
        of_a, of_b = (_variance(group, measured, net) for net in (a, b))
        of_b = of_b[order.get(group.atom, torch.arange(group.atom.size))]
        both = (of_a > 0) & (of_b > 0)
        ratio = torch.where(both, of_a, 1.0) / torch.where(both, of_b, 1.0)
        scale[group.atom] = ratio.sqrt().clamp(*_BOUNDS).float()
    return scale


def to_one(groups: Sequence[Group], measured: Measured, net: str) -> dict[Axis, Tensor]:
    """What brings a net's units to a standard deviation of one on images; those that never vary stay as they are."""
    variance = {group.atom: _variance(group, measured, net) for group in groups}
    return {atom: torch.where(of > 0, of, 1.0).rsqrt().float() for atom, of in variance.items()}


def _variance(group: Group, measured: Measured, net: str) -> Tensor:
    """Summed over the modules that have a group's units, shape (n,)."""
    totals = (measured[point].moments([net]).total for point in group.points)
    return torch.stack([total.sd_u.square() for total in totals]).sum(0)
