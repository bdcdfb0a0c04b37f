"""Random rotations from moments alone: what they leave, what they take away, and what chance is worth beside a score."""

import pytest
import torch
from scipy import stats

from conftest import planted
from convergent.analysis.nulls import best, excess, p_values, rotated, rotated_best, rotation, threshold
from convergent.core.moments import Moments
from convergent.core.pairs import Pair
from convergent.core.scores import held_out
from convergent.errors import InputError
from convergent.methods.matching import Matching
from convergent.methods.semimatching import SemiMatching


def mixed(n=600, p=6, q=6, seed=0):
    """Planted pairs whose units also correlate within their net."""
    x_na, x_nb, _ = planted(n, p, q, noise=0.5, seed=seed)
    mix_aa = torch.eye(p).double() + 0.2 * torch.randn(p, p, generator=torch.Generator().manual_seed(seed)).double()
    return x_na @ mix_aa, x_nb


def canonical(pair):
    """Canonical correlations of the active units."""
    aa, bb = pair.corr_aa[pair.active_a][:, pair.active_a], pair.corr_bb[pair.active_b][:, pair.active_b]
    ab = pair.corr_ab[pair.active_a][:, pair.active_b]
    left, right = torch.linalg.cholesky(aa), torch.linalg.cholesky(bb)
    return torch.linalg.svdvals(torch.linalg.solve(left, torch.linalg.solve(right, ab.T).T))


def fitted_b(x_na, x_nb):
    """Least squares by raw samples: R2 of each unit of b."""
    x_na, x_nb = x_na - x_na.mean(0), x_nb - x_nb.mean(0)
    left = x_nb - x_na @ torch.linalg.lstsq(x_na, x_nb).solution
    return 1 - left.square().sum(0) / x_nb.square().sum(0)


def test_rotations_are_orthogonal_and_none_is_likelier_than_another():
    generator = torch.Generator().manual_seed(0)
    turns = [rotation(4, generator) for _ in range(4000)]
    assert torch.allclose(turns[0] @ turns[0].T, torch.eye(4).double(), atol=1e-12)
    trace = torch.stack([turn.trace() for turn in turns])
    assert abs(trace.mean()) < 4 / 4000**0.5  # plain QR, whose signs are LAPACK's, is far off
    assert abs(trace.square().mean() - 1) < 0.1
    assert abs(torch.stack([turn.det() for turn in turns]).mean()) < 4 / 4000**0.5  # reflections too


@pytest.mark.parametrize("constant", [False, True])
def test_rotating_moments_is_rotating_samples(constant):
    x_na, x_nb = mixed(300, 5, 6)
    x_nb = x_nb + 1e5  # means that eat digits
    active = torch.arange(6)
    if constant:
        x_nb[:, 2] = 7.0
        active = torch.tensor([0, 1, 3, 4, 5])
    image_n = torch.arange(300) // 2
    pair = Pair.of(x_na, x_nb, image_n, blocks=7)
    turn_bb = rotation(len(active), torch.Generator().manual_seed(3))
    y_nb = torch.zeros_like(x_nb)
    z_nb = (x_nb[:, active] - x_nb[:, active].mean(0)) / x_nb[:, active].std(0, correction=0)
    y_nb[:, active] = z_nb @ turn_bb
    ours, theirs = rotated(pair, seed=3), Pair.of(x_na, y_nb, image_n, blocks=7)
    assert torch.equal(ours.active_b, theirs.active_b)
    assert torch.equal(ours.moments.count, theirs.moments.count)
    assert torch.allclose(ours.moments.mean_u, theirs.moments.mean_u, atol=1e-9)
    assert torch.allclose(ours.moments.scatter_uu, theirs.moments.scatter_uu, atol=1e-7)
    assert torch.equal(ours.moments.scatter_uu[:, ours.b, ours.b], ours.moments.scatter_uu[:, ours.b, ours.b].mT)
    assert torch.allclose(held_out(SemiMatching(), ours), held_out(SemiMatching(), theirs), atol=1e-8)
    assert (held_out(SemiMatching(), ours)[active] != 0).all()


def test_a_rotation_leaves_the_span_and_takes_the_units():
    pair = Pair.of(*mixed())
    rotated_pair = rotated(pair, seed=1)
    assert torch.allclose(canonical(rotated_pair), canonical(pair), atol=1e-9)
    assert canonical(pair).min() > 0.5  # there is something to leave
    r, rotated_r = (Matching()(each).r_b.mean() for each in (pair, rotated_pair))
    assert r > rotated_r + 0.2


def test_net_a_is_predicted_as_well_from_rotated_units():
    x_na, x_nb = mixed()
    rotated_pair = rotated(Pair.of(x_na, x_nb), seed=1)
    beta_ba = torch.linalg.solve(rotated_pair.corr_bb, rotated_pair.corr_ab.T)
    assert torch.allclose((rotated_pair.corr_ab.T * beta_ba).sum(0), fitted_b(x_nb, x_na), atol=1e-9)
    assert torch.equal(rotated_pair.corr_aa, Pair.of(x_na, x_nb).corr_aa)


def test_a_rotation_of_either_net_and_of_a_net_paired_with_itself():
    x_na, x_nb = mixed()
    pair = Pair.of(x_na, x_nb)
    rotated_pair = rotated(pair.flip(), seed=2).flip()
    assert torch.allclose(rotated_pair.corr_bb, pair.corr_bb)
    assert not torch.allclose(rotated_pair.corr_aa, pair.corr_aa, atol=0.1)
    assert (rotated_pair.name_a, rotated_pair.name_b, rotated_pair.p) == ("a", "b", 6)
    itself = Pair(Moments.stack([Moments.of(x_na)]), slice(0, 6), slice(0, 6))
    assert torch.equal(rotated(itself).corr_aa, itself.corr_aa)
    assert not torch.allclose(rotated(itself).corr_bb, itself.corr_bb, atol=0.1)


def test_seeds_are_reproducible_and_leave_torch_alone():
    pair = Pair.of(*mixed())
    state = torch.random.get_rng_state()
    assert torch.equal(rotated(pair, 4).corr_ab, rotated(pair, 4).corr_ab)
    assert not torch.allclose(rotated(pair, 4).corr_ab, rotated(pair, 5).corr_ab)
    assert torch.equal(rotated_best(pair, 3, seed=4), rotated_best(pair, 3, seed=4))
    assert torch.equal(rotated_best(pair, 3, seed=4)[:2], rotated_best(pair, 2, seed=4))
    assert not torch.allclose(rotated_best(pair, 1, seed=4), rotated_best(pair, 1, seed=5))
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("absolute", [False, True])
def test_the_cheap_draw_is_the_rotated_pair(absolute):
    x_na, x_nb = mixed(300, 5, 7)
    x_na[:, 1], x_nb[:, 2] = 1.0, -1.0
    pair = Pair.of(x_na, x_nb)
    rotated_pair = rotated(pair, seed=6)
    assert torch.allclose(
        rotated_best(pair, 1, 6, absolute, "b")[0], best(rotated_pair, absolute)[pair.active_b], atol=1e-10
    )
    rotated_pair = rotated(pair.flip(), seed=6).flip()
    assert torch.allclose(
        rotated_best(pair, 1, 6, absolute, "a")[0], best(rotated_pair, absolute)[pair.active_b], atol=1e-10
    )
    assert rotated_best(pair, 3).shape == (3, 6)


def test_the_best_correlation_is_that_of_semi_matching():
    x_na, x_nb = mixed()
    x_na[:, :3], x_nb[:, 3] = -x_na[:, :3], 0.0
    pair = Pair.of(x_na, x_nb)
    assert torch.allclose(best(pair), SemiMatching()(pair).r_b)
    assert torch.allclose(best(pair, absolute=True), SemiMatching(absolute=True)(pair).r_b.abs())
    assert not torch.allclose(best(pair), best(pair, absolute=True))


def test_units_of_their_own_exceed_rotations_and_mixtures_do_not():
    x_na, x_nb, _ = planted(2000, 30, 30, noise=0.3)
    generator = torch.Generator().manual_seed(9)
    z_nb = (x_nb - x_nb.mean(0)) / x_nb.std(0)
    z_nb[:, :15] = (z_nb @ rotation(30, generator))[:, :15]  # the first half: directions of no meaning in net a
    z_nb[:, 7] = 0.0
    pair = Pair.of(x_na, z_nb)
    excess_b = excess(pair, draws=20)
    assert excess_b[7] == 0
    assert excess_b[:15].abs().max() < 0.3
    assert excess_b[15:].min() > 0.35
    p_b = p_values(best(pair), rotated_best(pair, 20))
    assert (p_b[15:] <= 0.01).all()
    assert p_b[7] == 1
    assert (best(pair)[15:] > threshold(rotated_best(pair, 20))).all()


@pytest.mark.parametrize("absolute", [False, True])
def test_the_excess_is_over_each_units_own_rotations_of_the_candidates(absolute):
    x_na, x_nb = mixed()
    x_na[:, :3], x_nb[:, 4] = -x_na[:, :3], 2.0
    pair, generator = Pair.of(x_na, x_nb), torch.Generator().manual_seed(8)
    z_na = (x_na - x_na.mean(0)) / x_na.std(0)
    null_db = [best(Pair.of(z_na @ rotation(6, generator), x_nb), absolute) for _ in range(3)]
    expected = best(pair, absolute) - torch.stack(null_db).mean(0)
    assert torch.allclose(excess(pair, 3, 8, absolute), expected)


def test_units_without_axes_of_their_own_have_uniform_p_values():
    """A spherical net b is its own rotation: the best correlations of its units are draws of their null."""
    p_values_of = []
    for seed in range(60):
        x_na, x_nb = torch.randn(2, 500, 8, generator=torch.Generator().manual_seed(seed)).double()
        x_nb[:, :4] = x_nb[:, :4] + x_na[:, :4]  # related to a,
        x_nb = torch.linalg.qr(x_nb - x_nb.mean(0))[0] @ rotation(
            8, torch.Generator().manual_seed(1000 + seed)
        )  # on no axes
        pair = Pair.of(x_na, x_nb)
        p_values_of.append(p_values(best(pair)[:1], rotated_best(pair, 20, seed=seed, turn="b")))
    p_n = torch.cat(p_values_of)
    assert stats.kstest(p_n.numpy(), "uniform").pvalue > 0.01
    assert p_n.min() > 0


def test_p_values_count_the_value_itself():
    assert p_values(
        torch.tensor([0.5, 0.2, 0.9, 0.1]), torch.tensor([[0.1, 0.2], [0.5, 0.7]])
    ).tolist() == pytest.approx([3 / 5, 4 / 5, 1 / 5, 1])
    generator = torch.Generator().manual_seed(0)
    null = torch.rand(8000, 10, generator=generator)  # a value and nine draws of its null
    p_n = torch.stack([p_values(row[:1], row[1:])[0] for row in null])
    for level in (0.1, 0.2, 0.5):
        assert (p_n <= level + 1e-9).double().mean() == pytest.approx(level, abs=0.02)
    assert p_n.min() == pytest.approx(0.1)  # nine draws cannot tell more


@pytest.mark.parametrize(("draws", "level"), [(19, 0.05), (99, 0.05), (57, 0.1), (100, 0.29), (99, 0.29)])
def test_a_threshold_is_where_p_values_reach_the_level(draws, level):
    null = torch.randn(draws, generator=torch.Generator().manual_seed(draws)).double()
    cut = threshold(null, level)
    above, at = torch.tensor([[cut + 1e-9], [cut]], dtype=torch.float64)
    assert p_values(above, null) <= level + 1e-12
    assert p_values(at, null) > level + 1e-12
    assert threshold(null.reshape(-1, 1), level) == cut


def test_a_net_without_active_units_has_no_best():
    pair = Pair.of(torch.ones(10, 3), torch.randn(10, 2))
    assert excess(pair).tolist() == [0, 0]
    assert excess(pair.flip()).tolist() == [0, 0, 0]
    assert rotated(pair.flip()).active_b.tolist() == [False] * 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda pair: rotated_best(pair, draws=0), "at least 1 draw, not 0"),
        (lambda pair: rotated_best(pair, turn="c"), 'turn needs to be "a" or "b"'),
        (lambda pair: p_values(torch.ones(2), torch.ones(0)), "at least one null value"),
        (lambda pair: threshold(torch.ones(18)), "at least 19 null values, not 18"),
        (lambda pair: threshold(torch.ones(18), level=1.5), "between 0 and 1, not 1.5"),
    ],
)
def test_what_gives_no_null_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call(Pair.of(*mixed(50)))
