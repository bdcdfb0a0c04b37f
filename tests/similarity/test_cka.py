"""Linear CKA against its definition by Gram matrices."""

import pytest
import torch

from conftest import planted
from convergent.core.pairs import Pair
from convergent.similarity.cka import cka


def by_grams(x_na, x_nb):
    """HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) with centred Gram matrices of samples."""
    centre_nn = torch.eye(len(x_na)).double() - 1 / len(x_na)
    gram_a, gram_b = (centre_nn @ x.double() @ x.double().T @ centre_nn for x in (x_na, x_nb))
    return ((gram_a * gram_b).sum() / (gram_a.norm() * gram_b.norm())).item()


@pytest.mark.parametrize(("n", "p", "q"), [(50, 3, 3), (60, 5, 9), (20, 30, 4)])
@pytest.mark.parametrize("noise", [0.1, 2.0])
def test_it_is_that_of_the_gram_matrices(n, p, q, noise):
    x_na, x_nb, _ = planted(n, p, q, noise)
    pair = Pair.of(x_na, x_nb, blocks=7)
    assert cka(pair) == pytest.approx(by_grams(x_na, x_nb), rel=1e-10)
    assert cka(pair.flip()) == pytest.approx(cka(pair), rel=1e-12)
    assert 0 < cka(pair) < 1


def test_rotations_and_a_common_scale_change_nothing_and_scales_of_units_do():
    x_na, x_nb, _ = planted(200, 6, 6, 1.0)
    rotation = torch.linalg.qr(torch.randn(6, 6).double())[0]
    value = cka(Pair.of(x_na, x_nb))
    assert cka(Pair.of(x_na @ rotation * 100 + 5, x_nb)) == pytest.approx(value, rel=1e-9)
    assert cka(Pair.of(x_na * torch.arange(1, 7), x_nb)) != pytest.approx(value, rel=1e-3)
    assert cka(Pair.of(x_na, x_na @ rotation)) == pytest.approx(1)


def test_constant_units_and_extreme_scales_are_no_trouble():
    x_na, x_nb, _ = planted(200, 4, 5, 1.0)
    value = cka(Pair.of(x_na, x_nb))
    with_constant = torch.cat([x_na, torch.full((200, 1), 1e6)], 1)
    assert cka(Pair.of(with_constant, x_nb)) == pytest.approx(value, rel=1e-9)
    assert cka(Pair.of(torch.ones(200, 2), x_nb)) == 0
    for scale in (1e-160, 1e160):
        assert cka(Pair.of(x_na * scale, x_nb)) == pytest.approx(value, rel=1e-9)
    far = torch.cat([x_na, 1e-200 * x_na[:, :1]], 1)  # nothing beside the others
    assert cka(Pair.of(far, x_nb)) == pytest.approx(value, rel=1e-9)
