"""Intervals cover what they say, over images and over nets, where intervals over positions and over pairs do not."""

import numpy as np
import pytest
import torch
from scipy import stats

from conftest import planted
from convergent.analysis.intervals import bootstrap, freedom, jackknife, of_sum, over_nets
from convergent.core.moments import Moments
from convergent.core.pairs import Pair
from convergent.core.scores import held_out
from convergent.errors import InputError
from convergent.methods.matching import Matching
from simulations.intervals import SHARES, SIZES, over_images, over_seeds


def correlations(pair):
    """Of unit i of a with unit i of b."""
    return pair.corr_ab.diagonal()


def images(dependence, images=512, positions=16, repeats=300, r=0.5, seed=0):
    """As many repeats as units: pairs of units with correlation r, whose positions share `dependence` of their variance."""
    generator = torch.Generator().manual_seed(seed)
    shape = (2, images, positions, repeats)
    image, own = (torch.randn(2, images, n, repeats, generator=generator) for n in (1, positions))
    noise = (dependence**0.5 * image + (1 - dependence) ** 0.5 * own).expand(shape).reshape(2, -1, repeats).double()
    x_na, x_nb = noise[0], r * noise[0] + (1 - r**2) ** 0.5 * noise[1]
    return x_na, x_nb, torch.arange(images).repeat_interleave(positions)


def covers(low, high, truth):
    return ((low <= truth) & (truth <= high)).double().mean().item()


@pytest.mark.parametrize(("blocks", "groups"), [(2, None), (3, None), (7, None), (16, None), (7, 3), (16, 8), (3, 5)])
def test_leaving_one_out_is_merging_the_others(blocks, groups):
    x_na, x_nb, _ = planted(101)
    moments = Pair.of(x_na, x_nb + 1e6, blocks=blocks).moments
    rests, n = list(moments.leave_one_out(groups)), min(groups or blocks, blocks)
    assert len(rests) == n
    for k, rest in enumerate(rests):
        expected = moments.merged((torch.arange(blocks) % n != k).double())
        assert torch.equal(rest.count, expected.count)
        assert torch.allclose(rest.mean_u, expected.mean_u, rtol=1e-15)
        assert torch.allclose(rest.scatter_uu, expected.scatter_uu, rtol=1e-11, atol=1e-8)


def test_a_unit_that_fires_in_one_block_is_constant_without_it():
    x_nu = torch.randn(90, 3, generator=torch.Generator().manual_seed(0)).double()
    x_nu[:, 0] = 0.0
    x_nu[50:55, 0] = torch.tensor([0.1, 2.3, 0.7, 3.3, 1.9]).double() * 1e3
    moments = Moments.stack([Moments.of(part) for part in x_nu.split(10)])
    assert [bool(rest.active_u[0]) for rest in moments.leave_one_out()] == [k != 5 for k in range(9)]


@pytest.mark.parametrize("n", [96, 101])  # equal blocks and unequal ones
def test_the_jackknife_of_a_mean_is_the_textbooks(n):
    x_na, x_nb, _ = planted(n)
    pair = Pair.of(x_na, x_nb, blocks=12)
    interval = jackknife(lambda each: each.total.mean_u, pair)
    mean_ku, count_k = pair.moments.mean_u, pair.moments.count
    weight_k = count_k / count_k.sum()
    centre_u = weight_k @ mean_ku
    variance_u = ((mean_ku - centre_u).square() * (weight_k.square() / (1 - weight_k))[:, None]).sum(0)
    assert torch.allclose(interval.se, variance_u.sqrt())
    if n == 96:
        assert torch.allclose(interval.se, mean_ku.std(0) / 12**0.5)
    assert torch.allclose(
        interval.high - interval.estimate, 2.200985 * interval.se, rtol=1e-2 if n == 101 else 1e-6
    )  # t, 11 degrees
    assert torch.allclose(interval.estimate - interval.low, 2.200985 * interval.se, rtol=1e-2 if n == 101 else 1e-6)


@pytest.mark.parametrize(("blocks", "groups"), [(6, None), (11, None), (11, 4)])
def test_the_jackknife_is_brute_force(blocks, groups):
    """Bell, McCaffrey 2002, term by term, from pairs weighted by hand."""
    x_na, x_nb, _ = planted(100, noise=2.0)
    pair = Pair.of(x_na, x_nb, torch.arange(100) ** 2 // 300, blocks)  # images of unequal numbers of samples
    assert len(set(pair.moments.count.tolist())) > 2

    def statistic(each):
        return Matching()(each).r_b.mean()

    whole, n, count = statistic(pair).item(), groups or blocks, pair.moments.count
    without = [statistic(pair.weighted((torch.arange(blocks) % n != k).double())).item() for k in range(n)]
    w = [float(count[k::n].sum() / pair.count) for k in range(n)]
    pseudo = [(whole - (1 - w[k]) * without[k]) / w[k] for k in range(n)]
    middle = sum(w[k] * pseudo[k] for k in range(n))
    variance = sum((w[k] * (pseudo[k] - middle)) ** 2 / (1 - w[k]) for k in range(n))
    interval = jackknife(statistic, pair, groups=groups)
    assert interval.estimate.item() == whole
    assert interval.se.item() == pytest.approx(variance**0.5, rel=1e-9)
    freedom = np.trace(error := _quadratic_form(np.array(w))) ** 2 / np.trace(error @ error)
    half = stats.t.ppf(0.975, freedom) * variance**0.5
    assert (interval.high - whole).item() == pytest.approx(half, rel=1e-9)


def _quadratic_form(share_k):
    """What the squared standard error of a mean is of independent normal sums, one of each block, of variance 1 a sample."""
    root_k, eye_kk = np.sqrt(share_k), np.eye(len(share_k))
    left_kk = eye_kk - np.outer(root_k, root_k)  # what is left of the sums without their mean
    return left_kk @ np.diag(share_k / (1 - share_k)) @ left_kk


def test_the_interval_of_a_sum_is_the_jackknifes_of_the_mean():
    x_na, x_nb, _ = planted(101)
    pair = Pair.of(x_na, x_nb, blocks=7)
    mean = jackknife(lambda each: each.total.mean_u, pair)
    total = of_sum(pair.moments.mean_u * pair.moments.count[:, None], pair.moments.count)
    for name in ("estimate", "se", "low", "high"):
        assert torch.allclose(getattr(total, name) / 101, getattr(mean, name))


@pytest.mark.parametrize(("sizes", "dependence"), [("equal", 0.5), *((name, 0.9) for name in SIZES)])
def test_blocks_of_unequal_weight_are_covered(sizes, dependence):
    assert 0.93 <= over_images(SIZES[sizes], dependence, 600) <= 0.97


def test_one_block_with_most_samples_leaves_few_degrees_of_freedom():
    assert freedom(torch.full((20,), 0.05)) == pytest.approx(19)
    assert freedom(torch.tensor([0.5] + [0.5 / 19] * 19)) < 5


@pytest.mark.parametrize(
    ("dependence", "blocks", "groups", "naive_below"),
    [(0.3, 32, None, 0.88), (0.7, 64, None, 0.65), (0.7, 64, 20, 0.65)],
)
def test_images_cover_and_positions_do_not(dependence, blocks, groups, naive_below):
    x_na, x_nb, image_n = images(dependence)
    pair = Pair.of(x_na, x_nb, image_n, blocks)
    interval = jackknife(correlations, pair, groups=groups)
    assert 0.90 <= covers(interval.low, interval.high, 0.5) <= 0.98
    z, half = (
        torch.atanh(correlations(pair)),
        1.96 / (pair.count - 3) ** 0.5,
    )  # Fisher's, as if positions were independent
    assert covers(torch.tanh(z - half), torch.tanh(z + half), 0.5) < naive_below
    ratio = interval.se.square().mean() / correlations(pair).var()  # 300 repeats tell the true variance
    assert 0.8 < ratio < 1.25


def test_the_interval_of_held_out_scores_covers():
    generator = torch.Generator().manual_seed(2)

    def score(pair):
        return held_out(Matching(), pair).mean()

    def interval():
        image = torch.randn(2, 100, 1, 4, generator=generator).double()
        x_na, noise = (image + 0.7 * torch.randn(2, 100, 3, 4, generator=generator)).flatten(1, 2)
        return jackknife(score, Pair.of(x_na, x_na + 2 * noise, torch.arange(100).repeat_interleave(3), blocks=12))

    intervals = [interval() for _ in range(40)]
    estimate, low, high = (
        torch.stack([getattr(each, name) for each in intervals]) for name in ("estimate", "low", "high")
    )
    assert 0.9 <= covers(low, high, estimate.mean()) <= 1  # choosing partners anew each time makes it a little too wide
    assert (high - low).mean() < 6 * estimate.std()


@pytest.mark.parametrize("blocks", [8, 32])
def test_the_bootstrap_covers_and_agrees_with_the_jackknife(blocks):
    pair = Pair.of(*images(0.5, images=256, positions=8, repeats=120, seed=1), blocks)
    strap, knife = bootstrap(correlations, pair, draws=400), jackknife(correlations, pair)
    assert torch.equal(strap.estimate, knife.estimate)
    ratio = strap.se / knife.se
    assert abs(ratio.mean() - 1) < 0.05
    assert ((ratio > 0.7) & (ratio < 1.4)).all()
    assert 0.88 <= covers(strap.low, strap.high, 0.5) <= 0.99
    width = (strap.high - strap.low) / (knife.high - knife.low)
    assert 0.9 < width.mean() < 1.1


def test_few_blocks_do_not_shrink_the_bootstrap():
    x_na, x_nb, _ = planted(100, p=20)
    pair = Pair.of(x_na, x_nb, blocks=5)
    means = lambda each: each.total.mean_u[each.a]  # noqa: E731
    ratio = bootstrap(means, pair, draws=1000).se / jackknife(means, pair).se
    assert abs(ratio.mean() - 1) < 0.04  # drawing 5 of 5 gives sqrt(4/5) = 0.89


def test_the_bootstrap_mirrors_the_draws_about_the_estimate():
    """Matching noise: draws correlate higher than the estimate, which is too high itself; the interval goes down."""
    x_na, x_nb = torch.randn(2, 60, 8, generator=torch.Generator().manual_seed(0))
    interval = bootstrap(lambda each: Matching()(each).r_b.mean(), Pair.of(x_na, x_nb), draws=60)
    assert interval.estimate - interval.low > 1.5 * (interval.high - interval.estimate)


def test_the_bootstrap_is_reproducible():
    pair = Pair.of(*planted(100, noise=1.0)[:2])
    state = torch.random.get_rng_state()
    first, again, other = (bootstrap(correlations, pair, 20, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.low, again.low)
    assert not torch.equal(first.low, other.low)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("interval_of", [jackknife, bootstrap])
def test_levels_are_nested_and_shapes_kept(interval_of):
    pair = Pair.of(*planted(100, noise=1.0)[:2])
    wide, narrow = (interval_of(lambda each: each.corr_ab, pair, level=level) for level in (0.99, 0.5))
    assert wide.low.shape == wide.high.shape == wide.se.shape == (6, 6)
    assert ((wide.low < narrow.low) & (narrow.low < narrow.high) & (narrow.high < wide.high)).all()
    assert (wide.level, wide.low.dtype) == (0.99, torch.float64)
    assert interval_of(lambda each: float(each.corr_ab[0, 0]), pair).se.shape == ()


def nets(k, own, noise, generator):
    """A table of values of pairs of k nets: 0 on average, each net adding its own part to its pairs."""
    part_i = own * torch.randn(k, generator=generator).double()
    noise_ij = noise * torch.randn(k, k, generator=generator).double().triu(1)
    return part_i[:, None] + part_i + noise_ij + noise_ij.T


def test_nets_cover_and_pairs_do_not():
    generator = torch.Generator().manual_seed(0)
    by_net, by_pair = [], []
    above = torch.ones(6, 6).triu(1).bool()
    for _ in range(600):
        value_ij = nets(6, 1.0, 0.5, generator)
        interval = over_nets(value_ij)
        by_net.append(covers(interval.low, interval.high, 0.0))
        value_n = value_ij[above]
        by_pair.append(covers(-2.145 * value_n.std() / 15**0.5, 2.145 * value_n.std() / 15**0.5, value_n.mean()))
    assert 0.92 <= np.mean(by_net) <= 0.985
    assert np.mean(by_pair) < 0.85


def test_the_variance_over_nets_is_right_for_nets_and_too_large_for_noise():
    generator = torch.Generator().manual_seed(0)

    def ratio(own, noise):
        intervals = [over_nets(nets(6, own, noise, generator)) for _ in range(1000)]
        true = torch.stack([each.estimate for each in intervals]).var()
        return (torch.stack([each.se for each in intervals]).square().mean() / true).item()

    assert ratio(1.0, 0.0) == pytest.approx(1.0, abs=0.15)
    assert ratio(0.0, 1.0) == pytest.approx(2.5, abs=0.4)  # 2 (k - 1) / (k - 2)


@pytest.mark.parametrize("nets", [4, 8])
@pytest.mark.parametrize("shares", SHARES)
def test_skewed_shares_of_few_nets_and_those_near_zero_are_covered(shares, nets):
    coverage, _ = over_seeds(nets, SHARES[shares], 1000, (0, 1))
    assert 0.92 <= coverage <= 0.985


def test_intervals_of_bounded_values_stay_inside_the_bounds():
    value_ij = torch.tensor([[0.0, 0.02, 0.0, 0.0], [0.02, 0.0, 0.0, 0.0], [0.0] * 4, [0.0] * 4])  # one pair has all
    interval = over_nets(value_ij, bounds=(0, 1))
    assert 0 < interval.low < interval.estimate < interval.high < 0.2
    assert over_nets(value_ij).low < 0
    by_r = over_nets(2 * value_ij - 1, bounds=(-1, 1))
    assert torch.allclose(by_r.high, 2 * interval.high - 1)
    assert torch.allclose(by_r.se, 2 * interval.se)


@pytest.mark.parametrize("bound", [0.0, 1.0])
def test_nothing_is_said_of_the_spread_where_all_values_are_at_a_bound(bound):
    interval = over_nets(torch.full((4, 4), bound), bounds=(0, 1))
    assert interval.estimate == bound
    assert torch.isnan(interval.low)
    assert torch.isnan(interval.high)


def test_the_ends_are_wilsons_of_as_many_draws_as_have_the_same_standard_error():
    value_ij = torch.tensor([[0.0, 0.2, 0.3, 0.5], [0.2, 0.0, 0.4, 0.1], [0.3, 0.4, 0.0, 0.6], [0.5, 0.1, 0.6, 0.0]])
    interval = over_nets(value_ij, bounds=(0, 1))
    p, t = interval.estimate.item(), stats.t.ppf(0.975, 3)
    draws = p * (1 - p) / interval.se.item() ** 2
    for end in (interval.low.item(), interval.high.item()):  # both solve (p - end)^2 = t^2 end (1 - end) / draws
        assert (p - end) ** 2 == pytest.approx(t**2 * end * (1 - end) / draws)


def test_the_interval_over_nets_is_brute_force_whatever_the_order_or_the_diagonal():
    value_ij = torch.rand(5, 5, generator=torch.Generator().manual_seed(0)).double()  # directed
    interval = over_nets(value_ij.fill_diagonal_(torch.nan))
    pairs = lambda nets: np.mean([value_ij[i, j].item() for i in nets for j in nets if i != j])  # noqa: E731
    without = np.array([pairs([i for i in range(5) if i != left]) for left in range(5)])
    assert interval.estimate.item() == pytest.approx(pairs(range(5)))
    assert interval.se.item() == pytest.approx((4 / 5 * ((without - without.mean()) ** 2).sum()) ** 0.5)
    assert (interval.high - interval.low).item() == pytest.approx(2 * 2.776445 * interval.se.item())  # t, 4 degrees
    order = torch.tensor([3, 1, 4, 0, 2])
    assert over_nets(value_ij[order][:, order]).se.item() == pytest.approx(interval.se.item())
    symmetric = (value_ij + value_ij.T) / 2
    assert over_nets(symmetric).se.item() == pytest.approx(interval.se.item())
    half = torch.where(torch.ones(5, 5).triu(1).bool(), symmetric, torch.nan)
    assert over_nets(half).low.item() == pytest.approx(interval.low.item())


def _missing():
    value_ij = torch.rand(4, 4)
    value_ij[1, 3] = value_ij[3, 1] = torch.nan
    return value_ij


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda pair: jackknife(correlations, pair.weighted(torch.ones(20))), "at least 2 blocks of images, not 1"),
        (lambda pair: bootstrap(correlations, pair.weighted(torch.ones(20))), "at least 2 blocks of images, not 1"),
        (lambda pair: bootstrap(correlations, pair, draws=1), "at least 2 draws, not 1"),
        (lambda pair: jackknife(correlations, pair, level=95), "between 0 and 1, such as 0.95, not 95"),
        (lambda pair: bootstrap(correlations, pair, level=0), "between 0 and 1, such as 0.95, not 0"),
        (lambda pair: over_nets(torch.rand(4, 4), level=1), "between 0 and 1, such as 0.95, not 1"),
        (lambda pair: jackknife(lambda each: each.corr_ab / 0, pair), "finite on every part of the images"),
        (lambda pair: over_nets(torch.rand(2, 2)), r"at least 3 nets, not of shape \(2, 2\)"),
        (lambda pair: jackknife(correlations, pair, groups=1), "at least 2 groups of blocks, not of 1"),
        (lambda pair: over_nets(torch.rand(4, 3)), r"at least 3 nets, not of shape \(4, 3\)"),
        (lambda pair: over_nets(_missing()), "nets 1 and 3 have nan"),
    ],
)
def test_what_gives_no_interval_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call(Pair.of(*planted(100)[:2]))


def test_a_statistic_that_is_undefined_without_one_block_is_refused():
    x_na, x_nb, _ = planted(40)
    pair = Pair.of(x_na, x_nb, blocks=20)
    first = pair.moments.count.sum() - pair.moments.count[0]
    with pytest.raises(InputError, match="finite on every part of the images, not nan"):
        jackknife(lambda each: torch.tensor(torch.nan) if each.count == first else each.corr_ab[0, 0], pair)
