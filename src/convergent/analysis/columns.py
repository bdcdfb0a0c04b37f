"""What the columns of results are, listed and described once: of a row per unit, a row per pair of nets, a row per layer.

CSV, summary.json, W&B, the report page and data frames take them from here, and the data dictionary of docs/ is printed from
here. A column whose value is None does not exist for a result: with folds=0 there is no held-out column.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from convergent.analysis.chance import Chance
    from convergent.analysis.results import Result


@dataclass(frozen=True)
class Column:
    """One column of every table and frame: its name, its meaning in a sentence, its unit or range.

    `of` is its value in a result: an array of shape (q,), a number per pair; None where the result has it not. Columns that
    analyses make have no such function.
    """

    name: str
    meaning: str
    unit: str = ""
    of: Callable[..., Any] | None = None


def _rounded(values: Any) -> Any:
    return None if values is None else values.round(6)


HEAD = (
    Column("layer", "name of the layer", "text"),
    Column("a", "name of the net that predicts", "text"),
    Column("b", "name of the net whose units are predicted", "text"),
    Column("method", "the method, with what was changed in it; in frames of several results", "text"),
)

# A row per unit of b, constant ones included: scores.csv.
UNIT = (
    Column("unit", "number of the unit in net b", "0 to q - 1", lambda of: np.arange(len(of.active_b))),
    Column("active", "whether the unit varies and was to be predicted; others count nowhere", "0 or 1",
           lambda of: of.active_b.astype(int)),
    Column("partner", "the unit of a with the largest weight; -1: none", "0 to p - 1", lambda of: of.partner_b),
    Column("predictors", "predictors per unit: how many units of a have a weight", "0 to p", lambda of: of.predictors_b),
    Column("r", "correlation with the prediction: signed for one predictor, multiple correlation for several", "-1 to 1",
           lambda of: _rounded(of.r_b)),
    Column("best", "the unit of a with the highest correlation, the semi-matching's partner; -1: none", "0 to p - 1",
           lambda of: of.best_b),
    Column("best_r", "that correlation", "-1 to 1", lambda of: _rounded(of.best_r_b)),
    Column("excess", "best_r less its mean with net a on randomly rotated axes; with a rotated null", "-2 to 2",
           lambda of: _rounded(of.excess_b)),
    Column("excess_after", "the same with rotations after the nonlinearity, Gurnee et al.'s; with rotated_after", "-2 to 2",
           lambda of: _rounded(of.excess_after_b)),
    Column("r2_in_sample", "share of variance explained on the images of the fit", "at most 1",
           lambda of: _rounded(of.score_b)),
    Column("r2_held_out", "share of variance explained on held-out images, no lower bound; with folds", "at most 1",
           lambda of: _rounded(of.held_out_b)),
    Column("kl_ablated", "KL from net b's own output with this unit alone replaced by its mean (function=units, a sample)",
           "nats", lambda of: _rounded(of.kl_ablated_b)),
    Column("kl_substituted", "the same with the unit replaced by its prediction, its variance restored", "nats",
           lambda of: _rounded(of.kl_substituted_b)),
)  # fmt: skip

# A row per ordered pair of nets: `pairs` of summary.json. Means are over active units of b; unpredicted ones count as 0.
PAIR = (
    Column("images", "images read", "count", lambda of: of.images),
    Column("samples", "samples: images times positions", "count", lambda of: of.samples),
    Column("blocks", "blocks of images, for held-out scores and intervals", "count", lambda of: of.blocks),
    Column("units", "units of b, constant ones included", "count", lambda of: len(of.active_b)),
    Column("constant_a", "units of a that never vary", "count", lambda of: of.constant_a),
    Column("constant_b", "units of b that never vary", "count", lambda of: of.constant_b),
    Column("unmatched_b", "active units of b without a predictor", "count",
           lambda of: int((of.active_b & ~of.matched_b).sum())),
    Column("unshared_a", "active units of a that are nobody's partner", "count", lambda of: of.unshared_a),
    Column("predictors", "mean predictors per unit", "0 to p", lambda of: of.mean(of.predictors_b)),
    Column("mean_r", "mean correlation with the prediction, over units that have one", "-1 to 1",
           lambda of: of.mean(of.r_b, of.matched_b)),
    Column("mean_best_r", "mean of each unit's highest correlation with a single unit of a", "-1 to 1",
           lambda of: of.mean(of.best_r_b)),
    Column("excess", "mean of best_r less its mean on randomly rotated axes; with a rotated null", "-2 to 2",
           lambda of: of.mean(of.excess_b)),
    Column("universal", "share of units whose excess_after, or where there is none excess, is above 0.5; `across` of "
           "summary.json has it of the mean over nets a, which is Gurnee et al.'s", "0 to 1",
           lambda of: None if (by := of.excess_after_b if of.excess_b is None or of.excess_after_b is not None
                               else of.excess_b) is None else of.mean(by > 0.5)),
    Column("excess_low", "lower end of its 95% interval over images and rotations; with intervals, up to 2048 units", "",
           lambda of: of.left_out and of.left_out.excess and float(of.left_out.excess.low)),
    Column("excess_high", "upper end", "",
           lambda of: of.left_out and of.left_out.excess and float(of.left_out.excess.high)),
    Column("excess_after", "excess with rotations after the nonlinearity; with rotated_after", "-2 to 2",
           lambda of: of.mean(of.excess_after_b)),
    Column("mean_r_low", "lower end of mean_r's 95% interval over images; with intervals", "",
           lambda of: of.interval and of.interval[0]),
    Column("mean_r_high", "upper end", "", lambda of: of.interval and of.interval[1]),
    Column("agreement", "share of units whose partner is the one with the highest correlation", "0 to 1",
           lambda of: of.mean(of.partner_b == of.best_b)),
    Column("best_r_below_half", "share of units without any unit of a at a correlation of 0.5", "0 to 1",
           lambda of: of.mean(of.best_r_b < 0.5)),
    Column("r2_in_sample", "mean share of variance explained on the images of the fit", "at most 1",
           lambda of: of.mean(of.score_b)),
    Column("r2_held_out", "mean share of variance explained on held-out images, no lower bound; with folds", "at most 1",
           lambda of: of.mean(of.held_out_b)),
    Column("r2_held_out_median", "the same of the median unit, where few units may decide a mean", "at most 1",
           lambda of: of.mean(of.held_out_b, middle=np.median)),
    Column("optimism", "r2_in_sample less r2_held_out", "", lambda of: of.mean(of.optimism_b)),
)  # fmt: skip

# Of each null in a row per pair; NULL stands for rotated, rotated_after or shuffled. `of` is asked with the result, chance.
NULL = (
    Column("mean_r_NULL", "mean_r of the method in the null", "-1 to 1", lambda _, chance: chance.mean_r),
    Column("mean_best_r_NULL", "mean_best_r in the null", "-1 to 1",
           lambda _, chance: float(chance.best_r.mean()) if len(chance.best_r) else None),
    Column("above_NULL", "share of units whose best_r exceeds what 19 of 20 units have in the null", "0 to 1",
           lambda of, chance: of.mean(of.best_r_b > chance.threshold)),
    Column("predictors_NULL", "mean predictors per unit in the null", "0 to p", lambda _, chance: chance.predictors),
    Column("r2_held_out_NULL", "r2_held_out in the null; with folds", "at most 1",
           lambda _, chance: chance.r2_held_out),
)  # fmt: skip

# What else a row may have: of the method's solver, of measures of similarity and of analyses.
MORE = (
    Column("solver_NAME", "what the solver says of itself: gap (proof of the optimum), alpha or ridge (penalty), clusters"),
    Column("loss_fitted", "loss (1 - R^2) / 2 on the images of the fit (analysis codes)", "0 to 0.5"),
    Column("loss_held_out", "the same on held-out images", "at least 0"),
    Column("loss_one_unit", "held-out loss of the best single unit, scaled", "at least 0"),
    Column("loss_least_squares", "held-out loss of all units, by ridge regression", "at least 0"),
    Column("local", "share of units that one unit predicts as well as all do", "0 to 1"),
    Column("slightly_distributed", "share of units for which two to eight units do, and one does not", "0 to 1"),
    Column("distributed", "share of units for which more than eight units are needed", "0 to 1"),
    Column("undecided", "share of units of which these images do not say", "0 to 1"),
    Column("unpredicted", "share of units that all units do not predict at all", "0 to 1"),
    Column("balanced_clusters", "clusters of a map's tree with as many units of both nets (analysis tree)", "count"),
    Column("clusters_tested", "such clusters that half of the images choose", "count"),
    Column("clusters_confirmed", "of these, confirmed at p <= 0.05 by the other half", "count"),
    Column("width", "units of a (analysis path)", "count"),
    Column("similarity_between", "mean correlation between the nets inside a unit's cluster (analysis clusters)", "0 to 1"),
    Column("similarity_within", "the same within the nets", "0 to 1"),
    Column("similarity_*_spread", "their standard deviation over seeds of k-means, or with each fold of images left out"),
    Column("rand", "adjusted Rand index between these other clusterings", "at most 1"),
    Column("mixed", "share of clusters with units of both nets", "0 to 1"),
    Column("unequal", "share of these with unequal numbers of them", "0 to 1"),
    Column("subspace_KIND_correlation", "mean canonical correlation in clusters (span), of units matched one to one "
           "(matched), matched after a random rotation within the cluster (rotated_within), of random groups (random)"),
    Column("subspace_KIND_explained", "share of variance explained, by the same", "0 to 1"),
    Column("kept", "1 - KL / KL of the mean-ablated layer: what is left of net b's decisions with the prediction in "
           "the layer's place (function=true)", "at most 1"),
    Column("same_decision", "share of held-out images on which net b, so stitched, decides as it does itself", "0 to 1"),
    Column("kept_restored", "kept, with each unit's variance restored; same_decision_restored likewise", "at most 1"),
    Column("kept_CONTROL", "of another map in the layer's place: rotated and untrained (the method from net a on random "
           "axes, from an untrained net), permuted (a random matching), least_squares, least_squares_untrained; with "
           "_restored, and same_decision_CONTROL likewise", "at most 1"),
    Column("same_decision_above_rotated", "same_decision_restored less that of the rotated control", "-1 to 1"),
    Column("kl_ratio_ORDER_half", "KL with half of the matched units substituted over KL with these ablated; the best, the "
           "worst matched, or random ones (function=units)", "at least 0"),
    Column("needed", "mean log ratio of what ablating costs, of the better to the worse matched of two units of the same "
           "variance"),
    Column("same_decision_above_rotated_low", "lower end of its 95 % interval over images", ""),
    Column("activation", "the unit's highest (contexts.csv, of language models)"),
    Column("contexts", "the tokens around its highest activations, these between « and »", "text"),
    Column("net_N", "another net; partner_N, r_N, contexts_N: its unit that is the partner, and its contexts", "text"),
    Column("others", "in how many of the other nets a unit has a partner above chance (found_in.csv)", "0 to nets - 1"),
    Column("low", "lower end of the 95% interval of their share over images, high its upper end; with intervals", "0 to 1"),
    Column("nets_low", "the same over nets, from the spread of their shares; nets_high", "0 to 1"),
    Column("rotated", "the share of rotated units; the least and the greatest of the draws: rotated_low, rotated_high",
           "0 to 1"),
    Column("layer_b", "number of a layer of b's population, layer_a of a's (depth.csv)", "from 0"),
    Column("share", "share of units (found_in.csv); in depth.csv of that layer's units whose best partner is there, "
           "share_above: above chance", "0 to 1"),
    Column("nats", "mean mutual information with the partner, in nats (analysis nats)", "at least 0"),
    Column("mean_abs_r", "mean |r| with these partners", "0 to 1"),
    Column("same_partner", "share of units whose partner by correlation is the same", "0 to 1"),
    Column("same_partner_of_best_8", "the same of the eight units with most nats", "0 to 1"),
)  # fmt: skip

# Measures of similarity, of both directions alike but where it says otherwise; absent where undefined, see similarity.md.
SIMILARITY = (
    Column("cka", "linear CKA of the two nets' units, from covariances (biased)", "0 to 1"),
    Column("cka_debiased", "the same without the bias of few images, over blocks of images", "about 0 to 1"),
    Column("cka_debiased_samples", "the same as if positions were independent samples, as everyone has it", "about 0 to 1"),
    Column("cka_ceiling", "CKA of each net's covariances on one half of the images with those on the other", "0 to 1"),
    Column("rv", "RV coefficient: CKA of standardised units", "0 to 1"),
    Column("rv_adjusted", "RV less its mean over permuted samples, as a share of the rest", "at most 1"),
    Column("rsa_pearson", "correlation of squared distances between all pairs of samples", "-1 to 1"),
    Column("rsa_cosine", "cosine of the same", "0 to 1"),
    Column("cca", "mean canonical correlation", "0 to 1"),
    Column("svcca", "the same of the principal components that explain 99 % of the variance", "0 to 1"),
    Column("pwcca", "mean canonical correlation, weighted by what the directions account for in b; directed", "0 to 1"),
    Column("procrustes", "cosine after the best rotation; the Bures similarity of Gram matrices", "0 to 1"),
    Column("shape", "angle after the best rotation of half whitened units; 0 is the same", "0 to pi / 2"),
    Column("bures", "Bures distance between Gram matrices of trace 1; 0 is the same", "0 to sqrt(2)"),
    Column("gulp", "distance between predictions by ridge regression on either net; 0 is the same", "at least 0"),
    Column("ridge_ab", "share of b's variance that ridge regression on a explains, held out; directed", "at most 1"),
    Column("ridge_ba", "share of a's variance that regression on b explains; directed", "at most 1"),
    Column("soft_matching", "mean correlation of units in the best soft matching", "-1 to 1"),
    Column("soft_matching_partial", "the same where a tenth of the units stays without partner", "-1 to 1"),
    Column("overlap_90", "mean squared cosine between the spans of components that explain 90 % (95, 99)", "0 to 1"),
    Column("overlap_95", "the same of 95 %", "0 to 1"),
    Column("overlap_99", "the same of 99 %", "0 to 1"),
    Column("neighbours", "share of a sample's 10 nearest that both nets have in common; of 5,000 samples at most", "0 to 1"),
    Column("cka_rbf", "CKA with Gaussian kernels, without bias; of 5,000 samples at most", "about 0 to 1"),
    Column("rsa_spearman", "rank correlation of distances between samples; of 5,000 at most", "-1 to 1"),
    Column("NAME_shuffled", "a measure of nets that read other images each; with shuffled images among the nulls"),
    Column("NAME_low", "lower end of its 95 % interval over images; with measure_intervals"),
    Column("NAME_high", "upper end"),
)  # fmt: skip

# What a row per layer adds to the name of a column: `layers` of summary.json, means over the ordered pairs of nets.
LAYER = (
    Column("pairs", "ordered pairs of nets", "count"),
    Column("NAME_sd", "standard deviation over the pairs"),
    Column("NAME_pairs", "how many pairs have that column, where some have not", "count"),
    Column("NAME_nets_low", "lower end of the 95% interval over nets of other seeds; from three nets"),
    Column("NAME_nets_high", "upper end"),
)


def unit_columns(result: Result) -> dict[str, Any]:
    """The columns of a row per unit that a result has: arrays of shape (q,), by name."""
    return _there(UNIT, result)


def pair_columns(result: Result) -> dict[str, Any]:
    """The columns of a result's row per pair, by name."""
    row = _there(PAIR, result)
    for name, chance in result.chance.items():
        row |= {key.replace("NULL", name): value for key, value in _there(NULL, result, chance).items()}
    return row | {f"solver_{name}": value for name, value in result.solver.items()} | dict(result.similarity)


def _there(columns: tuple[Column, ...], result: Result, *chance: Chance) -> dict[str, Any]:
    values = {column.name: column.of(result, *chance) for column in columns if column.of}
    return {name: value for name, value in values.items() if value is not None}
