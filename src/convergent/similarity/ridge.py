"""How much of one net's variance linear regression on the other explains on held-out images."""

from __future__ import annotations

from dataclasses import replace

from convergent.core.pairs import Pair
from convergent.core.regression import best_ridge, ridge_map
from convergent.core.scores import held_out_of_maps
from convergent.similarity.shared import shared, vary


def ridge_ab(pair: Pair) -> float | None:
    """The share of variance of net b's units that net a's explain on held-out images: the mean over b's active units.

    At most 1, without lower bound; the ridge is chosen by held-out images among those of the fit, up to one that leaves the
    mean as prediction. It is `r2_held_out` of least squares. Ignores a gain per unit and permutations; with samples enough
    nearly every invertible map of net a.

    Returns:
        None where a net is constant, or nothing is held out (folds=0, a single block of images).

    Source: Hoerl, Kennard 1970; as a measure of similarity: Li et al. 2016, section 4; Kornblith et al. 2019.
    """
    if not pair.holds_out or not vary(pair):
        return None

    def made() -> float:
        moments_only = replace(pair, joint=None)  # joint histograms of every fold would take their time
        share_b = held_out_of_maps(lambda fit: [ridge_map(fit, best_ridge(fit))], moments_only)[0]
        return float(share_b[pair.active_b].mean())

    return shared(pair, ("ridge", pair.held_out_folds), made, pair.a, pair.b)


def ridge_ba(pair: Pair) -> float | None:
    """The share of net a's variance that net b's units explain, see `ridge_ab`."""
    return ridge_ab(pair.flip())
