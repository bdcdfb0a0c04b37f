import pytest
import torch

from convergent.core.alignment import Alignment
from convergent.core.pairs import Pair
from convergent.methods.matching import Matching
from convergent.report.unit_pictures import drawings_of, filters_of, pictured_rows
from convergent.streaming.patches import Patches
from convergent.streaming.top_images import TopImages


def patches(c, k=9):
    top = TopImages(torch.rand(c, k) + 1, torch.randint(50, (c, k)), torch.zeros(c, k, dtype=torch.long))
    return Patches(top, None, 1, torch.randint(256, (c, k, 4, 4, 1), dtype=torch.uint8))


@pytest.fixture
def pair():
    x = torch.randn(200, 8).double()
    return Pair.of(x, x[:, torch.randperm(8)] + 0.3 * torch.randn(200, 8))


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_what_is_drawn_follows_from_the_record(pair):
    both = {"a": patches(8), "b": patches(8)}
    one = Matching()(pair)
    assert list(drawings_of(one, [both])) == ["matches"]
    assert drawings_of(one, []) == {}
    assert drawings_of(one, [{}]) == {}
    many = Alignment(pair, pair.corr_ab / 4, torch.arange(8) // 4, torch.arange(8) // 4)
    tables = {
        "tree": [
            {"units_a": "0 1 2", "units_b": "1 2", "r": 0.5},
            {"units_a": "0 1 2 3", "units_b": "4 5 6 7", "r": 0.25},
        ]
    }
    drawn = drawings_of(many, [both, {net: patches(8, 1) for net in "ab"}], tables)
    assert list(drawn) == ["matches", "predictors", "clusters-units", "tree-units", "matches-ascent"]
    labels = texts(drawn["tree-units"]())
    assert labels.index("4 + 4 units\nr 0.25") < labels.index("3 + 2 units\nr 0.50")  # four and four come first
    assert all(len(draw().axes[0].images) > 7 for draw in drawn.values())


def test_matches_are_sorted_and_name_partners(pair):
    alignment = Matching()(pair)
    labels = texts(drawings_of(alignment, [{"a": patches(8), "b": patches(8)}])["matches"]())
    r = [float(text.removeprefix("r = ")) for text in labels if text.startswith("r = ")]
    assert r == sorted(r, reverse=True)
    assert len(r) == 8
    best = int(alignment.r_b.argmax())
    assert labels[:4][1] == str(best)
    assert str(int(alignment.partner_b[best])) in labels[:4]


def test_rows_with_pictures_are_best_first(pair):
    rows = pictured_rows(Matching()(pair), {"a": patches(8), "b": patches(8)})
    assert [row["r"] for row in rows] == sorted((row["r"] for row in rows), reverse=True)
    assert rows[0]["a"].shape == rows[0]["b"].shape
    assert rows[0]["a"].shape[2] == 3


def test_filters_are_those_of_a_first_layer(pair):
    first = {net: torch.nn.Sequential(torch.nn.Conv2d(3, 8, 5), torch.nn.ReLU()) for net in "ab"}
    assert list(filters_of(Matching()(pair), first)) == ["filters"]
    later = {net: torch.nn.Conv2d(16, 8, 3) for net in "ab"}
    assert filters_of(Matching()(pair), later) == {}
