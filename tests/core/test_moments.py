"""Laws and oracles of the one record that everything is a function of."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from convergent.core.moments import Moments
from convergent.errors import InputError


def cases(n=3000):
    """Hard columns: large means, rectified, nearly constant, lognormal, drifting."""
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(n, 8, generator=generator).double()
    z[:, 1:] += 0.5 * z[:, :1]
    z[:, 1] += 1e4
    z[:, 2] = z[:, 2].clamp(min=0)
    z[:, 3] = (z[:, 3] - 2.5).clamp(min=0)
    z[:, 4] = z[:, 4].exp()
    z[:, 5] += torch.linspace(0, 20, n)
    z[:, 6] *= 1e-6
    return z


def close(ours: Moments, x_nu: torch.Tensor, tolerance=1e-12):
    """Equal to numpy's two passes in long double, relative to sqrt(cov_ii cov_jj)."""
    x = x_nu.numpy().astype(np.longdouble)
    mean = x.mean(0)
    cov = ((x - mean).T @ (x - mean)) / len(x)
    scale = np.sqrt(np.outer(np.diag(cov), np.diag(cov)))
    assert ours.count.item() == len(x)
    assert np.abs((ours.cov_uu.numpy() - cov) / scale).max() < tolerance
    assert (np.abs(ours.mean_u.numpy() - mean) / np.sqrt(np.diag(cov))).max() < 1e-11  # 1e4 deviations cost 4 digits


def test_equal_to_two_passes_in_higher_precision():
    close(Moments.of(cases()), cases())


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 2999), max_size=12, unique=True), st.randoms(use_true_random=False))
def test_any_split_any_order_any_merge_tree(cuts, random):
    x_nu = cases()[torch.randperm(3000, generator=torch.Generator().manual_seed(random.randint(0, 99)))]
    parts = [Moments.of(part) for part in torch.tensor_split(x_nu, sorted(cuts)) if len(part)]
    while len(parts) > 1:
        left = parts.pop(random.randrange(len(parts)))
        right = parts.pop(random.randrange(len(parts)))
        parts.append(left + right)
    close(parts[0], x_nu)


def test_blocks_merge_as_plus_does_and_weights_repeat_them():
    x_nu = cases()
    blocks = list(x_nu.split(500))
    stacked = Moments.stack([Moments.of(block) for block in blocks])
    close(stacked.total, x_nu)
    weights = torch.tensor([0.0, 2, 1, 0, 1, 3])
    repeated = torch.cat([block for block, w in zip(blocks, weights.tolist()) for _ in range(int(w))])
    close(stacked.merged(weights), repeated)
    each = stacked.merged_each(torch.stack([torch.ones(6), weights]))
    for of, x in zip((each.some_blocks(slice(0, 1)), each.some_blocks(slice(1, 2))), (x_nu, repeated)):
        close(of.total, x)
    for without, held in stacked.folds(3):
        assert (without.count + held.count).item() == len(x_nu)
    close(list(stacked.folds(3))[1][1], torch.cat([blocks[1], blocks[4]]))


def test_correlation_is_that_of_numpy_and_torch():
    x_nu = cases()
    assert torch.allclose(Moments.of(x_nu).corr_uu, torch.from_numpy(np.corrcoef(x_nu.T.numpy())), atol=1e-10)
    assert torch.allclose(Moments.of(x_nu).cov_uu, torch.cov(x_nu.T, correction=0), rtol=1e-9)


def test_gain_and_offset_change_nothing_but_the_sign():
    x_nu = torch.randn(1000, 3).double()
    gain = torch.tensor([3.0, -0.01, 1e5])
    changed = Moments.of(x_nu * gain + 7).corr_uu
    assert torch.allclose(changed, Moments.of(x_nu).corr_uu * torch.outer(gain.sign(), gain.sign()), atol=1e-12)
    offset = Moments.of(x_nu + 1e4 * x_nu.std(0))
    assert (offset.corr_uu - Moments.of(x_nu).corr_uu).abs().max() < 1e-6


def test_constant_units_are_a_mask_and_never_nan():
    x_nu = torch.randn(100, 4)
    x_nu[:, 1], x_nu[:, 3] = 0.0, 0.1
    moments = Moments.of(x_nu[:50]) + Moments.of(x_nu[50:])
    assert moments.active_u.tolist() == [True, False, True, False]
    assert torch.isfinite(moments.corr_uu).all()
    assert moments.corr_uu[1].abs().sum() == 0
    assert moments.scale_u[1] == 0


def test_a_unit_that_fires_in_one_block_only_is_constant_without_it():
    sizes = [6, 5, 6, 7, 6, 5, 6]
    block_n = torch.arange(7).repeat_interleave(torch.tensor(sizes))
    x_nu = torch.where(block_n[:, None] == torch.arange(7), torch.rand(41, 7).double(), 0.0)  # unit 3 fires in block 3
    moments = Moments.stack([Moments.of(block) for block in x_nu.split(sizes)])
    ways = ([without for without, _ in moments.folds(7)], moments.leave_one_out())
    for way in ways:
        for block, left in enumerate(way):
            assert left.active_u.tolist() == [unit != block for unit in range(7)]
            assert left.scatter_uu[block].abs().max() == 0


def test_without_each_block_no_digits_are_lost_where_a_block_has_nearly_all_of_a_unit():
    sizes = [40, 30, 0, 50, 45, 35]
    block_n = torch.arange(6).repeat_interleave(torch.tensor(sizes))
    x_nu = torch.randn(200, 10).double()
    x_nu[:, 1] += 1e6  # large mean
    x_nu[:, 2] += 20 * block_n  # drifts
    for unit, small in ((4, 1e-3), (5, 1e-6)):  # active in one block, hardly in the others
        x_nu[block_n != unit, unit] *= small
    x_nu[:, 6] = x_nu[:, 5] + 1e-6 * x_nu[:, 0]
    empty = Moments(*(torch.zeros(shape).double() for shape in ((), (10,), (10, 10))))
    moments = Moments.stack([Moments.of(x) if len(x) else empty for x in x_nu.split(sizes)])
    for block, without in enumerate(moments.leave_one_out()):
        rest_nu = x_nu[block_n != block]
        rest_nu = rest_nu - rest_nu.mean(0)
        sd_u = rest_nu.square().sum(0).sqrt()
        off_uu = without.scatter_uu - rest_nu.T @ rest_nu
        assert without.count == len(rest_nu)
        off_uu /= sd_u[:, None] * sd_u
        assert off_uu[1].abs().max() < 1e-9  # what such a mean leaves of the samples' own digits
        off_uu[1] = off_uu[:, 1] = 0
        assert off_uu.abs().max() < 1e-12


def test_half_precision_does_not_overflow():
    x_nu = (torch.randn(500, 3) * 1e4).half()
    assert torch.allclose(Moments.of(x_nu).cov_uu, torch.cov(x_nu.double().T, correction=0))


@pytest.mark.parametrize(
    ("x_nu", "message"),
    [
        (torch.zeros(3), r"shape \(samples, units\), .* not float32 of shape \(3,\)"),
        (torch.zeros(0, 3), "at least one sample"),
        (torch.tensor([[0.0, torch.nan]]), "unit 1 has NaN or infinity"),
        (torch.tensor([[torch.inf, 0.0]]), "unit 0 has NaN or infinity"),
    ],
)
def test_unusable_activations_are_refused(x_nu, message):
    with pytest.raises(InputError, match=message):
        Moments.of(x_nu)


def test_numpy_and_select():
    x_nu = np.random.default_rng(0).normal(size=(50, 4))
    moments = Moments.of(x_nu).select(torch.tensor([2, 0]))
    assert torch.allclose(moments.corr_uu, torch.from_numpy(np.corrcoef(x_nu[:, [2, 0]].T)))


@pytest.mark.parametrize("scale", [1e-310, 1e-200, 1e-120, 1e-50, 1.0, 1e50, 1e120, 1e160, 1e300])
def test_correlations_do_not_depend_on_the_scale_however_large_or_small(scale):
    x_nu = torch.randn(500, 4).double()
    x_nu[:, 3] = (x_nu[:, 0] + x_nu[:, 3]).clamp(min=0)
    truth = Moments.of(x_nu)
    gain_u = torch.tensor([scale, 1.0, scale, scale], dtype=torch.float64)
    tolerance = 1e-5 if scale < 1e-300 else 1e-12  # the activations themselves have lost their digits
    far = Moments.of(x_nu * gain_u)
    merged = Moments.of(x_nu[:200] * gain_u) + Moments.of(x_nu[200:] * gain_u)
    stacked = Moments.stack([Moments.of(x_nu[:200] * gain_u), Moments.of(x_nu[200:] * gain_u)])
    for moments in (far, merged, stacked.total, stacked.merged(torch.ones(2)), far.select(torch.arange(4))):
        assert moments.active_u.all()
        assert (moments.corr_uu - truth.corr_uu).abs().max() < tolerance
        gains = torch.ones(4) if moments.gain_u is None else moments.gain_u
        assert torch.allclose(moments.mean_u / gains, truth.mean_u * gain_u, rtol=max(tolerance, 1e-11), atol=0)
    assert [m.gain_u is None for m in (far, merged, stacked)] == [1e-60 < scale < 1e60] * 3


def test_batches_of_other_scales_merge():
    x_nu = torch.randn(500, 3).double() * torch.tensor([1e100, 1e-150, 1.0], dtype=torch.float64)
    x_nu[:100] *= 1e-40
    merged = Moments.of(x_nu[:100]) + Moments.of(x_nu[100:])
    assert (merged.corr_uu - Moments.of(x_nu).corr_uu).abs().max() < 1e-12
