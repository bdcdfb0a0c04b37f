"""Every figure that the commands make, of every method: something is drawn in each panel, no text is cut or covers another.

Each method of conf/method makes a small result, of nets with constant units; one net and one layer have long names.
"""

import dataclasses
import functools
import itertools
from pathlib import Path

import matplotlib.text
import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.legend import Legend
from matplotlib.spines import Spine
from omegaconf import OmegaConf

from conftest import blocks
from convergent.analysis.all_layers import rows_of_layers
from convergent.analysis.by_layer import by_layer
from convergent.analysis.measures import measured as measures_of
from convergent.analysis.nulls import rotated
from convergent.analysis.reports import Report, by_chance, reports_of
from convergent.analysis.results import compare
from convergent.cli.writing import Aligned
from convergent.core.histogram_source import counting_of
from convergent.core.layer_moments import LayerMoments
from convergent.core.pairs import Pair
from convergent.figures.comparison import comparison
from convergent.figures.dynamics import dynamics
from convergent.figures.function import explained_and_kept
from convergent.figures.measures import beside_methods
from convergent.figures.methods import methods
from convergent.figures.penalties import penalties
from convergent.figures.registry import drawn
from convergent.report.unit_pictures import activity_of, drawings_of, filters_of
from convergent.similarity.every import QUICK
from convergent.streaming.patches import Patches
from convergent.streaming.top_images import TopImages

CONF = Path(__file__).parents[1] / "conf"
CONFIGS = {file.stem: file for file in sorted((CONF / "method").glob("*.yaml"))}
ANALYSES, FIGURES = (
    {name: part for file in (CONF / group).glob("*.yaml") for name, part in instantiate(OmegaConf.load(file)).items()}
    for group in ("analysis", "figure")
)
LAYERS = {"a_long_name.of.layer3": 1, "last": 2}
NAMES = "seed=0", "resnet18_pretrained,seed=1"


def pair_of(layer, shuffled=False):
    x_na, x_nb, *_ = blocks(sizes=((5, 4), (3, 6), (5, 3), (4, 4)), n=360, seed=LAYERS[layer])
    x_na, x_nb = x_na.relu(), x_nb.relu()
    x_na[:, 0], x_nb[:, 1] = 1.0, 0.0
    x_na = x_na.roll(60, 0) if shuffled else x_na
    return dataclasses.replace(
        Pair.of(x_na, x_nb, blocks=6), held_out_folds=3, layer=layer, name_a=NAMES[0], name_b=NAMES[1]
    )


def patches(units, k):
    top = TopImages(torch.rand(units, k), torch.randint(50, (units, k)), torch.zeros(units, k, dtype=torch.long))
    top.activation_ck[::3, -1:] = 0.0  # silent in some
    return Patches(top, None, 1, torch.randint(256, (units, k, 4, 5, 1), dtype=torch.uint8))


def moments_of(pair):
    scatter = {(0, 0): (pair.a, pair.a), (0, 1): (pair.a, pair.b), (1, 1): (pair.b, pair.b)}
    scatter = {key: pair.moments.scatter_uu[:, a, b] for key, (a, b) in scatter.items()}
    names = [pair.name_a, pair.name_b]
    return LayerMoments(pair.layer, names, [pair.a, pair.b], pair.moments.count, pair.moments.mean_u, scatter, 360)


@functools.cache
def measured(name):
    """What a method gives in both directions of every layer: results and reports, and pictures of the first direction."""
    method = instantiate(OmegaConf.load(CONFIGS[name]))
    results, reports, pictures = [], [], {}
    for layer in LAYERS:
        there, shuffled = pair_of(layer), pair_of(layer, shuffled=True)
        if not counting_of(method):  # as in a pass, which then counts no histograms
            there, shuffled = (dataclasses.replace(pair, joint=None) for pair in (there, shuffled))
        values = measures_of(QUICK, there, {"shuffled": [shuffled]})
        for pair, permuted, of in ((there, shuffled, values[0]), (there.flip(), shuffled.flip(), values[1])):
            nulls = {"rotated": [rotated(pair)], "shuffled": [permuted]}
            alignment, result = compare(
                method,
                pair,
                360,
                nulls,
                similarity=of,
                interval=pair is there and name in ("matching", "least_squares"),
            )
            of_pair = reports_of(ANALYSES, alignment)
            results.append(result)
            reports += [*of_pair, *by_chance(alignment, nulls, ANALYSES)[1]]
            pictures = pictures or drawings(pair, alignment, of_pair)
    return results, reports, pictures


def drawings(pair, alignment, reports):
    """What is drawn of one pair."""
    units = {pair.name_a: pair.p, pair.name_b: pair.q}
    kinds = [{net: patches(count, k) for net, count in units.items()} for k in (9, 1, 4)]
    tables = {name: rows for report in reports for name, rows in report.tables.items()}
    pictures = drawings_of(alignment, kinds, tables)
    pictures |= filters_of(alignment, {net: torch.nn.Conv2d(1, count, 3) for net, count in units.items()})
    return {name: draw() for name, draw in pictures.items()} | dict(
        drawn(FIGURES, alignment=alignment, reports=reports)
    )


def summaries_of(name):
    results, reports, _ = measured(name)
    return Aligned(results, reports).summaries()


def of_method(name):
    """The figures that `align` makes of a method, by name."""
    results, reports, pictures = measured(name)
    yield from pictures.items()
    results, reports = (
        [*of, *(dataclasses.replace(one, layer=f"{one.layer}.2") for one in of)] for of in (results, reports)
    )
    reports += [Report(layer, *NAMES, tables={"function": judged(seed)}) for seed, layer in enumerate(LAYERS)]
    summaries, layers = Aligned(results, reports).summaries(), [moments_of(pair_of(layer)) for layer in LAYERS]
    yield from drawn(
        FIGURES,
        results=results,
        reports=reports,
        summaries=summaries,
        method=name,
        layers=layers,
        epochs={},
        layer_pairs=layer_pairs(name),
    )


def judged(seed):
    """Rows of what is left of decisions, one control far outside."""
    generator = np.random.default_rng(seed)
    names = ("method", "rotated", "untrained", "permuted", "least_squares", "least_squares_untrained")
    return [
        {"map": name, "restored": restored, "r2_held_out": -0.7 if name == "untrained" else x, "kept": 1.5 * x - 0.2}
        for name in names
        for restored in (0, 1)
        for x in generator.uniform(size=3)
    ]


def layer_pairs(method):
    """Rows of all layers of two nets with all, more than there is room for numbers in; of one method."""
    if method != "matching":
        return []
    pair, layers = pair_of("last"), [f"features.{number}.relu" for number in range(7)]
    pairs = [((one, other), lambda: pair) for one in layers for other in layers if one < other]
    rows = rows_of_layers(pairs[:1], 360, QUICK, instantiate(OmegaConf.load(CONFIGS[method])))
    named = ({**row, "layer_a": one, "layer_b": other} for (one, other), _ in pairs for row in rows)
    return [row | {"b": row["a"]} if within else row for row in named for within in (True, False)]


PNG = {  # beside those of every method
    "spectral": {"clusters", "similarity", "composition", "subspaces", "clusters-units", "predictors"},
    "sparse": {"tree", "mapping", "few_to_one", "predictors", "clusters-units"},
    "sparse_path": {"tree", "mapping", "few_to_one", "path", "predictors", "clusters-units"},
    "mutual_information": {"densities", "nats"},
    "matching": {"layer_heatmaps", "layer_heatmaps_within"},
}


def of_all():
    """The figures that belong to no single method, by name."""
    rows = {name: summaries_of(name) for name in CONFIGS}
    layers = [moments_of(pair_of(layer)) for layer in LAYERS]
    yield "comparison", comparison(rows)
    yield "measures", beside_methods(rows)
    yield "methods", methods({name: [of_method] for name, of_method in rows.items()})
    of_layers = {name: [{"layer": of, **row} for of in LAYERS for row in judged(len(of) + len(name))] for name in rows}
    yield "explained_and_kept", explained_and_kept(of_layers)
    long = {f"sparse,alpha=0.0{number},positive=true,targets=100": rows["sparse"] for number in range(1, 10)}
    for count in (1, 4, 9):
        some = dict(list(long.items())[:count]) | {"my_own_method_of_many_words,with_settings=true": rows["matching"]}
        yield f"comparison-long-{count}", comparison(some)
        yield f"methods-long-{count}", methods({name: [of_method] for name, of_method in some.items()})
    yield "dynamics", dynamics(dict.fromkeys((0, 1, 3, 10), rows["matching"]))
    sweep = [
        {
            layer: scalars | {"solver_alpha": alpha, "predictors": 0.5 / alpha}
            for layer, scalars in by_layer(rows["sparse"]).items()
        }
        for alpha in (0.3, 0.1, 0.03, 0.01)
    ]
    yield "penalties", penalties(sweep)
    for layer in layers:
        yield f"extremes-{layer.layer}", activity_of(layer, {net: patches(20, 9) for net in NAMES})


@pytest.fixture
def written(monkeypatch):
    """The texts that are drawn, in place of those that only could be: ticks beyond an axis's end are none."""
    texts = {}
    draw = matplotlib.text.Text.draw

    def drawn(self, renderer, *args, **kwargs):
        if self.get_visible() and self.get_text().strip():
            texts[id(self)] = self
        return draw(self, renderer, *args, **kwargs)

    monkeypatch.setattr(matplotlib.text.Text, "draw", drawn)
    return texts


def faults(figure, written):
    """What is wrong with a figure, in words."""
    canvas = FigureCanvasAgg(figure)
    written.clear()
    canvas.draw()
    figure.set_layout_engine("none")
    box = {text: text.get_window_extent() for text in written.values()}
    wide, high = canvas.get_width_height()
    for text, at in box.items():
        if min(at.x0, at.y0) < -1 or at.x1 > wide + 1 or at.y1 > high + 1:
            yield f"{text.get_text()!r} is cut"
    for (one, at), (other, there) in itertools.combinations(box.items(), 2):
        if min(at.x1, there.x1) - max(at.x0, there.x0) > 1 and min(at.y1, there.y1) - max(at.y0, there.y0) > 2:
            yield f"{one.get_text()!r} covers {other.get_text()!r}"
    for part in figure.findobj(lambda part: isinstance(part, (matplotlib.text.Text, Axis, Spine, Legend))):
        part.set_visible(False)
    canvas.draw()
    ink = (np.asarray(canvas.buffer_rgba())[..., :3] != 255).any(2)
    for number, axis in enumerate(axis for axis in figure.axes if axis.get_visible()):
        at = axis.get_window_extent()
        panel = ink[max(0, round(high - at.y1)) : round(high - at.y0), max(0, round(at.x0)) : round(at.x1)]
        if not axis.has_data() or panel.sum() < 50:
            yield f"panel {number} is empty"


@pytest.mark.parametrize("method", [*CONFIGS, "all"])
def test_no_figure_is_empty_and_no_text_is_cut_or_covered(method, written):
    figures = of_all() if method == "all" else of_method(method)
    wrong = {what: list(faults(figure, written)) for what, figure in figures}
    assert len(wrong) > 4
    expected = PNG.get(method, set()) | (
        set() if method == "all" else {"correlations", "curves", "means", "activity", "measures", "function"}
    )
    assert expected <= wrong.keys()
    assert method not in PNG or not wrong.keys() & (set().union(*PNG.values()) - expected)
    assert not {what: errors for what, errors in wrong.items() if errors}
