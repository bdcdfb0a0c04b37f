"""What a pair of nets keeps, and how its blocks of images are dealt."""

import pytest
import torch

from conftest import planted
from convergent.analysis.nulls import rotated
from convergent.core.blocks import block_of_image
from convergent.core.moments import Moments
from convergent.core.pairs import Pair
from convergent.core.scores import held_out
from convergent.errors import InputError
from convergent.methods.least_squares import LeastSquares
from convergent.methods.matching import Matching


def test_correlations_are_those_of_the_samples():
    x_na, x_nb, _ = planted(300, 5, 7)
    pair = Pair.of(x_na, x_nb.numpy())
    corr = torch.corrcoef(torch.cat([x_na, x_nb], 1).T)
    assert torch.allclose(pair.corr_aa, corr[:5, :5])
    assert torch.allclose(pair.corr_ab, corr[:5, 5:])
    assert torch.allclose(pair.corr_bb, corr[5:, 5:])
    assert (pair.p, pair.q, pair.count, pair.blocks) == (5, 7, 300, 20)


def test_activations_that_carry_gradients_or_integers_will_do():
    x_na, x_nb, _ = planted(100)
    pair = Pair.of(x_na.requires_grad_(), (x_nb.detach() * 100).int())
    assert not pair.corr_ab.requires_grad
    assert pair.corr_ab.dtype == torch.float64


def test_the_flipped_pair_is_the_pair_of_flipped_samples():
    x_na, x_nb, _ = planted(100, 3, 4)
    flipped, other = Pair.of(x_na, x_nb).flip(), Pair.of(x_nb, x_na)
    assert torch.allclose(flipped.corr_ab, other.corr_ab)
    assert torch.allclose(flipped.corr_aa, other.corr_aa)
    assert (flipped.name_a, flipped.p) == ("b", 4)


def test_positions_of_one_image_stay_in_one_block():
    image_n = torch.arange(60).repeat_interleave(5) * 1000  # any numbers
    pair = Pair.of(torch.randn(300, 2), torch.randn(300, 2), image_n, blocks=7)
    assert pair.blocks == 7
    assert sorted(pair.moments.count.tolist()) == [40.0] * 3 + [45.0] * 4  # whole images of 5 positions


def test_folds_hold_out_every_image_once():
    x_na, x_nb, _ = planted(90)
    pair = Pair.of(x_na, x_nb, blocks=9)
    folds = list(pair.folds(4))
    assert len(folds) == 4
    assert sum(held.count for _, held in folds) == 90
    for fit, held in folds:
        together = fit.total + held.total
        assert torch.allclose(together.scatter_uu, pair.total.scatter_uu)
    assert len(list(pair.folds(50))) == 9


def test_weights_of_blocks():
    x_na, x_nb, _ = planted(60)
    pair = Pair.of(x_na, x_nb, blocks=3)
    block_n = block_of_image(60, 3)
    twice = torch.cat([x_na, x_nb], 1)[
        torch.cat([(block_n == 0).nonzero()[:, 0], (block_n == 2).nonzero()[:, 0].repeat(2)])
    ]
    weighted = pair.weighted(torch.tensor([1.0, 0, 2]))
    assert torch.allclose(weighted.total.cov_uu, Moments.of(twice).cov_uu)


def test_constant_units_are_decided_here():
    x_na, x_nb, _ = planted(50)
    x_na[:, 2], x_nb[:, 0] = 4.0, 0.0
    pair = Pair.of(x_na, x_nb)
    assert (~pair.active_a).nonzero().tolist() == [[2]]
    assert (~pair.active_b).nonzero().tolist() == [[0]]
    assert torch.isfinite(pair.corr_ab).all()
    assert pair.corr_ab[2].abs().sum() == 0


def test_blocks_are_equal_up_to_one_and_always_alike():
    block_n = block_of_image(1797, 64)
    sizes = torch.bincount(block_n)
    assert len(sizes) == 64
    assert sizes.max() - sizes.min() == 1
    assert torch.equal(block_n, block_of_image(1797, 64))
    assert block_of_image(3, 64).unique().tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(3, 2), torch.zeros(4, 2)), "rows are the same samples"),
        ((torch.zeros(3, 2, 1), torch.zeros(3, 2)), "every sample .image, position. is a row"),
        ((torch.randn(3, 2), torch.randn(3, 2), torch.zeros(2)), "one whole number per sample"),
        ((torch.randn(3, 2), torch.randn(3, 2), None, 0), "at least 1, not 0"),
    ],
)
def test_what_does_not_correspond_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        Pair.of(*arguments)


def test_one_block_cannot_be_held_out():
    with pytest.raises(InputError, match="at least 2 blocks"):
        list(Pair.of(torch.randn(5, 2), torch.randn(5, 2), blocks=1).folds(5))


def test_no_prediction_rests_on_a_unit_that_fired_in_one_block_of_images(monkeypatch):
    x_na, weight = torch.randn(300, 4).double(), torch.randn(4, 3).double()
    x_nb = x_na @ weight + 0.1 * torch.randn(300, 3).double()
    rare_n = torch.zeros(300).double()
    rare_n[7], rare_n[150] = 1e-3, 1.0  # the fold without image 150 sees a unit a thousand times smaller than it can be
    pair = Pair.of(torch.cat([x_na, rare_n[:, None]], 1), x_nb)
    assert pair.active_a.all()
    assert pair.reliable_a.tolist() == [True] * 4 + [False]
    assert all(fit.reliable_a.tolist() == [True] * 4 + [False] for fit, _ in pair.folds(5))
    assert held_out(LeastSquares(1e-3), pair).min() > 0.9
    few = Pair.of(torch.cat([x_na, rare_n[:, None]], 1), x_nb, blocks=5)  # too few to tell
    assert few.reliable_a.all()
    twice = Pair.of(torch.cat([x_na, rare_n.roll(3)[:, None] + rare_n[:, None]], 1), x_nb)
    assert twice.reliable_a.all()
    monkeypatch.setattr(Pair, "reliable_a", Pair.active_a)
    assert held_out(LeastSquares(1e-3), pair).min() < -1  # what it is for: no other unit is worth predicting with it


@pytest.mark.parametrize("scale", [1e-200, 1e160])
def test_scores_do_not_depend_on_the_scale_however_large_or_small(scale):
    x_na, x_nb, _ = planted(300)
    truth, far = (
        Pair.of(x_na, x_nb),
        Pair.of(x_na * scale, x_nb * torch.tensor([scale, 1, 1, scale, 1, 1 / scale], dtype=torch.float64)),
    )
    for method in (LeastSquares(1e-3), Matching()):
        assert (held_out(method, far) - held_out(method, truth)).abs().max() < 1e-9
    assert (far.corr_aa - truth.corr_aa).abs().max() < 1e-12
    assert far.reliable_a.all()
    assert (rotated(far).corr_ab - rotated(truth).corr_ab).abs().max() < 1e-12


def test_the_moments_of_blocks_are_those_of_their_samples():
    x_na, x_nb, _ = planted(5000, 3, 300)
    image_n = torch.randint(0, 700, (5000,))
    pair = Pair.of(x_na.float(), x_nb, image_n, 3)
    number, which_n = image_n.unique(return_inverse=True)
    block_n = block_of_image(len(number), 3)[which_n]
    x_nu = torch.cat([x_na.float().double(), x_nb], 1)
    for k in range(3):
        x_ku = x_nu[block_n == k]
        assert pair.moments.count[k] == len(x_ku)
        assert torch.allclose(pair.moments.mean_u[k], x_ku.mean(0), rtol=1e-13)
        scatter_uu = torch.cov(x_ku.T, correction=0) * len(x_ku)
        size_u = scatter_uu.diagonal().sqrt()
        assert ((pair.moments.scatter_uu[k] - scatter_uu) / torch.outer(size_u, size_u)).abs().max() < 1e-12
        assert torch.equal(pair.moments.scatter_uu[k], pair.moments.scatter_uu[k].T)
