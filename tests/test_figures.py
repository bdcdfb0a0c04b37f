"""Every figure draws for every method, in both formats, also with dead and unmatched units."""

import pytest
import torch
from PIL import Image

from conftest import planted
from convergent.controls.nulls import rotated
from convergent.figures.activity import activity
from convergent.figures.comparison import comparison
from convergent.figures.correlations import aligned_order, correlations
from convergent.figures.curves import curves
from convergent.figures.dynamics import dynamics
from convergent.figures.means import means
from convergent.figures.methods import methods
from convergent.figures.penalties import penalties, swept
from convergent.figures.style import save
from convergent.methods.matching import Matching
from convergent.methods.semimatching import SemiMatching
from convergent.pairs import Pair
from convergent.results import compare
from convergent.streaming.layer_moments import LayerMoments


def pair(p=9, q=12):
    x_na, x_nb, _ = planted(200, p, q, noise=0.5)
    x_na[:, 0], x_nb[:, 1] = 1.0, 0.0
    return Pair.of(x_na, x_nb)


def layer():
    """A layer of two nets, one unit of each dead."""
    joint = pair(8, 12)
    scatter = {(0, 0): (joint.a, joint.a), (0, 1): (joint.a, joint.b), (1, 1): (joint.b, joint.b)}
    scatter = {key: joint.moments.scatter_uu[:, a, b] for key, (a, b) in scatter.items()}
    moments = joint.moments
    return LayerMoments("conv1", ["a", "b"], [joint.a, joint.b], moments.count, moments.mean_u, scatter, 200)


@pytest.mark.parametrize("method", [Matching(), SemiMatching()])
def test_all_figures_draw(tmp_path, method):
    name = type(method).__name__.lower()
    nulls = {"rotated": rotated(pair()), "permuted": rotated(pair(), 3)}
    alignment, result = compare(method, pair(), 200, 5, nulls, interval=True)
    _, back = compare(method, pair().flip(), 200, 5)
    summaries = [result.summary(), back.summary()]
    figures = {
        "correlations": correlations(pair(), alignment),
        "curves": curves([result, back], name),
        "means": means(summaries, name),
        "comparison": comparison({name: summaries}),
        "methods": methods({name: [summaries, summaries], "least_squares": [summaries]}),
        "dynamics": dynamics({0: summaries, 3: summaries}),
        "activity": activity([layer()]),
    }
    for title, figure in figures.items():
        png = save(figure, tmp_path, title)
        with Image.open(png) as picture:
            assert min(picture.size) > 250
            assert len(picture.convert("L").getcolors()) > 20  # not blank
        assert png.with_suffix(".pdf").read_bytes().startswith(b"%PDF")


def test_the_aligned_order_puts_partners_side_by_side_best_first():
    alignment = Matching()(pair(9, 9))
    order_a, order_b = aligned_order(alignment)
    assert sorted(order_a.tolist()) == sorted(order_b.tolist()) == list(range(9))
    diagonal = alignment.map_ab[order_a][:, order_b].diagonal()[:8]
    assert (diagonal > 0).all()
    assert (diagonal.diff() <= 0).all()


def test_units_of_b_follow_their_shared_partner():
    x_na, _, _ = planted(300, 3, 3)
    x_nb = x_na[:, [2, 0, 2, 1]] + torch.tensor([0.9, 0.1, 0.2, 0.5]) * torch.randn(300, 4)
    order_a, order_b = aligned_order(SemiMatching()(Pair.of(x_na, x_nb)))
    assert order_a.tolist() == [0, 2, 1]
    assert order_b.tolist() == [1, 2, 0, 3]


def test_a_sweep_over_penalties_is_a_curve_by_layer(tmp_path):
    def result(alpha):
        loss = 0.1 + alpha
        figures = {"solver_alpha": alpha, "loss_held_out": loss, "r2_held_out": 1 - 2 * loss, "units_used": 0.3 / alpha}
        figures |= {"loss_least_squares": 0.09, "loss_one_unit": 0.3, "units_used_sd": 0.2}
        return dict.fromkeys(("conv1", "fc1"), figures)

    results = [result(alpha) for alpha in (0.3, 0.01, 0.1)]  # in any order
    assert swept(results)
    assert not swept([results[0], results[0], {"conv1": {"mean_r": 0.5}}])
    assert not swept(
        [{"conv1": {"solver_alpha": 0.1}, "fc1": {"solver_alpha": 0.2}}]
    )  # each layer its own, but one result
    figure = penalties(results)
    for axis, values in zip(figure.axes, ([0.11, 0.2, 0.4], [0.78, 0.6, 0.2], [30, 3, 1])):
        curves = [line for container in axis.containers for line in container.lines[:1]]
        assert len(curves) == 2
        assert curves[0].get_xdata().tolist() == [0.01, 0.1, 0.3]
        assert curves[0].get_ydata() == pytest.approx(values)
    assert save(figure, tmp_path, "penalties").stat().st_size > 10_000
