"""The pairs of one layer in which there is nothing to be found but chance, for every null that was asked for.

Axes: `a` and `b` numbers of two nets.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations, permutations
from typing import overload

from torch import Tensor

from convergent.analysis.nulls import best, rotated
from convergent.analysis.several import SeveralNets
from convergent.core.pairs import Pair, Store
from convergent.streaming.histograms.layer_histograms import LayerHistograms
from convergent.streaming.rotated_pass import RotatedMoments
from convergent.streaming.rotations import rotated_name

_AFTER = 3  # rotations of activations that are at hand


@dataclass(frozen=True)
class NullPairs:
    """The nulls of one layer.

    Attributes:
        pair: makes the pair of two nets as they are.
        rotations: moments on rotated axes, where this null was asked for.
        counted: joint histograms of the first rotation, for methods that need them.
        shuffled: makes the pair of two nets that read other images each, where that null was asked for.
        after: whether rotated activations were asked for.
        folds: that held-out scores are made of.
        room: bytes of rotations that are kept for who asks again; by default each is read anew.
        store: of the rotated pairs, see `Pair.store`.
    """

    pair: Callable[[int, int], Pair]
    rotations: RotatedMoments | None = None
    counted: LayerHistograms | None = None
    shuffled: Callable[[int, int], Pair] | None = None
    after: bool = False
    folds: int = 5
    room: int = 0
    store: Store | None = None
    _made: dict[tuple[int, int, int], Pair] = field(default_factory=dict, init=False, repr=False)

    def of(self, a: int, b: int) -> dict[str, Sequence[Pair]]:
        """The draws of every null, by its name: the pair of two nets with b's units without meaning."""
        draws: dict[str, Sequence[Pair]] = {}
        if self.rotations:
            rotated = partial(self._rotated, self.rotations, a, b)
            draws["rotated"] = _Made([partial(rotated, draw) for draw in self.rotations.draws])
        if self.after:
            draws["rotated_after"] = _Made([partial(self._after, a, b, seed) for seed in range(_AFTER)])
        if self.shuffled:
            draws["shuffled"] = _Made([partial(_ordered, self.shuffled, a, b)])
        return draws

    def rotated_a(self, a: int, b: int) -> Sequence[Pair]:
        """The pair with the units of net a on randomly rotated axes, before its nonlinearity if that was asked for."""
        there = self.of(b, a)
        pairs = there.get("rotated", there.get("rotated_after", ()))
        return _Made([partial(_flipped, pairs, draw) for draw in range(len(pairs))])

    def _rotated(self, rotations: RotatedMoments, a: int, b: int, draw: int) -> Pair:
        if (pair := self._made.get((a, b, draw))) is None:
            pair = replace(rotations.pair(a, b, draw), held_out_folds=self.folds, store=self.store)
            if sum(map(_size, [pair, *self._made.values()])) <= self.room:
                self._made[a, b, draw] = pair
        if self.counted is None or draw > 0:
            return pair
        return replace(pair, joint=self.counted.joint(rotations.nets[a], rotated_name(rotations.nets[b], draw)))

    def _after(self, a: int, b: int, seed: int) -> Pair:
        return rotated(_ordered(self.pair, a, b), seed)


class _Made(Sequence[Pair]):
    """Pairs that are made when asked for: all draws of wide layers at once would fill the memory."""

    def __init__(self, makers: Sequence[Callable[[], Pair]]) -> None:
        self._makers = makers

    def __len__(self) -> int:
        return len(self._makers)

    @overload
    def __getitem__(self, place: int) -> Pair: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Pair]: ...
    def __getitem__(self, place: int | slice) -> Pair | Sequence[Pair]:
        return _Made(self._makers[place]) if isinstance(place, slice) else self._makers[place]()


def _size(pair: Pair) -> int:
    """Bytes of its moments, were they dense."""
    return 8 * pair.blocks * (pair.p + pair.q) ** 2


def _ordered(pair: Callable[[int, int], Pair], a: int, b: int) -> Pair:
    return pair(a, b) if a < b else pair(b, a).flip()


def _flipped(pairs: Sequence[Pair], draw: int) -> Pair:
    return pairs[draw].flip()


def rotated_nets(rotations: RotatedMoments | None) -> list[SeveralNets]:
    """A layer with every net rotated, each by a rotation of its own; a draw each."""
    if rotations is None:
        return []
    nets, k = [], len(rotations.nets)
    for draw in rotations.draws:
        pairs = {(i, j): rotations.pair(i, j, draw, both=True) for i, j in combinations(range(k), 2)}
        active = {j: pair.active_b for (_, j), pair in pairs.items()} | {0: pairs[0, 1].active_a}
        corr = {ij: pair.corr_ab.clone() for ij, pair in pairs.items()}  # a view would keep the pair's moments
        nets.append(SeveralNets(rotations.nets, corr, [active[i] for i in range(k)]))
    return nets


def best_by_chance(rotations: RotatedMoments | None) -> list[dict[tuple[int, int], Tensor]]:
    """For every draw {(i, j): the highest correlation of each unit of net i, rotated, with those of net j as it is}."""
    if rotations is None:
        return []
    nets = list(permutations(range(len(rotations.nets)), 2))
    return [{(i, j): best(rotations.pair(j, i, draw)) for i, j in nets} for draw in rotations.draws]
