"""The maps that are put in place of a layer: an alignment's, and those beside which it is read.

Axes: `a` and `b` units of two nets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from convergent.core.alignment import Alignment, Method, align
from convergent.core.histogram_source import counting_of
from convergent.core.pairs import Pair
from convergent.core.prediction import Prediction
from convergent.methods.least_squares import LeastSquares

if TYPE_CHECKING:
    from collections.abc import Mapping

# What a layer of net b is replaced by, described once.
MAPS = {
    "method": "what the method predicts of it from net a's units",
    "rotated": "the same method from net a on randomly rotated axes, rotated before its nonlinearity",
    "untrained": "the same method from an untrained net of a's architecture",
    "permuted": "a random one-to-one matching of the two nets' units",
    "least_squares": "least squares from all of net a's units, the linear upper bound",
    "least_squares_untrained": "least squares from the untrained net",
    "identity": "itself, through the same path",
    "ablated": "the means of its units",
}


PLAIN, RESTORED = "plain", "restored"  # as predicted, and with each unit's variance restored


@dataclass(frozen=True, eq=False)
class Stitch:
    """A map from some net's units to net b's, fitted without each fold of the blocks of images in turn.

    Attributes:
        name: one of `MAPS`; where only some units are replaced one of `substitution.KINDS`.
        a: the net that it is compared with.
        b: the net whose layer is replaced.
        source: whose units predict: net a, as it is, rotated or untrained.
        predictions: of each fold.
        dealt: how many blocks the images were dealt into.
        blocks: how many of these are left where they were merged, as in wide layers; block k is held out in fold k % folds.
        r2_held_out: mean share of variance explained over the active units of b; None where it says nothing.
        versions: that are judged, of PLAIN and RESTORED.
        units_fb: which units of b are replaced, in each fold, shape (folds, q); None for all.
        subset: which these are, in words, and how many, or the number of a single one.
    """

    name: str
    a: str
    b: str
    source: str
    predictions: Sequence[Prediction]
    dealt: int
    blocks: int
    r2_held_out: float | None = None
    versions: Sequence[str] = (PLAIN, RESTORED)
    units_fb: Tensor | None = None
    subset: tuple[str, float] = ("", 0.0)

    @classmethod
    def of(cls, name: str, alignment: Alignment, source: str, dealt: int) -> Stitch:
        """The maps of an alignment's folds."""
        pair, predictions = alignment.pair, alignment.predictions
        held_out_b = alignment.held_out_b  # after the predictions, which bring it along
        assert held_out_b is not None
        counted_b = alignment.counted_b
        r2_held_out = float(held_out_b[counted_b].mean()) if counted_b.any() else None
        return cls(name, pair.name_a, pair.name_b, source, predictions, dealt, pair.blocks, r2_held_out)


@dataclass(frozen=True, eq=False)
class Source:
    """A net in net a's place: its pair with net b, what its activations are called, and the blocks of its images."""

    pair: Pair
    name: str
    dealt: int

    def called(self, name_a: str) -> Source:
        """The same as net a's stand-in."""
        return replace(self, pair=replace(self.pair, name_a=name_a))


def stitches_of(alignment: Alignment, dealt: int, controls: Mapping[str, Source]) -> list[Stitch]:
    """The maps of a method for one pair of nets: the alignment's own, and those of the same method from other nets.

    Args:
        alignment: of net a's units with net b's, with the method that made it.
        dealt: the blocks that the images were dealt into.
        controls: by "rotated" and "untrained" the nets that these maps are from, where they are to be judged.
    """
    pair, method = alignment.pair, alignment.method
    assert method is not None
    stitches = [Stitch.of("method", alignment, pair.name_a, dealt)]
    for name, source in controls.items():
        if counting_of(method) is None or source.pair.joint is not None:
            stitches.append(_of(name, method, source.called(pair.name_a)))
    return stitches


def common_stitches(pair: Pair, dealt: int, untrained: Source | None) -> list[Stitch]:
    """The maps of one pair of nets beside which every method is read."""
    of_a = Source(pair, pair.name_a, dealt)
    stitches = [_of("permuted", permuted, of_a), _of("least_squares", _least_squares, of_a)]
    if untrained:
        stitches.append(_of("least_squares_untrained", _least_squares, untrained.called(pair.name_a)))
    return stitches


def own_stitches(pair: Pair, dealt: int) -> list[Stitch]:
    """Net b's layer in its own place, and the means of its units, whatever net a is."""
    identity, ablated = [], []
    for fit, _ in pair.folds():
        own = replace(fit, a=fit.b)
        map_bb = torch.diag(fit.active_b.double())
        identity.append(Prediction.of(map_bb, own))
        ablated.append(Prediction.of(torch.zeros_like(map_bb), own))
    both = {"identity": identity, "ablated": ablated}
    head = pair.name_b, pair.name_b
    return [Stitch(name, "", *head, of, dealt, pair.blocks, versions=[PLAIN]) for name, of in both.items()]


def permuted(pair: Pair) -> Alignment:
    """A random one-to-one matching of active units, always the same, each with its correlation for a weight."""
    generator = torch.Generator().manual_seed(0)
    a, b = (active.nonzero()[:, 0] for active in (pair.active_a, pair.active_b))
    a, b = (units[torch.randperm(len(units), generator=generator)][: min(len(a), len(b))] for units in (a, b))
    map_ab = torch.zeros(pair.p, pair.q, dtype=torch.float64)
    map_ab[a, b] = pair.corr_ab[a, b]
    return Alignment(pair, map_ab)


def _least_squares(pair: Pair) -> Alignment:
    """Least squares, whose ridge is chosen once and not in each fold: it is the bound that methods are held to."""
    return LeastSquares()(pair)


def _of(name: str, method: Method, source: Source) -> Stitch:
    alignment = align(method, source.pair)
    if method is _least_squares:
        alignment = replace(alignment, method=LeastSquares(alignment.solver["ridge"]))
    return Stitch.of(name, alignment, source.name, source.dealt)
