"""Weight matching: the order of net b's units in which its weights are closest to net a's, without a single image.

Source: Ainsworth, Hayase, Srinivasa 2023, "Git Re-Basin: merging models modulo permutation symmetries", algorithm 1.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from convergent.core.ties import best_assignment
from convergent.function.merging.alignments import nested
from convergent.function.merging.axes import Axis
from convergent.function.merging.permutations import identity_order, named_tensors, outer_place, reordered
from convergent.function.merging.ties import Group, Ties

_SWEEPS = 100  # over all groups; it ends when nothing changes, mostly after three to ten
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")  # of BatchNorm: no weights


def by_weights(
    ties: Ties, a: nn.Module, b: nn.Module, seed: int = 0, fixed: Mapping[Axis, Tensor] | None = None
) -> dict[Axis, Tensor]:
    """The order of net b's units that maximises the inner product of the nets' weights, one group after another.

    Args:
        ties: of both nets.
        a: the net whose units stay where they are.
        b: the net whose units are reordered.
        seed: of the order in which groups are taken, anew in every sweep.
        fixed: orders that are to stay as they are.
    """
    order = {axis: units for group in ties.groups for axis, units in identity_order(group).items()} | dict(fixed or {})
    open_ = [group for group in ties.groups if group.atom not in (fixed or {})]
    weights = [
        {name: x.detach().cpu() for name, x in named_tensors(net).items() if name.rpartition(".")[2] not in _STATISTICS}
        for net in (a, b)
    ]
    generator = torch.Generator().manual_seed(seed)
    for _ in range(_SWEEPS):
        changed = False
        for number in torch.randperm(len(open_), generator=generator).tolist():
            new = _best(ties, open_[number], weights[0], weights[1], order)
            changed |= any(not torch.equal(units, order[axis]) for axis, units in new.items())
            order |= new
        if not changed:
            break
    return order


def _best(
    ties: Ties, group: Group, a: Mapping[str, Tensor], b: Mapping[str, Tensor], order: Mapping[Axis, Tensor]
) -> dict[Axis, Tensor]:
    """The order of one group that suits all others best as they are."""
    n = group.atom.size
    of_group = {group.atom, *group.inner}
    others = {axis: units for axis, units in order.items() if axis not in of_group}
    of_atom = {group.atom: torch.zeros(n, n, dtype=torch.float64)}
    of_inner = {inner: torch.zeros(n * inner.size, n * inner.size, dtype=torch.float64) for inner in group.inner}
    for name in a:
        if not any(atom in of_group for axis in ties.tensors.get(name, ()) for atom in axis.atoms):
            continue
        x_b = reordered(ties, name, b[name], others)
        for (of_a, atoms), (of_b, _) in zip(ties.blocks(name, a[name]), ties.blocks(name, x_b)):
            outer_of_inner = set()
            for place, atom in enumerate(atoms):
                if atom in of_inner:
                    outer = outer_place(atoms, place, group.atom)
                    outer_of_inner.add(outer)
                    of_inner[atom] += _products(of_a, of_b, [outer, place])
            for place, atom in enumerate(atoms):
                if atom is group.atom and place not in outer_of_inner:
                    of_atom[atom] += _products(of_a, of_b, [place])
    if group.inner:
        return nested(group, of_atom, of_inner)
    return {group.atom: torch.from_numpy(best_assignment(of_atom[group.atom].numpy())[1])}


def _products(a: Tensor, b: Tensor, places: list[int]) -> Tensor:
    """Inner products of all that two blocks have beside some axes, for every two units along these."""
    rows = torch.Size(a.shape[place] for place in places).numel()
    a, b = (x.movedim(places, list(range(len(places)))).reshape(rows, -1).double() for x in (a, b))
    return a @ b.T
