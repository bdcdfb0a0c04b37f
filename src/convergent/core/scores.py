"""The common yardstick of all methods: how much of net b's variance they explain on held-out images.

Axes: `a` units of net a, `b` units of net b.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from convergent.core.prediction import Prediction, errors, r2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from convergent.core.alignment import Method
    from convergent.core.pairs import Pair


def held_out(method: Method, pair: Pair, folds: int | None = None) -> Tensor:
    """Share of each unit's variance explained on images that the method did not see, shape (q,).

    The method is refitted without each fold of image blocks in turn and predicts that fold with the fit's own means and
    scales; errors in b's own units are summed over the folds before the ratio is taken. A unit that is constant in a fit is
    predicted by its mean there, so what it does in the images left out counts as unexplained. Scores have no lower bound;
    tables and charts have their mean over b's active units. There are `pair.held_out_folds` folds by default.

    Raises:
        InputError: if the pair has fewer than two blocks of images.
    """
    return held_out_of_maps(lambda fit: [method(fit).map_ab], pair, folds)[0]


def fold_predictions(method: Method, pair: Pair) -> tuple[Tensor, list[Prediction]]:
    """The score of `held_out`, and the prediction fitted without each fold, which made it."""
    predictions: list[Prediction] = []

    def maps(fit: Pair) -> list[Tensor]:
        map_ab = method(fit).map_ab
        predictions.append(Prediction.of(map_ab, fit))
        return [map_ab]

    return held_out_of_maps(maps, pair)[0], predictions


def held_out_of_maps(maps: Callable[[Pair], Iterable[Tensor]], pair: Pair, folds: int | None = None) -> Tensor:
    """The same for several maps that one function makes of a pair, as many each time: shape (maps, q)."""
    error_mb, sst_b = torch.zeros(1, pair.q).double(), torch.zeros(pair.q).double()
    for fit, rest in pair.folds(folds):
        of_maps = [errors(map_ab, fit, rest) for map_ab in maps(fit)]
        error_mb = error_mb + torch.stack([error_b for error_b, _ in of_maps])
        sst_b = sst_b + of_maps[0][1]
    return torch.stack([r2(error_b, sst_b) for error_b in error_mb])
