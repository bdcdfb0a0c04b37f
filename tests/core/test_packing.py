"""Where sums of products lie: brute force, for all pairs and for some."""

import itertools

import pytest
import torch

from convergent.core.packing import Packing
from convergent.streaming.arithmetic import add_products


@pytest.mark.parametrize("widths", [[1], [1, 1], [3, 5, 2], [70, 64, 65, 300], [700, 900]])
@pytest.mark.parametrize("some", [False, True])
def test_strips_give_the_products_of_the_wanted_pairs(widths, some):
    pairs = [(0, len(widths) - 1), (len(widths) - 2, 0)] if some and len(widths) > 1 else None
    packing = Packing.of(widths, pairs)
    u = sum(widths)
    x_us, flat_f = torch.randn(u, 20).double(), torch.zeros(packing.size).double()
    add_products(flat_f, x_us, packing)
    add_products(flat_f, x_us, packing)
    expected_uu = 2 * x_us @ x_us.T
    wanted = {(min(p), max(p)) for p in pairs} if pairs else set(itertools.combinations(range(len(widths)), 2))
    assert set(packing.blocks()) == {p for p in wanted if p[0] != p[1]} | {(i, i) for i in range(len(widths))}
    packing.fold(flat_f)
    for i, j in packing.blocks():
        block, expected = packing.block(flat_f, i, j), expected_uu[packing.units[i], packing.units[j]]
        assert torch.allclose(block, expected[tuple(torch.triu_indices(*expected.shape))] if i == j else expected)
    assert not flat_f[: 1 + u].any()  # count and sums of units are not products


def test_without_products_within_nets_there_are_squares():
    packing = Packing.of([3, 5, 2], [(0, 2), (1, 2)], within=False)
    x_us, flat_f = torch.randn(10, 20).double(), torch.zeros(packing.size).double()
    add_products(flat_f, x_us, packing)
    expected_uu = x_us @ x_us.T
    assert list(packing.blocks()) == [(0, 2), (1, 2)]
    for i, j in packing.blocks():
        assert torch.allclose(packing.block(flat_f, i, j), expected_uu[packing.units[i], packing.units[j]])
    assert torch.allclose(packing.squares(flat_f), expected_uu.diagonal())
    assert packing.multiplications == 3 * 2 + 5 * 2
    assert Packing.of([4, 6]).multiplications == 4 * 6 + (4**2 + 6**2) // 2


def test_only_wanted_pairs_take_memory():
    widths = [64] * 10
    every, chain = Packing.of(widths), Packing.of(widths, [(i, i + 1) for i in range(9)])
    assert every.size == 1 + 640 + 55 * 64**2
    assert chain.size == 1 + 640 + 19 * 64**2
    assert Packing.of([4096, 4096]).size < 1.04 * 2 * 4096**2  # within a net little more than a triangle


def test_blocks_of_several_vectors_at_once():
    packing = Packing.of([2, 3, 4], [(0, 2), (1, 2)])
    flat_kf = torch.arange(2 * packing.size).view(2, -1).double()
    for i, j in packing.blocks():
        both = packing.block(flat_kf, i, j)
        assert torch.equal(both[1], packing.block(flat_kf[1], i, j))
        units = [(2, 3, 4)[i], (2, 3, 4)[j]]
        assert list(both.shape) == [2, *(units if i < j else [units[0] * (units[0] + 1) // 2])]
    assert packing.sums(flat_kf).shape == (2, 9)
