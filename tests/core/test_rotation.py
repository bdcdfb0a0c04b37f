"""Rotations before the nonlinearity: what they keep of each unit, what they take, and what they refuse."""

import numpy as np
import pytest
import torch

from convergent.analysis import nulls
from convergent.core.moments import Moments
from convergent.core.rotation import GroupRotation, rotated_before, rotation, turning, wide_turning
from convergent.errors import InputError


def correlated(n=2000, q=12, seed=0):
    """Pre-activations of units with means, deviations and correlations of their own."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(n, q + 3, generator=generator).double() @ torch.randn(q + 3, q, generator=generator).double()
    return drawn * torch.logspace(-2, 2, q).double() + torch.linspace(-30, 30, q).double()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_rotated_unit_keeps_the_mean_and_deviation_of_its_place_and_nothing_else():
    pre = Moments.of(pre_nu := correlated())
    turn_uu, offset_u = turning(pre, generator())
    rotated = Moments.of(pre_nu @ turn_uu + offset_u)
    assert turn_uu.dtype == offset_u.dtype == torch.float64
    assert torch.allclose(rotated.mean_u, pre.mean_u, atol=1e-8)
    assert torch.allclose(rotated.sd_u, pre.sd_u, rtol=1e-9)
    assert Moments.of(torch.cat([pre_nu, pre_nu @ turn_uu], 1)).corr_uu[:12, 12:].diagonal().abs().max() < 0.99


def test_the_affine_map_is_the_rotation_of_the_standardised_samples():
    pre_nu = correlated()
    turn_uu, offset_u = turning(Moments.of(pre_nu), generator(5))
    z_nu = (pre_nu - pre_nu.mean(0)) / pre_nu.std(0, correction=0) @ rotation(12, generator(5))
    expected_nu = z_nu / z_nu.std(0, correction=0) * pre_nu.std(0, correction=0) + pre_nu.mean(0)
    assert torch.allclose(pre_nu @ turn_uu + offset_u, expected_nu, atol=1e-8)
    assert torch.allclose(rotated_before(pre_nu, torch.tanh, seed=5), expected_nu.tanh(), atol=1e-8)


def test_constant_units_stay_as_they_are_and_take_no_part():
    pre_nu, some = correlated(), torch.tensor([0, 1, 2, 4, 5, 6, 7, 8, 10, 11])
    pre_nu[:, 3], pre_nu[:, 9] = 1e4, 0.0
    turn_uu, offset_u = turning(Moments.of(pre_nu), generator())
    turned_nu = pre_nu @ turn_uu + offset_u
    assert torch.equal(turned_nu[:, [3, 9]], pre_nu[:, [3, 9]])
    alone_uu, alone_u = turning(Moments.of(pre_nu[:, some]), generator())
    assert torch.allclose(turned_nu[:, some], pre_nu[:, some] @ alone_uu + alone_u, atol=1e-8)
    assert torch.equal(rotated_before(torch.ones(4, 3), torch.relu), torch.ones(4, 3).double())


def test_large_means_eat_no_digits_of_matrices():
    pre_nb = correlated()
    near, far = rotated_before(pre_nb, lambda h: h), rotated_before(pre_nb + 1e5, lambda h: h) - 1e5
    assert torch.allclose(near, far, atol=1e-6)


def test_units_fire_as_often_as_the_ones_whose_place_they_take():
    offset_b = torch.linspace(-1.5, 0.5, 32).double()  # firing 7 to 69%
    pre_nb = torch.randn(5000, 32, generator=generator()).double() + offset_b
    x_nb = rotated_before(pre_nb, torch.relu, seed=3)
    assert ((x_nb > 0).double().mean(0) - (pre_nb > 0).double().mean(0)).abs().max() < 0.03


def test_the_rotation_is_the_seeds_and_torchs_state_is_left_alone():
    pre_nb, state = correlated(), torch.random.get_rng_state()
    assert torch.equal(rotated_before(pre_nb, torch.relu, 1), rotated_before(pre_nb, torch.relu, 1))
    assert not torch.allclose(rotated_before(pre_nb, torch.relu, 1), rotated_before(pre_nb, torch.relu, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    draws = generator()
    assert not torch.allclose(*(turning(Moments.of(pre_nb), draws)[0] for _ in range(2)))  # the next one each time


def test_numpy_and_its_functions_work_too():
    pre_nb = correlated().numpy()
    expected = rotated_before(torch.from_numpy(pre_nb), torch.tanh)
    assert torch.allclose(rotated_before(pre_nb, lambda h: np.tanh(h.numpy())), expected)
    assert nulls.rotated_before is rotated_before
    assert nulls.rotation is rotation


def test_with_another_net_only_what_is_predicted_from_it_is_rotated_and_each_unit_keeps_how_much_that_is():
    pre_na = correlated()
    private = torch.randn(2000, 12, generator=generator(1)).double() * torch.linspace(0, 3, 12).double()
    z_na = (pre_na - pre_na.mean(0)) / pre_na.std(0)
    pre_nb = (z_na @ rotation(12, generator(2)) + private) * 5 + 7

    def predicted(x_nb):
        z_nb = (x_nb - x_nb.mean(0)) / x_nb.std(0, correction=0)
        return z_na @ torch.linalg.lstsq(z_na, z_nb).solution, z_nb

    (part, z_nb), (turned_part, turned_z) = (
        predicted(x_nb) for x_nb in (pre_nb, rotated_before(pre_nb, lambda h: h, 3, pre_na))
    )
    assert torch.allclose(part.var(0), turned_part.var(0), atol=1e-9)
    assert part.var(0).max() - part.var(0).min() > 0.5
    assert torch.allclose(z_nb - part, turned_z - turned_part, atol=1e-9)  # what is b's own stays
    assert Moments.of(torch.cat([part, turned_part], 1)).corr_uu[:12, 12:].diagonal().abs().max() < 0.9
    few = rotated_before(pre_nb[:9], lambda h: h, 3, pre_na[:9])  # from as many units as samples all is predicted
    assert torch.allclose(few, rotated_before(pre_nb[:9], lambda h: h, 3), atol=1e-6)


@pytest.mark.parametrize("n", [1025, 1300])
def test_a_rotation_of_many_units_is_orthogonal_and_its_entries_are_spread_like_a_random_one(n):
    q_nn = GroupRotation.draw(n, generator(), torch.empty(0, dtype=torch.float64))(torch.eye(n).double())
    assert torch.allclose(q_nn @ q_nn.T, torch.eye(n).double(), atol=1e-12)
    z_nn = q_nn * n**0.5  # of Haar's measure nearly standard normal
    assert z_nn.pow(4).mean() == pytest.approx(3, abs=0.05)
    assert z_nn.abs().max() < 7
    assert z_nn.square().mean(0).sub(1).abs().max() < 1e-9
    assert z_nn.mean().abs() < 4 / n


def test_many_units_keep_means_deviations_and_constants_when_they_are_rotated():
    pre_us = torch.randn(1500, 400, generator=generator()) * torch.linspace(0.1, 9, 1500)[:, None] + 30
    pre_us[7] = 3.0
    turned_us = wide_turning(pre_us, generator())(pre_us)
    assert torch.allclose(turned_us.mean(1), pre_us.mean(1), atol=1e-4)
    assert torch.allclose(turned_us.std(1), pre_us.std(1), rtol=1e-4)
    assert torch.equal(turned_us[7], pre_us[7])
    assert torch.equal(turned_us, wide_turning(pre_us, generator())(pre_us))
    r_u = torch.corrcoef(torch.cat([pre_us[:7], turned_us[:7]]))[:7, 7:].diagonal()
    assert r_u.abs().max() < 0.3


def test_what_cannot_be_rotated_is_refused():
    with pytest.raises(InputError, match=r"shape \(samples, units\)"):
        rotated_before(torch.ones(5), torch.relu)
    with pytest.raises(InputError, match="finite"):
        rotated_before(torch.full((5, 2), torch.nan), torch.relu)
    with pytest.raises(InputError, match=r"shape \(5, 2\), not \(5,\)"):
        rotated_before(torch.randn(5, 2, generator=generator()), lambda h: h.sum(1))
    with pytest.raises(InputError, match="not 4 of net a and 5 of net b"):
        rotated_before(torch.randn(5, 2, generator=generator()), torch.relu, 0, torch.ones(4, 2))
    with pytest.raises(InputError, match="not of 1 blocks; take their total"):
        turning(Moments.stack([Moments.of(correlated())]), generator())
