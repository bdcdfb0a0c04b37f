"""Rank correlations of measures with what is left of function: scipy's, with intervals over nets that cover."""

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from convergent.analysis.predicting import rank_correlations
from convergent.errors import InputError


def frame_of(nets=6, layers=("conv1", "fc1"), noise=0.5, seed=0):
    """Pairs of nets that differ by a part of each net; a measure that sees it, one that does not, and a distance."""
    random = np.random.default_rng(seed)
    quality, rows = random.normal(size=nets), []
    for layer in layers:
        for a, b in permutations(range(nets), 2):
            kept = quality[a] + quality[b] + noise * random.normal()
            sees = kept + noise * random.normal()
            rows.append((layer, f"net{a}", f"net{b}", kept, sees, random.normal(), -sees))
    return pd.DataFrame(rows, columns=["layer", "a", "b", "kept", "sees", "blind", "distance"])


def test_they_are_those_of_scipy_the_strongest_first_and_of_distances_negative():
    frame = frame_of()
    frame.loc[3, "sees"] = None
    made = rank_correlations(frame, ["blind", "sees", "distance"]).set_index("column")
    for name, row in made.iterrows():
        there = frame[name].notna()
        assert row["correlation"] == pytest.approx(spearmanr(frame[name][there], frame["kept"][there]).statistic)
        assert row["low"] < row["correlation"] < row["high"]
    assert made.index[-1] == "blind"
    assert made.loc["distance", "high"] < 0 < made.loc["sees", "low"]
    assert made.loc["sees", "rows"] == len(frame) - 1 == made.loc["blind", "rows"] - 1
    assert (made["nets"] == 6).all()


def test_intervals_over_nets_cover_where_pairs_share_nets():
    truth = rank_correlations(frame_of(nets=120, layers=["fc1"], seed=999), ["sees"])["correlation"][0]
    made = [rank_correlations(frame_of(nets=10, seed=seed), ["sees"]).iloc[0] for seed in range(120)]
    assert np.mean([row["low"] < truth < row["high"] for row in made]) > 0.88


def test_few_nets_and_what_never_varies_have_no_interval_and_what_is_missing_is_said():
    frame = frame_of(nets=2, layers=("conv1", "conv2", "fc1"))
    assert rank_correlations(frame, ["sees"])["low"].isna().all()
    assert rank_correlations(frame_of().assign(blind=1.0), ["blind"])["correlation"].isna().all()
    with pytest.raises(InputError, match="cka is missing"):
        rank_correlations(frame, ["cka"])
    with pytest.raises(InputError, match="3 rows at least"):
        rank_correlations(frame.assign(sees=None), ["sees"])
