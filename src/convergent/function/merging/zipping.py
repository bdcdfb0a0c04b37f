"""Nets zipped together: units are merged within nets as well as between them, wherever they do the same on images.

Axes: `k` nets, `n` units of a group in one net, `u` those of all nets side by side, `g` merged units, as many as a net has.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from scipy.cluster.hierarchy import cut_tree, linkage
from scipy.spatial.distance import squareform
from torch import Tensor, nn

from convergent.core.moments import Moments
from convergent.function.merging.alignments import Measured
from convergent.function.merging.axes import Axis, blocks
from convergent.function.merging.permutations import named_tensors
from convergent.function.merging.repair import Statistics
from convergent.function.merging.ties import Group, Ties
from convergent.methods.solvers.clustering import Clusters


@runtime_checkable
class ClustersNets(Protocol):
    """A method that clusters the units of any number of nets, inside whose clusters units are merged."""

    def cluster(self, moments: Moments, net_u: Tensor, layer: str = "") -> Clusters:
        """The clusters, see `spectral.SpectralClustering.cluster`."""


@dataclass(frozen=True, eq=False)
class Zip:
    """Which units of several nets become one.

    A merged unit gives the mean of what its units gave, and where one of these was read, it is.

    Attributes:
        ties: of the nets.
        member: of each group's axis, 1 where a net's unit becomes a merged one, shape (k, g, n).
        nets: how many.
        shares: of the second of two nets, at which there is an average.

    Source: Stoica, Bolya, Bjorner, Hearn, Hoffman 2024, "ZipIt! Merging Models from Different Tasks without Training".
    """

    ties: Ties
    member: Mapping[Axis, Tensor]
    nets: int
    shares: Sequence[float] = (0.0, 0.5, 1.0)

    def net(self, nets: Sequence[nn.Module], _shares: Sequence[float]) -> nn.Module:
        """The merged net of so many nets, in evaluation mode."""
        made = copy.deepcopy(nets[0]).eval()
        every = [named_tensors(net) for net in nets]
        with torch.no_grad():
            for name, tensor in named_tensors(made).items():
                if tensor.is_floating_point():
                    tensor.copy_(self._merged(name, [of[name] for of in every]))
        return made

    def mixed(self, ends: Sequence[Statistics], _shares: Sequence[float]) -> Statistics:
        """The means and the standard deviations that merged units are to have: means over the units that they are of."""
        mixed = {}
        for path in ends[0]:
            axis = self.ties.tensors[f"{path}.weight"][self._giving(f"{path}.weight") or 0]
            mean, sd = (
                sum(self._along(end[path][of], axis, k, reads=False) for k, end in enumerate(ends)) for of in (0, 1)
            )
            mixed[path] = mean, sd
        return mixed  # type: ignore[return-value]

    def _giving(self, name: str) -> int | None:
        """The axis of a tensor's units that it gives, over which nets are averaged; None where it only reads."""
        axes = self.ties.tensors.get(name, ())
        giving = [place for place in range(len(axes)) if (name, place) not in self.ties.reading]
        merged = [place for place in giving if any(atom in self.member for atom in axes[place].atoms)]
        return next(iter([*merged, *giving]), None)

    def _merged(self, name: str, tensors: Sequence[Tensor]) -> Tensor:
        if name not in self.ties.tensors or not (axes := self.ties.tensors[name]):
            return torch.stack([*tensors]).mean(0)
        giving, made = self._giving(name), torch.zeros_like(tensors[0], dtype=torch.float64)
        for k, tensor in enumerate(tensors):
            x = tensor.double()
            for place, axis in enumerate(axes):
                reads = (name, place) in self.ties.reading
                if place == giving or any(atom in self.member for atom in axis.atoms):
                    x = self._along(x.movedim(place, 0), axis, k, reads=reads).movedim(0, place)
            made += x if giving is not None else x / len(tensors)
        return made.to(tensors[0])

    def _along(self, x: Tensor, axis: Axis, k: int, *, reads: bool) -> Tensor:
        """One net's part in what merged units give, or of what reads them, along the first axis of a tensor."""
        flat = x.reshape(axis.size, -1)
        made, of = torch.empty_like(flat), [axis, Axis(flat.shape[1])]
        for (old, atoms), (new, _) in zip(blocks(flat, of), blocks(made, of)):
            merged = [place for place, atom in enumerate(atoms) if atom in self.member]
            for place in merged:
                member_kgn = self.member[atoms[place]].to(old)
                weight_gn = member_kgn[k] if reads else member_kgn[k] / member_kgn.sum((0, 2))[:, None]
                old = torch.tensordot(weight_gn, old, dims=([1], [place])).movedim(0, place)
            new.copy_(old if merged or reads else old / self.nets)
        return made.reshape(x.shape)


def zippable(ties: Ties) -> list[Group]:
    """The groups whose units can be merged within a net: without heads, measured, and given and read by different weights.

    Tied embeddings give what they read, so that their units can be reordered only.
    """
    both = ties.reading & ties.giving
    tied = {atom for name, place in both for atom in ties.tensors[name][place].atoms}
    groups = [group for group in ties.groups if group.points and not group.inner and group.atom not in tied]
    for name, axes in ties.tensors.items():  # a tensor over whose units nets are averaged twice
        given = [axis for place, axis in enumerate(axes) if (name, place) not in ties.reading]
        having = [axis for axis in given if any(group.atom in axis.atoms for group in groups)]
        groups = [group for group in groups if not any(group.atom in axis.atoms for axis in having[1:])]
    return groups


def zipped(
    ties: Ties, groups: Iterable[Group], measured: Measured, nets: Sequence[str], scale: Mapping[Axis, Sequence[Tensor]],
    method: ClustersNets | None,
) -> Zip:  # fmt: skip
    """The units of nets that become one: those whose activations are most alike on images, so many as a net has.

    Ward's clustering: of all groups of so many that are made two by two the error of giving each unit the mean of its group
    grows least, summed over the modules that have these units. With a method, units of one cluster that has units of
    several nets become one, and so do, among each other, those in none.

    Args:
        ties: of the nets.
        groups: whose units are merged, see `zippable`.
        measured: moments of the groups' points.
        nets: their names.
        scale: by which the nets' units were multiplied since they were measured, shape (n,) of each net.
        method: whose clusters hold units of one kind together.
    """
    member: dict[Axis, Tensor] = {}
    for group in groups:
        k, n = len(nets), group.atom.size
        net_u = torch.arange(k).repeat_interleave(n)
        scale_u = torch.cat([*scale[group.atom]]).double() if group.atom in scale else torch.ones(k * n).double()
        moments = [measured[point].moments(nets).total for point in group.points]
        distance_uu = torch.stack([_distances(of, scale_u) for of in moments]).sum(0).numpy()
        label_u = np.zeros(k * n, int)
        if method is not None:
            label_u = _held_together(method.cluster(_summed(moments), net_u, group.name).label_u, net_u.numpy())
        merged_u = torch.from_numpy(most_alike(distance_uu, label_u, n))
        member[group.atom] = torch.nn.functional.one_hot(merged_u, n).double().view(k, n, n).mT
    return Zip(ties, member, len(nets))


def most_alike(distance_uu: np.ndarray, label_u: np.ndarray, number: int) -> np.ndarray:
    """Units in so many groups by Ward's clustering, none over two labels unless there are more labels than groups.

    Args:
        distance_uu: squared Euclidean distances, shape (u, u).
        label_u: what holds units together, shape (u,).
        number: of groups, at most the number of units.

    Returns:
        The group of each unit, shape (u,), in the order of their first units.
    """
    if len(np.unique(label_u)) > number:
        label_u = np.zeros_like(label_u)
    within = [np.flatnonzero(label_u == label) for label in np.unique(label_u)]
    trees = [
        linkage(squareform(np.sqrt(distance_uu[np.ix_(u, u)]), checks=False), "ward")
        if len(u) > 1
        else np.empty((0, 4))
        for u in within
    ]
    # heights grow along each tree, so the cheapest merges of all trees are the first ones of each
    height = np.concatenate([tree[:, 2] for tree in trees])
    tree_of = np.repeat(np.arange(len(trees)), [len(tree) for tree in trees])
    cheapest = np.argsort(height, kind="stable")[: len(label_u) - number]
    merges = np.bincount(tree_of[cheapest], minlength=len(trees))
    group_u, begun = np.empty(len(label_u), int), 0
    for u, tree, count in zip(within, trees, merges):
        groups = cut_tree(tree, len(u) - count)[:, 0] if count else np.arange(len(u))
        group_u[u], begun = begun + groups, begun + len(u) - count
    first, place_u = np.unique(group_u, return_index=True)[1], np.unique(group_u, return_inverse=True)[1]
    return np.argsort(np.argsort(first))[place_u]


def _held_together(label_u: np.ndarray, net_u: np.ndarray) -> np.ndarray:
    """Clusters that have units of several nets; all other units together are one more."""
    several = [label for label in np.unique(label_u[label_u >= 0]) if len(np.unique(net_u[label_u == label])) > 1]
    return np.where(np.isin(label_u, several), label_u, -1)


def _summed(moments: Sequence[Moments]) -> Moments:
    """What stands for several modules that have the same units: the mean of their correlations."""
    if len(moments) == 1:
        return moments[0]
    corr_uu = torch.stack([of.corr_uu for of in moments]).mean(0)
    return Moments(torch.ones((), dtype=torch.float64), torch.zeros(len(corr_uu), dtype=torch.float64), corr_uu)


def _distances(moments: Moments, scale_u: Tensor) -> Tensor:
    """The mean squared differences between the activations of scaled units, shape (u, u)."""
    cov_uu, mean_u = moments.cov_uu * scale_u[:, None] * scale_u, moments.mean_u * scale_u
    variance_u = cov_uu.diagonal()
    distance_uu = variance_u[:, None] + variance_u - 2 * cov_uu + (mean_u[:, None] - mean_u).square()
    return distance_uu.clamp(min=0).fill_diagonal_(0)
