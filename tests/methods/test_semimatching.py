"""Laws of the best partner."""

import torch

from conftest import planted
from convergent.core.pairs import Pair
from convergent.methods.semimatching import SemiMatching


def test_each_unit_takes_the_maximum_of_its_column():
    pair = Pair.of(torch.randn(80, 9), torch.randn(80, 14))
    alignment = SemiMatching()(pair)
    assert torch.allclose(alignment.r_b, pair.corr_ab.amax(0))
    assert torch.equal(alignment.partner_b, pair.corr_ab.argmax(0))
    assert alignment.predictors_b.tolist() == [1] * 14
    assert alignment.sharing_a.sum() == 14


def test_ties_go_to_the_first():
    x = torch.randn(50, 1)
    assert SemiMatching()(Pair.of(x.repeat(1, 3), x)).partner_b.tolist() == [0]


def test_the_sign_counts_unless_told_otherwise():
    x_na, _, _ = planted(200, 2, 2)
    x_nb = -x_na[:, :1] + 0.3 * x_na[:, 1:]
    pair = Pair.of(x_na, x_nb)
    assert SemiMatching()(pair).partner_b.tolist() == [1]
    absolute = SemiMatching(absolute=True)(pair)
    assert absolute.partner_b.tolist() == [0]
    assert absolute.r_b[0] < -0.9


def test_constant_units_neither_take_nor_are_taken():
    x_na, x_nb, _ = planted(100)
    x_na[:, 0], x_nb[:, 0] = 0.0, 0.0
    x_nb[:, 1] = -x_na.sum(1)  # every correlation negative: the constant unit's 0 must not win
    alignment = SemiMatching()(Pair.of(x_na, x_nb))
    assert alignment.partner_b[0] == -1
    assert (alignment.partner_b[1:] > 0).all()
    everything_constant = SemiMatching()(Pair.of(torch.zeros(10, 3), torch.randn(10, 3)))
    assert everything_constant.partner_b.tolist() == [-1] * 3
