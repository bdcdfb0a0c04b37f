"""What figures say: orders, sweeps, colours, words; files in both formats. Whether all of them draw: test_every_figure."""

from itertools import combinations, permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image
from scipy.ndimage import label

from conftest import planted
from convergent.analysis.nulls import rotated
from convergent.analysis.reports import Report
from convergent.analysis.results import compare
from convergent.analysis.shared_subspaces import KINDS
from convergent.core.layer_moments import LayerMoments
from convergent.core.pairs import Pair
from convergent.figures.activity import activity
from convergent.figures.comparison import comparison
from convergent.figures.contact_sheets import mosaic
from convergent.figures.correlations import aligned_order, correlations
from convergent.figures.curves import curves
from convergent.figures.dynamics import dynamics
from convergent.figures.grid import legend_below, panels, save
from convergent.figures.means import means
from convergent.figures.methods import methods
from convergent.figures.penalties import penalties, swept
from convergent.figures.style import COLOURS, look_of
from convergent.figures.subspaces import subspaces
from convergent.methods.matching import Matching
from convergent.methods.semimatching import SemiMatching
from convergent.streaming.patches import Patches
from convergent.streaming.top_images import TopImages

METHODS = sorted(file.stem for file in (Path(__file__).parents[1] / "conf" / "method").glob("*.yaml"))


def pair(p=9, q=12):
    x_na, x_nb, _ = planted(200, p, q, noise=0.5)
    x_na[:, 0], x_nb[:, 1] = 1.0, 0.0
    return Pair.of(x_na, x_nb)


def layer():
    """A layer of two nets, one unit of each constant."""
    joint = pair(8, 12)
    scatter = {(0, 0): (joint.a, joint.a), (0, 1): (joint.a, joint.b), (1, 1): (joint.b, joint.b)}
    scatter = {key: joint.moments.scatter_uu[:, a, b] for key, (a, b) in scatter.items()}
    moments = joint.moments
    return LayerMoments("conv1", ["a", "b"], [joint.a, joint.b], moments.count, moments.mean_u, scatter, 200)


def test_figures_are_saved_in_both_formats(tmp_path):
    method, name = Matching(), "matching"
    nulls = {"rotated": [rotated(pair())], "shuffled": [rotated(pair(), 3)]}
    alignment, result = compare(method, pair(), 200, nulls, interval=True)
    _, back = compare(method, pair().flip(), 200)
    summaries = [result.summary(), back.summary()]
    figures = {
        "correlations": correlations(alignment),
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


def channels(colour):
    share = np.array(to_rgb(colour))
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def lab(linear):
    """CIE L*a*b* of linear sRGB under D65."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    f = np.cbrt(to_xyz @ linear / [0.9505, 1.0, 1.089] + 1e-9)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


# What is seen with each kind of colour vision, of linear sRGB. Source: Machado, Oliveira, Fernandes 2009, severity 1.
VISION = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


@pytest.mark.parametrize("vision", VISION)
def test_everybody_tells_methods_apart_and_sees_them_on_white(vision):
    known = [look_of(name) for name in METHODS]
    assert len({look.mark for look in known}) == len(known) == len({look.words for look in known})
    for colour in (*COLOURS, *(look.colour for look in known), *(look_of(f"own{i}").colour for i in range(40))):
        assert 1.05 / (channels(colour) @ [0.2126, 0.7152, 0.0722] + 0.05) >= 3, colour
    for colours in (COLOURS, [look.colour for look in known]):
        seen = [lab(np.clip(np.array(VISION[vision]) @ channels(colour), 0, 1)) for colour in colours]
        assert min(np.linalg.norm(one - other) for one, other in combinations(seen, 2)) > 15


def summary(a, b, layer="fc1", **scalars):
    known = {"mean_r": 0.5, "mean_best_r": 0.6, "predictors": 1.0, "r2_held_out": 0.4, "images": 10}
    return {"layer": layer, "a": a, "b": b, **known, **scalars}


def drawn(axis):
    """The colours of the lines of more than one point and of all marks on an axis, by their legend's text."""
    return {container.get_label(): container.lines[0].get_color() for container in axis.containers}


def test_a_method_has_its_colour_whatever_stands_beside_it():
    rows = [summary("0", "1"), summary("1", "0")]
    for names in (METHODS, [*METHODS][::-1], [*METHODS][2:5]):
        for figure in (methods({name: [rows] for name in names}), comparison(dict.fromkeys(names, rows))):
            assert drawn(figure.axes[0]) == {look_of(name).words: look_of(name).colour for name in names}
    assert look_of("sparse,alpha=0.1,images=val").colour == look_of("sparse").colour


def test_what_chance_gives_one_method_is_never_joined_to_what_it_gives_another():
    def rows(used, r2):
        chance = {"r2_held_out_rotated": r2 / 2, "predictors_rotated": used}
        return [summary("0", "1", predictors=used, r2_held_out=r2, **chance)]

    figure = methods({"matching": [rows(1, 0.4)], "sparse": [rows(8, 0.6), rows(3, 0.5)], "spectral": [rows(9, 0.5)]})
    hollow = [line for line in figure.axes[0].lines if line.get_markerfacecolor() == "white"]
    assert sorted(line.get_xdata().tolist() for line in hollow) == [[1], [3, 8], [9]]
    assert [line.get_color() for line in hollow] == [
        look_of(name).colour for name in ("matching", "sparse", "spectral")
    ]


def test_directions_of_a_pair_are_two_dots_only_where_they_differ():
    nets = ["0", "1", "2", "3"]
    rows = [summary(a, b, mean_r=int(a) + int(b), mean_best_r=int(a) - int(b)) for a, b in permutations(nets, 2)]
    axis = means(rows, "matching").axes[0]
    assert [len(line.get_xdata()) for line in axis.lines if line.get_marker() == "o"] == [12, 6]


def test_an_interval_says_over_what_it_is_and_of_which_method():
    rows = [summary("0", "1", mean_r_low=0.4, mean_r_high=0.6), summary("1", "0", mean_r_low=0.4, mean_r_high=0.6)]
    labels = [text.get_text() for text in means(rows, "least_squares").legends[0].get_texts()]
    assert "95% over images, least squares" in labels


def test_every_kind_of_subspace_has_its_marks():
    kinds = [f"subspace_{kind}_{measure}" for kind in KINDS for measure in ("correlation", "explained")]
    curves = {"similarity": {}}
    reports = [
        Report("fc1", a, b, dict.fromkeys(kinds, 0.5), curves=curves, null=null)
        for a, b in ("01", "10")
        for null in ("", "rotated")
    ]
    figure = subspaces(reports)
    assert len(figure.legends[0].get_texts()) == len(KINDS) + 1  # and clusters of rotated nets
    assert [len(axis.containers) for axis in figure.axes] == [len(KINDS) + 1] * 2


def test_a_legend_takes_as_many_columns_as_have_room_and_the_figure_grows_for_the_widest():
    for words, wide in (
        ("short", 4),
        ("a label of a result with many settings, alpha=0.01, targets=100", 1),
        ("x" * 200, 1),
    ):
        figure, (axis,) = panels(1, 6.0, 2.6)
        for number in range(4):
            axis.plot([0, 1], label=f"{words} {number}")
        before = figure.get_figwidth()
        legend_below(figure)
        figure.draw_without_rendering()
        box = figure.legends[0].get_window_extent()
        columns = {round(text.get_window_extent().x0) for text in figure.legends[0].get_texts()}
        assert len(columns) == wide
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.width
        assert (figure.get_figwidth() > before) == (len(words) > 100)


def test_patches_stand_apart_even_where_they_are_white():
    top = TopImages(torch.tensor([[2.0, 1.0, 0.0]]), torch.zeros(1, 3, dtype=torch.long), torch.zeros(1, 3))
    sheet = mosaic(Patches(top, None, 1, torch.full((1, 3, 3, 3, 1), 255, dtype=torch.uint8)), 0)
    white = (sheet == 255).all(2)
    _, patches = label(white)
    assert patches == 2  # two patches; the third is of an image in which the unit is silent
    assert not white[0].any()  # and an edge around


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
        scalars = {"solver_alpha": alpha, "loss_held_out": loss, "r2_held_out": 1 - 2 * loss, "predictors": 0.3 / alpha}
        scalars |= {"loss_least_squares": 0.09, "loss_one_unit": 0.3, "predictors_sd": 0.2}
        return dict.fromkeys(("conv1", "fc1"), scalars)

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
