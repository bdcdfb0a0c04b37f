"""What highest correlations and their chance are with some images left out: against the samples themselves."""

from dataclasses import replace

import pytest
import torch

from convergent.analysis.across import across, rows_of_found_in, universal
from convergent.analysis.left_out import LeftOut, _weights
from convergent.analysis.results import compare
from convergent.core.blocks import block_of_image
from convergent.core.layer_moments import LayerMoments
from convergent.core.pairs import Pair
from convergent.methods.semimatching import SemiMatching

IMAGES, PARTS = 300, 5


@pytest.fixture
def x():
    """Three nets that share some units, and three rotations of each."""
    shared = torch.randn(IMAGES, 9).double()
    nets = [torch.cat([shared + torch.randn(IMAGES, 9), torch.randn(IMAGES, 4)], 1) for _ in range(3)]
    turns = [[torch.linalg.qr(torch.randn(13, 13).double())[0] for _ in range(3)] for _ in nets]
    return nets, [[x_nu @ turn for turn in of_net] for x_nu, of_net in zip(nets, turns)]


def best(x_na, x_nb):
    p = x_na.shape[1]
    return torch.corrcoef(torch.cat([x_na, x_nb], 1).T)[:p, p:].amax(0)


def threshold(values):
    values = values.sort(descending=True).values
    return values[int(0.05 * (1 + len(values)) + 1e-9) - 1]


@pytest.mark.parametrize("blocks", [PARTS, 4 * PARTS])
def test_each_part_is_left_out_of_the_nets_and_of_their_rotations(x, blocks):
    (x_a, x_b, _), (turned_a, turned_b, _) = x
    pair = Pair.of(x_a, x_b, blocks=blocks)
    draws = [Pair.of(x_a, x, blocks=PARTS) for x in turned_b]
    rotated_a = [Pair.of(x, x_b, blocks=PARTS) for x in turned_a]
    left_out = LeftOut.of(pair, {"shuffled": [pair], "rotated": draws}, rotated_a)
    block_n, excess = block_of_image(IMAGES, PARTS), []
    for k in range(PARTS):
        there = block_n != k
        best_b = best(x_a[there], x_b[there])
        chance = torch.cat([best(x_a[there], x[there]) for x in turned_b])
        assert torch.equal(left_out.above_kb[k], best_b > threshold(chance))
        excess.append((best_b - torch.stack([best(x[there], x_b[there]) for x in turned_a]).mean(0)).mean())
    excess_k = torch.stack(excess)
    of_images = (excess_k - excess_k.mean()).square().sum() * (PARTS - 1) / PARTS  # Tukey's, for equal blocks
    excess_d = torch.stack([(best(x_a, x_b) - best(x, x_b)).mean() for x in turned_a])
    assert left_out.excess.se.item() == pytest.approx((of_images + excess_d.var() / 3).sqrt().item(), rel=1e-9)
    assert left_out.excess.estimate.item() == pytest.approx(excess_d.mean().item(), abs=1e-12)


def test_the_interval_of_the_excess_covers_other_images_and_rotations():
    def nets(n, generator, units=16):
        latent, noise = torch.randn(n, 6, generator=generator).double(), torch.randn(n, 2 * units, generator=generator)
        x = (latent @ torch.randn(6, 2 * units, generator=torch.Generator().manual_seed(0)).double() + noise).relu()
        return x[:, :units], x[:, units:]

    def turns(count, generator):
        return [torch.linalg.qr(torch.randn(16, 16, generator=generator).double())[0] for _ in range(count)]

    generator = torch.Generator().manual_seed(1)
    x_a, x_b = nets(20_000, generator)
    truth = (best(x_a, x_b) - torch.stack([best(x_a @ turn, x_b) for turn in turns(100, generator)]).mean(0)).mean()
    covered = []
    for _ in range(80):
        x_a, x_b = nets(400, generator)
        rotated_a = [Pair.of(x_a @ turn, x_b, blocks=1 + 9 * (d < 3)) for d, turn in enumerate(turns(6, generator))]
        left_out = LeftOut.of(Pair.of(x_a, x_b, blocks=10), {"rotated": rotated_a}, rotated_a)
        covered.append(left_out.excess.low <= truth <= left_out.excess.high)
    assert 0.91 <= sum(map(float, covered)) / 80 <= 0.99


def test_parts_that_do_not_divide_blocks_take_shares_of_them():
    weight_pk = _weights(64, 10)
    assert ((1 - weight_pk).sum(0) - 1).abs().max() < 1e-9
    assert ((1 - weight_pk).sum(1) - 6.4).abs().max() < 1e-9
    assert ((weight_pk == 0).sum(1) >= 5).all()


def test_without_rotations_in_blocks_there_is_none(x):
    pair = Pair.of(*x[0][:2], blocks=PARTS)
    assert LeftOut.of(pair, {"shuffled": [pair]}, ()) is None
    assert LeftOut.of(pair, {"rotated": [Pair.of(*x[0][:2], blocks=1)]}, ()) is None


def test_shares_of_units_with_partners_have_intervals_over_images_and_nets(x):
    nets, turned = x
    every, units = torch.cat(nets, 1), [slice(13 * i, 13 * i + 13) for i in range(3)]
    moments = Pair.of(every[:, :13], every[:, 13:], blocks=PARTS).moments
    scatter = {(i, j): moments.scatter_uu[:, units[i], units[j]] for i in range(3) for j in range(i, 3)}
    layer = LayerMoments("fc", ["a", "b", "c"], units, moments.count, moments.mean_u, scatter, IMAGES)
    results = []
    for i, j in [(i, j) for i in range(3) for j in range(3) if i != j]:
        pair = layer.pair(i, j) if i < j else layer.pair(j, i).flip()
        draws = [Pair.of(nets[i], x_nb, blocks=PARTS) for x_nb in turned[j]]
        rotated_a = [Pair.of(x_na, nets[j], blocks=PARTS) for x_na in turned[i]]
        _, result = compare(SemiMatching(), pair, IMAGES, {"rotated": draws}, rotated_a, interval=True)
        results.append(replace(result, a="abc"[i], b="abc"[j]))
    scalars, _ = across(layer, results)
    rows = rows_of_found_in("fc", scalars)
    assert [row["others"] for row in rows] == [0, 1, 2]
    assert sum(row["share"] for row in rows) == pytest.approx(1, abs=1e-5)
    counts_kim = torch.zeros(PARTS, 3, 13)
    for result in results:
        counts_kim[:, "abc".index(result.b)] += result.left_out.above_kb
    for row in rows:
        without_k = (counts_kim == row["others"]).double().mean((1, 2))
        se = ((without_k - without_k.mean()).square().sum() * (PARTS - 1) / PARTS).sqrt().item()
        assert row["low"] == pytest.approx(max(row["share"] - 2.7764451 * se, 0), abs=2e-6)  # Student's, 4 degrees
        assert row["high"] == pytest.approx(min(row["share"] + 2.7764451 * se, 1), abs=2e-6)
        assert row["nets_low"] <= row["share"] <= row["nets_high"]
    assert any(row["high"] > row["low"] for row in rows)
    above = [float((result.excess_b > 0.5).mean()) for result in results]
    assert (universal(results)["universal"] == 0) == (max(above) == 0)
