"""One record a result: its columns are the same in rows, summaries and frames, and every one of them is described."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import planted
from convergent.analysis import columns
from convergent.analysis.by_layer import by_layer
from convergent.analysis.nulls import rotated
from convergent.analysis.results import compare
from convergent.core.alignment import Alignment, align
from convergent.core.pairs import Pair
from convergent.errors import InputError
from convergent.methods.least_squares import LeastSquares
from convergent.methods.matching import Matching
from convergent.methods.sparse import SparsePrediction
from convergent.similarity.cka import cka


def made(folds=3, **options):
    x_na, x_nb, _ = planted(120, 8, 8, noise=1.5)
    x_nb[:, 2] = 0
    pair = replace(Pair.of(x_na, x_nb), held_out_folds=folds)
    nulls = {"rotated": [rotated(pair)], "rotated_after": [rotated(pair)], "shuffled": [pair]}
    options = {
        "null_pairs": nulls,
        "rotated_a": [rotated(pair.flip()).flip()],
        "similarity": {"cka": cka(pair)},
    } | options
    return compare(LeastSquares(), pair, 120, interval=True, **options)


def test_every_column_is_described_and_the_described_ones_are_there():
    _, result = made()
    result = replace(result, kl_ablated_b=result.r_b, kl_substituted_b=result.r_b)
    names = [column.name for column in (*columns.HEAD, *columns.UNIT)]
    assert ["layer", "a", "b", *names[4:]] == list(result.rows()[0])
    known = [column.name for column in (*columns.HEAD, *columns.PAIR, *columns.SIMILARITY, *columns.MORE)]
    nulls = ("rotated", "rotated_after", "shuffled")
    known += [column.name.replace("NULL", null) for column in columns.NULL for null in nulls]
    summary = result.summary()
    assert set(summary) - {"solver_ridge"} <= set(known)
    assert {column.name for column in columns.PAIR} <= set(summary)
    assert 0 < summary["cka"] < 1
    groups = (columns.HEAD, columns.UNIT, columns.PAIR, columns.NULL, columns.SIMILARITY, columns.MORE, columns.LAYER)
    for group in groups:
        assert len({column.name for column in group}) == len(group)
        assert all(column.meaning and not column.meaning.endswith(".") for column in group)


def test_a_frame_has_the_rows_of_the_table_and_an_alignments_frame_is_a_part_of_it():
    alignment, result = made()
    frame, rows = result.frame(), result.rows()
    assert list(frame) == list(rows[0])
    assert frame.to_dict("records") == rows
    assert list(replace(result, method="mine").frame())[:4] == ["layer", "a", "b", "method"]
    own = alignment.frame()
    assert set(own) <= set(frame)
    assert np.allclose(own["r"], frame["r"], atol=1e-6)
    assert own["active"].sum() == frame["active"].sum() == 7


def test_what_was_not_asked_for_has_no_column_anywhere():
    _, result = made(folds=0, null_pairs={}, rotated_a=[], similarity={})
    names = [
        *result.summary(),
        *result.rows()[0],
        *result.frame(),
        *by_layer([result.summary(), {**result.summary(), "a": "b", "b": "a"}])[""],
    ]
    unasked = ("held_out", "optimism", "rotated", "shuffled", "excess", "cka")
    assert not [name for name in names if any(part in name for part in unasked)]
    assert None not in result.summary().values()


def test_records_say_what_they_are_in_a_line():
    alignment, result = made()
    for record in (alignment, result, alignment.pair):
        assert len(repr(record)) < 150
        assert "\n" not in repr(record)
        assert "tensor" not in repr(record)


def test_scores_are_made_when_they_are_asked_for_and_once(monkeypatch):
    asked = []
    monkeypatch.setattr("convergent.core.alignment.explained", lambda *_: asked.append(1) or torch.zeros(8).double())
    pair = Pair.of(*planted(120, 8, 8, noise=1.5)[:2])
    alignment = align(Matching(), pair)
    assert alignment.partner_b.shape == alignment.sharing_a.shape == (8,)
    assert asked == []
    assert alignment.score_b is alignment.score_b
    assert asked == [1]
    assert alignment.held_out_b is alignment.held_out_b


def test_a_refit_needs_to_know_its_method_and_starts_where_the_alignment_ended():
    pair = Pair.of(*planted(120, 8, 8, noise=1.5)[:2])
    with pytest.raises(InputError, match="A refit needs the method"):
        Alignment(pair, torch.zeros(8, 8).double()).refit(choices=True)
    alignment = align(SparsePrediction(alpha=0.1), pair)
    for choices in (True, False):
        assert torch.allclose(alignment.refit(choices=choices)(pair).map_ab, alignment.map_ab, atol=1e-12)


def test_covariances_are_those_of_the_samples():
    x_na, x_nb, _ = planted(120, 4, 5, noise=1.5)
    x_na[:, 1] = 1e3
    pair = Pair.of(x_na, x_nb)
    expected = torch.cov(torch.cat([x_na, x_nb], 1).T, correction=0)
    for cov, rows, columns_ in (
        (pair.cov_aa, pair.a, pair.a), (pair.cov_ab, pair.a, pair.b), (pair.cov_bb, pair.b, pair.b),
    ):  # fmt: skip
        assert torch.allclose(cov, expected[rows, columns_])
    assert not pair.cov_ab[1].any()
