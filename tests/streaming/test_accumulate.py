"""The streaming pass against the record of all samples at once."""

import pytest
import torch

from convergent.core.moments import Moments
from convergent.core.packing import Packing
from convergent.core.products import _works, onednn, portable
from convergent.errors import InputError
from convergent.streaming.accumulate import Accumulator
from convergent.streaming.arithmetic import Arithmetic, add_products, grid_shift, on_grid

WIDTHS = {"one": 5, "two": 7}
UNITS = {"one": slice(0, 5), "two": slice(5, 12)}


def accumulator_of(x_nup, block_n, dtype=torch.float64, product=portable):
    """An accumulator calibrated as the pass does it."""
    first = x_nup[:8].double().transpose(0, 1).flatten(1)
    arithmetic, blocks = Arithmetic.of(first, [x_nup.dtype], dtype, product), int(block_n.max()) + 1
    return Accumulator("layer", WIDTHS, x_nup.shape[2], arithmetic, blocks)


def fed(accumulator, x_nup, block_n, batch):
    """Feed images (n, u, p) in batches."""
    for x, block in zip(x_nup.split(batch), block_n.split(batch)):
        accumulator.begin(block.tolist())
        for net, units in UNITS.items():
            accumulator.write(net, x[:, units])
        accumulator.end()
    return accumulator


def stream(x_nup, block_n, batch, dtype=torch.float64, product=portable):
    """The moments of both nets' units for images (n, u, p) that come in batches."""
    accumulator = fed(accumulator_of(x_nup, block_n, dtype, product), x_nup, block_n, batch)
    accumulator.close()
    return accumulator.moments(len(x_nup)).moments()


def block_of(moments, block):
    return Moments(moments.count[block], moments.mean_u[block], moments.scatter_uu[block])


def images(n=90, p=50):
    x_nup = torch.randn(n, 12, p)
    x_nup[:, 3] += 300
    x_nup[:, 4] = x_nup[:, 4].clamp(min=0)
    x_nup[:, 6:8] += x_nup[:, 0:2]
    return x_nup


@pytest.mark.parametrize("batch", [1, 7, 30, 90])
@pytest.mark.parametrize("positions", [1, 50, 5000])
def test_any_batch_size_any_number_of_positions(batch, positions):
    x_nup = images(90 if positions < 5000 else 6, positions)
    block_n = torch.arange(len(x_nup)) * 3 // len(x_nup)
    blocks = stream(x_nup, block_n, batch)
    for block in range(3):
        expected = Moments.of(x_nup[block_n == block].transpose(1, 2).flatten(0, 1))
        moments = block_of(blocks, block)
        assert moments.count == expected.count
        assert (moments.corr_uu - expected.corr_uu).abs().max() < 1e-10
        assert torch.allclose(moments.mean_u, expected.mean_u, rtol=1e-12)


def test_images_in_any_order_reach_their_blocks():
    x_nup, block_n = images(), torch.arange(90) % 4
    order = torch.randperm(90)
    blocks = stream(x_nup[order], block_n[order], 16)
    for block in range(4):
        expected = Moments.of(x_nup[block_n == block].transpose(1, 2).flatten(0, 1))
        moments = block_of(blocks, block)
        assert moments.count == expected.count
        assert (moments.corr_uu - expected.corr_uu).abs().max() < 1e-10


def hard(n):
    """Samples (n, 12) in float32: means of up to 1e4 deviations, rectified units, a drifting mean, lognormal."""
    x = torch.randn(n, 12) + torch.randn(n, 1)
    x[:, 1] += 30
    x[:, 2] += 300
    x[:, 3] += 1e4
    for unit, threshold in ((4, 0), (5, 1.8), (6, 3.2)):
        x[:, unit] = (x[:, unit] - threshold).clamp(min=0)
    x[:, 7] = x[:, 7].exp()
    x[:, 8] += torch.linspace(0, 20, n)
    return x


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("product", "tolerance"), [(portable, 3e-7), (onednn, 1e-6)])
def test_float32_products_keep_correlations(product, tolerance, kind):
    if product is onednn and not _works():
        pytest.skip("this torch has no oneDNN product")
    x_nu = hard(1_000_000) if kind == torch.float32 else torch.randn(1_000_000, 12).to(kind)
    x_nup = x_nu.view(-1, 500, 12).transpose(1, 2)
    moments = stream(x_nup, torch.zeros(len(x_nup), dtype=torch.long), 128, torch.float32, product)
    assert (moments.total.corr_uu - Moments.of(x_nu).corr_uu).abs().max() < tolerance


def test_activations_of_few_distinct_numbers_are_taken_off_their_grid():
    x_us = torch.randn(3, 1000).double()
    assert not on_grid(x_us, torch.float32)
    assert not on_grid(torch.cat([x_us, torch.ones(1, 1000)]), torch.float32)  # a constant unit is no matter
    assert on_grid(x_us, torch.bfloat16)
    assert on_grid(x_us + torch.tensor([[0.0], [1e4], [0.0]]), torch.float32)


def test_half_precision_activations_do_not_overflow():
    x_nup = (images() * 100).half()
    moments = stream(x_nup, torch.zeros(90, dtype=torch.long), 30).total
    expected = Moments.of(x_nup.double().transpose(1, 2).flatten(0, 1))
    assert (moments.corr_uu - expected.corr_uu).abs().max() < 1e-10


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_activations_of_any_type_are_shifted_before_they_are_rounded(kind, dtype):
    far = 1e6 if kind == torch.float64 else 0.0  # where float32 has four bits left for fractions
    x_nup = (images().double() + far).to(kind)
    moments = stream(x_nup, torch.zeros(90, dtype=torch.long), 30, dtype).total
    expected = Moments.of(x_nup.double().transpose(1, 2).flatten(0, 1))
    assert (moments.corr_uu - expected.corr_uu).abs().max() < (1e-6 if dtype == torch.float32 else 1e-10)


@pytest.mark.parametrize("stopped", [1, 40, 89])
@pytest.mark.parametrize("positions", [1, 50, 5000])
def test_a_pass_taken_up_from_its_state_ends_with_the_very_same_bits(stopped, positions):
    x_nup = images(90, min(positions, 500))
    block_n = torch.arange(90) // 30
    alone = stream(x_nup, block_n, 1)
    first = fed(accumulator_of(x_nup, block_n), x_nup[:stopped], block_n[:stopped], 1)
    second = accumulator_of(x_nup, block_n)
    second.load_state({name: tensor.clone() for name, tensor in first.state().items()})
    fed(second, x_nup[stopped:], block_n[stopped:], 1).close()
    resumed = second.moments(90).moments()
    assert torch.equal(resumed.count, alone.count)
    assert torch.equal(resumed.mean_u, alone.mean_u)
    assert torch.equal(resumed.scatter_uu, alone.scatter_uu)


def test_nets_set_to_a_lower_precision_do_not_lower_that_of_the_statistics():
    x_nu = hard(200_000)
    x_nup = x_nu.view(-1, 500, 12).transpose(1, 2)
    torch.set_float32_matmul_precision("medium")  # bfloat16 products on processors that have them
    try:
        moments = stream(x_nup, torch.zeros(len(x_nup), dtype=torch.long), 128, torch.float32)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert (moments.total.corr_uu - Moments.of(x_nu).corr_uu).abs().max() < 1e-6


def test_the_shift_is_near_the_mean_and_leaves_the_zeros_of_sparse_units():
    mean_u, sd_u = torch.tensor([0.0, 0.1, -7.3, 1e4, 5.0]), torch.tensor([1.0, 0.3, 0.9, 1.0, 0.0])
    shift_u = grid_shift(mean_u, sd_u)
    assert shift_u[:2].tolist() == [0, 0]
    assert ((shift_u - mean_u).abs()[:4] <= sd_u[:4] / 2 + 1e-6).all()
    assert shift_u[4] == 5
    assert torch.isfinite(shift_u).all()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_nan_is_reported_with_net_layer_and_batch(bad):
    x_nup = images()
    x_nup[65, 7, 3] = bad
    with pytest.raises(
        InputError, match=r"Layer layer of net two gives NaN or infinite activations \(unit 2, from batch 6 on"
    ):
        stream(x_nup, torch.arange(90) // 10, 10)


def test_images_of_another_size_are_refused():
    accumulator = Accumulator("layer", WIDTHS, 4, Arithmetic(torch.zeros(12)))
    accumulator.begin([0])
    with pytest.raises(InputError, match=r"9 positions here, but 4 .*resize pictures .*pad tokens"):
        accumulator.write("one", torch.zeros(1, 5, 9))
    with pytest.raises(InputError, match=r"6 units here, but 5 .*units="):
        accumulator.write("one", torch.zeros(1, 6, 4))


def test_products_are_no_matter_of_the_autocast_that_nets_run_under():
    x_us, packing = torch.randn(7, 300), Packing.of([3, 4])
    plain_f, under_f = torch.zeros(2, packing.size, dtype=torch.float64)
    add_products(plain_f, x_us, packing)
    with torch.autocast("cpu", torch.bfloat16):
        add_products(under_f, x_us, packing)
    assert torch.equal(plain_f, under_f)
