"""Laws of the lasso: against scikit-learn on raw samples, by its own certificate, and where its solution is not unique."""

import pytest
import torch
from sklearn.linear_model import Lasso, lars_path_gram

from convergent.core.pairs import Pair
from convergent.errors import InputError
from convergent.methods.solvers import supports
from convergent.methods.solvers.lasso import lasso
from convergent.methods.solvers.supports import on_most, on_supports

ALPHAS = (0.3, 0.1, 0.03, 0.01, 0.001)


def rectified(n=400, p=20, q=6):
    """Samples of two nets with a latent in common."""
    latent = torch.randn(n, 5).double()
    return tuple(
        (latent @ torch.randn(5, width).double() + torch.randn(n, width).double()).clamp(min=0) for width in (p, q)
    )


def solved(x_na, x_nb, alphas=ALPHAS, **options):
    pair = Pair.of(x_na, x_nb)
    return pair, lasso(pair.corr_aa, pair.corr_ab, alphas, **options)


def standardised(x):
    return ((x - x.mean(0)) / x.std(0, correction=0)).numpy()


@pytest.mark.parametrize("positive", [False, True])
def test_it_is_scikit_learns_on_raw_samples(positive):
    x_na, x_nb = rectified()
    _, solutions = solved(x_na, x_nb, positive=positive)
    for alpha, solution in zip(ALPHAS, solutions):
        theirs = Lasso(alpha, fit_intercept=False, positive=positive, tol=1e-12, max_iter=100_000)
        for b in range(3):
            expected = theirs.fit(standardised(x_na), standardised(x_nb)[:, b]).coef_
            assert torch.allclose(solution.map_ab[:, b], torch.from_numpy(expected), atol=1e-8)


def test_it_is_the_exact_path_of_lars():
    x_na, x_nb = rectified(300, 40, 3)
    pair, solutions = solved(x_na, x_nb)
    for b in range(3):
        alphas, _, path = lars_path_gram(
            pair.corr_ab[:, b].numpy(), pair.corr_aa.numpy(), n_samples=1, method="lasso", max_iter=5000
        )
        for alpha, solution in zip(ALPHAS, solutions):
            after = int((alphas > alpha).sum())  # between two knots the path is straight
            if 0 < after < len(alphas):
                share = (alphas[after - 1] - alpha) / (alphas[after - 1] - alphas[after])
                expected = torch.from_numpy((1 - share) * path[:, after - 1] + share * path[:, after])
                assert torch.allclose(solution.map_ab[:, b], expected, atol=1e-9)


def assert_optimal(pair, solution, alpha, within=1e-9):
    """The conditions of the optimum, worked out anew."""
    left_ab = pair.corr_ab - pair.corr_aa @ solution.map_ab
    assert (left_ab.abs() <= alpha + within).all()
    used_ab = solution.map_ab != 0
    assert torch.allclose(left_ab[used_ab], alpha * solution.map_ab[used_ab].sign(), atol=within)
    assert solution.gap_b.max() < 1e-9
    assert solution.kkt_b.max() < within


def awkward():
    """Inputs where the units that predict depend on one another, or there are fewer samples than units."""
    x_na, x_nb = rectified(200, 12, 4)
    copies = torch.cat([x_na, 3 * x_na[:, :4] + 1, -x_na[:, :4]], 1)
    constant = x_na.clone()
    constant[:, 2] = 7
    few_na, few_nb = rectified(15, 40, 4)
    return {
        "copies": (copies, x_nb),
        "nearly copies": (torch.cat([x_na, x_na[:, :4] + 1e-5 * torch.randn(200, 4)], 1), x_nb),
        "sums": (torch.cat([x_na, x_na[:, :3] + x_na[:, 3:6]], 1), x_nb),
        "fewer samples than units": (few_na, few_nb),
        "constant": (constant, torch.cat([x_nb, torch.zeros(200, 1)], 1)),
        "itself": (x_na, x_na),
    }


@pytest.mark.parametrize("case", list(awkward()))
def test_every_input_has_a_proved_solution(case):
    pair, solutions = solved(*awkward()[case])
    for alpha, solution in zip(ALPHAS, solutions):
        assert_optimal(pair, solution, alpha)


def test_copies_share_the_weight_whatever_their_order():
    x_na, x_nb = rectified(200, 6, 2)
    doubled = torch.cat([x_na, x_na], 1)
    (solution,) = solved(doubled, x_nb, [0.05])[1]
    assert torch.allclose(solution.map_ab[:6], solution.map_ab[6:], atol=1e-9)
    (single,) = solved(x_na, x_nb, [0.05])[1]
    assert torch.allclose(solution.map_ab[:6] + solution.map_ab[6:], single.map_ab, atol=1e-8)


@pytest.mark.parametrize("positive", [False, True])
def test_of_many_copies_one_is_solved_for_and_opposite_signs_count(positive, monkeypatch):
    x_na, x_nb = rectified(200, 6, 3)
    x_na[:, 2] = 1.0  # constant
    many = torch.cat([x_na, -2 * x_na, x_na + 1], 1)
    pair = Pair.of(many, x_nb)

    def never(*_):
        raise AssertionError("a system of copies was solved")

    monkeypatch.setattr(supports, "independent_axes", never)
    (solution,) = lasso(pair.corr_aa, pair.corr_ab, [0.05], positive=positive)
    (single,) = lasso(pair.corr_aa[:12, :12], pair.corr_ab[:12], [0.05], positive=positive)
    first, opposite, third = solution.map_ab.split(6)
    assert torch.allclose(first, third, atol=1e-12)
    assert solution.gap_b.max() < 1e-9
    assert solution.kkt_b.max() < 1e-9
    if not positive:
        assert torch.allclose(first, -opposite, atol=1e-12)
    assert torch.allclose(first - opposite + third, single.map_ab[:6] - single.map_ab[6:], atol=1e-9)
    assert not solution.map_ab[2::6].any()


def test_rounded_correlations_of_units_with_themselves_make_no_copies():
    x_na, x_nb = rectified(200, 6, 3)
    pair = Pair.of(x_na, x_nb)
    rounded_aa = pair.corr_aa - 1e-7 * torch.eye(6)
    (solution,), (exact,) = (lasso(corr_aa, pair.corr_ab, [0.05]) for corr_aa in (rounded_aa, pair.corr_aa))
    assert torch.allclose(solution.map_ab, exact.map_ab, atol=1e-5)


def test_it_is_all_zero_exactly_where_the_penalty_reaches_the_highest_correlation():
    x_na, x_nb = rectified()
    pair = Pair.of(x_na, x_nb)
    highest = pair.corr_ab.abs().max().item()
    at, above, below = lasso(pair.corr_aa, pair.corr_ab, [highest, highest * 1.01, highest * 0.999])
    assert not at.map_ab.any()
    assert not above.map_ab.any()
    assert (below.map_ab != 0).sum() == 1
    signed = pair.corr_ab.max().item()
    assert not lasso(pair.corr_aa, pair.corr_ab, [signed], positive=True)[0].map_ab.any()


def test_uncorrelated_units_are_thresholded_softly():
    corr_ab = torch.empty(6, 5).double().uniform_(-0.5, 0.5)
    (solution,) = lasso(torch.eye(6).double(), corr_ab, [0.2])
    expected = corr_ab.sign() * (corr_ab.abs() - 0.2).clamp(min=0)
    assert torch.allclose(solution.map_ab, expected, atol=1e-12)


def test_without_penalty_it_tends_to_least_squares_and_the_fit_falls_with_the_penalty():
    x_na, x_nb = rectified()
    pair, solutions = solved(x_na, x_nb, (0.3, 0.1, 0.01, 1e-3, 1e-7))
    assert torch.allclose(solutions[-1].map_ab, torch.linalg.solve(pair.corr_aa, pair.corr_ab), atol=1e-4)
    loss = torch.stack(
        [-2 * (s.map_ab * pair.corr_ab).sum(0) + (s.map_ab * (pair.corr_aa @ s.map_ab)).sum(0) for s in solutions]
    )
    assert (loss.diff(dim=0) <= 1e-12).all()


def test_other_penalties_beside_it_change_nothing():
    x_na, x_nb = rectified()
    pair, solutions = solved(x_na, x_nb)
    for alpha, together in zip(ALPHAS, solutions):
        (alone,) = lasso(pair.corr_aa, pair.corr_ab, [alpha])
        assert torch.allclose(alone.map_ab, together.map_ab, atol=1e-10)


def test_constant_units_get_no_weight_and_change_nothing():
    x_na, x_nb = rectified()
    (expected,) = solved(x_na, x_nb, [0.02])[1]
    (solution,) = solved(torch.cat([torch.ones(len(x_na), 3), x_na], 1), x_nb, [0.02])[1]
    assert not solution.map_ab[:3].any()
    assert torch.allclose(solution.map_ab[3:], expected.map_ab, atol=1e-10)
    none = lasso(torch.zeros(3, 3).double(), torch.zeros(3, 2).double(), [0.02])[0]
    assert none.map_ab.shape == (3, 2)
    assert not none.map_ab.any()
    assert none.gap_b.max() == 0


def test_penalties_come_in_any_order_and_need_to_be_above_0():
    x_na, x_nb = rectified()
    pair, solutions = solved(x_na, x_nb, [0.01, 0.3, 0.01])
    assert torch.equal(solutions[0].map_ab, solutions[2].map_ab)
    assert solutions[0].map_ab.count_nonzero() > solutions[1].map_ab.count_nonzero()
    with pytest.raises(InputError, match="above 0, not 0"):
        lasso(pair.corr_aa, pair.corr_ab, [0.0])


def test_hard_problems_are_proved_without_admm():
    x_na, x_nb = rectified(300, 30, 5)
    pair = Pair.of(x_na, x_nb)
    from convergent.methods.solvers.lasso import _Problem

    problem = _Problem(pair.corr_aa, positive=False)
    start = torch.randn(30, 5).double()
    solution = problem._descend(pair.corr_ab, 0.02, start)
    (expected,) = lasso(pair.corr_aa, pair.corr_ab, [0.02])
    assert torch.allclose(solution, expected.map_ab, atol=1e-9)


def test_supports_of_most_units_are_solved_by_those_not_in_them():
    corr_aa = torch.randn(200, 20).double().T.corrcoef()
    right_am, used_am = torch.randn(20, 9).double(), torch.rand(20, 9) < 0.8
    used_am[:, 0] = True
    expected = on_supports(corr_aa, right_am, used_am)
    assert torch.allclose(on_most(corr_aa.inverse(), right_am, used_am), expected, atol=1e-12)
