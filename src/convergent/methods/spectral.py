"""Spectral clustering: groups of both nets' units that belong together, and each unit of b predicted from its group.

Axes: `a` and `b` units of two nets, `u` and `v` units of all nets side by side, `c` clusters.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convergent.core.alignment import Alignment, Method
from convergent.core.cluster_quality import net_of
from convergent.core.layer_moments import LayerMoments
from convergent.core.moments import Moments
from convergent.core.pairs import Pair
from convergent.core.regression import ridge_map_within
from convergent.errors import InputError
from convergent.methods.solvers.clustering import Assignment, Bounds, Clustering, Clusters
from convergent.methods.solvers.spectra import Laplacian
from convergent.options import NULL, check_fields, number, table, whole

_MOST = 64
_made: dict[tuple[str, int], Clusters] = {}  # the latest, by all that they depend on


@dataclass(frozen=True)
class SpectralClustering:
    """Units of both nets are the nodes of one graph, joined by correlations, which spectral clustering cuts into clusters.

    Each unit of b is predicted by ridge regression from the units of a in its cluster. Units without an edge are set aside
    (label -1) and predicted by nothing, as are those whose cluster has no unit of a. The record's `solver` says how many
    clusters there are, whether the widest gap between eigenvalues chose that number (`eigengap`), the `gap`, and how many
    `parts` the graph has and how many active units it leaves `isolated`. Intervals over images are about the predictions,
    with the clusters as they are; held-out scores cluster anew.

    Attributes:
        clusters: how many; a number, numbers by layer, or None for the widest gap between eigenvalues, as for layers that
            are not listed.
        bounds: least and largest number that the widest gap may choose.
        threshold: correlations below are no edges.
        absolute: join units by |r|; otherwise, as in the paper, negative correlations are no edges.
        laplacian: `unnormalised` (the paper's), `symmetric` or `random_walk`, see `clustering.Clustering`.
        assign: `cluster_qr`, which has no randomness, or `kmeans` (the paper's).
        restarts: of k-means.
        seed: of k-means.
        ridge: penalty of the regression, see `regression.ridge_map`.

    Source: Li et al. 2016, section 5 and supplement S.3.

    >>> from convergent.core.pairs import Pair
    >>> latent_nc = torch.randn(500, 2).double()
    >>> pair = Pair.of(latent_nc[:, [0, 1, 1]], latent_nc[:, [1, 0]])
    >>> alignment = SpectralClustering()(pair)
    >>> alignment.labels_a, alignment.labels_b
    (tensor([1, 0, 0]), tensor([0, 1]))
    """

    clusters: Annotated[int | Mapping[str, int] | None, whole(1) | table(whole(1)) | NULL] = None
    bounds: Bounds = (2, 100)
    threshold: Annotated[float, number(0, 1, why=", as correlations are")] = 0.1
    absolute: bool = False
    laplacian: Laplacian = "symmetric"
    assign: Assignment = "cluster_qr"
    restarts: Annotated[int, whole(1)] = 10
    seed: Annotated[int, whole()] = 0
    ridge: Annotated[float, number(0, above=True)] = 1e-3

    def __post_init__(self) -> None:
        check_fields(self)

    @cached_property
    def clustering(self) -> Clustering:
        """How graphs are cut, but for the number of clusters."""
        return Clustering(None, self.bounds, self.laplacian, self.assign, self.restarts, self.seed)

    def __call__(self, pair: Pair) -> Alignment:
        """The alignment of `pair`; constant units are in no cluster.

        Raises:
            InputError: if there are to be more clusters than units.
        """
        clusters = self.cluster(pair.total, net_of(pair), pair.layer)
        label_u = torch.from_numpy(clusters.label_u)
        labels_a, labels_b = label_u[pair.a], label_u[pair.b]
        constant = int((~pair.total.active_u).sum())
        solver = {
            "clusters": clusters.number, "eigengap": int(self.number(pair.layer) is None), "gap": clusters.gap,
            "parts": clusters.parts, "isolated": clusters.isolated - constant,
        }  # fmt: skip
        return Alignment(pair, ridge_map_within(pair, self.ridge, labels_a, labels_b), labels_a, labels_b, solver)

    def refit(self, alignment: Alignment, *, choices: bool) -> Method:
        """With `choices` the regressions inside an alignment's clusters; otherwise units are clustered anew."""
        labels_a, labels_b = alignment.labels_a, alignment.labels_b
        if not choices or labels_a is None or labels_b is None:
            return self

        def fit(pair: Pair) -> Alignment:
            return Alignment(pair, ridge_map_within(pair, self.ridge, labels_a, labels_b), labels_a, labels_b)

        return fit

    def cluster(self, moments: Moments, net_u: Tensor, layer: str = "") -> Clusters:
        """The clusters of the units of any number of nets; those of a pair and of the pair flipped are made once.

        Args:
            moments: of all nets' units side by side.
            net_u: number of the net of each unit, shape (u,).
            layer: its name, where numbers are given by layer.

        Raises:
            InputError: if there are to be more clusters than units.
        """
        corr_uu, number = moments.corr_uu, self.number(layer, len(net_u))
        nets = {net: place for place, net in enumerate(dict.fromkeys(net_u.tolist()))}  # however they are numbered
        about = repr((self, number, [nets[net] for net in net_u.tolist()]))
        key = about, hash(corr_uu.numpy().tobytes())
        if key not in _made:
            if len(_made) == _MOST:
                del _made[next(iter(_made))]
            _made[key] = self.cut(corr_uu, net_u, number)
        return _made[key]

    def cut(self, corr_uu: Tensor, net_u: Tensor, number: int | None) -> Clusters:  # noqa: ARG002  (nets are alike)
        """As many clusters of units with these correlations, see `cluster`."""
        return replace(self.clustering, number=number)(self.graph(corr_uu))

    def number(self, layer: str, units: int | None = None) -> int | None:
        """How many clusters a layer's units are to be in; None for the widest gap.

        Raises:
            InputError: if these are more than there are `units`.
        """
        number = self.clusters.get(layer) if isinstance(self.clusters, Mapping) else self.clusters
        if units is not None and number is not None and number > units:
            raise InputError(
                f"{number} clusters need as many units, but layer {layer or 'given'} has {units} in all nets; ask for "
                "fewer, as method.clusters=20, or leave it to the eigenvalues: method.clusters=null."
            )
        return number

    def graph(self, corr_uu: Tensor) -> NDArray[np.float64]:
        """The weights of the graph's edges, shape (u, u): correlations, 0 below the threshold and on the diagonal."""
        weight_uu = corr_uu.abs() if self.absolute else corr_uu.clamp(min=0)
        weight_uu = weight_uu.where(weight_uu >= self.threshold, 0.0)
        return weight_uu.fill_diagonal_(0).numpy()


def cluster_nets(method: SpectralClustering, layer: LayerMoments) -> dict[str, Tensor]:
    """The cluster of every unit of all nets of a layer at once, by the net's name; -1 for units in none.

    Raises:
        InputError: if a pair of nets was not measured, or there are to be more clusters than units.
    """
    widths = [units.stop - units.start for units in layer.units]
    net_u = torch.arange(len(widths)).repeat_interleave(torch.tensor(widths))
    label_u = torch.from_numpy(method.cluster(layer.moments().total, net_u, layer.layer).label_u)
    return dict(zip(layer.nets, torch.split(label_u, widths)))
