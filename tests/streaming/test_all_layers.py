"""All layers with all layers: what their own samples give, as the pass over each layer has it, and saved layer by layer."""

from collections import OrderedDict
from itertools import combinations
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from convergent.analysis.all_layers import pairs_of_layers, rows_of_layers, with_all_columns
from convergent.cli import layer_pairs
from convergent.core.pairs import Pair
from convergent.methods.matching import Matching
from convergent.methods.mutual_information import MutualInformation
from convergent.similarity.every import MEASURES
from convergent.streaming.all_layers import SavedAllLayers, net_and_layer, together
from convergent.streaming.measure import collect, measure
from convergent.streaming.reading import Reading

LAYERS = ["conv1", "conv2", "fc"]
SOME = {name: MEASURES[name] for name in ("cka", "rsa_pearson", "pwcca")}


def net():
    parts = {"conv1": nn.Conv2d(1, 3, 3), "conv2": nn.Conv2d(3, 4, 2), "flat": nn.Flatten(), "fc": nn.Linear(16, 5)}
    return nn.Sequential(OrderedDict(parts)).double()


@pytest.fixture
def passed():
    """Two nets, images, and the moments of all layers by the layer of the first site."""
    nets, x = {"a": net(), "b": net()}, torch.randn(60, 1, 5, 5).double()
    reading = Reading(blocks=6)
    (parts,) = collect(nets, x.split(11), [SavedAllLayers(LAYERS).start([], reading, None)], reading)
    return nets, x, parts


def pooled(nets, x):
    """The samples of every layer of every net."""
    seen, of_net = {}, {}
    for name, module in nets.items():
        of_net[name] = x
        for layer, part in module.named_children():
            with torch.no_grad():
                of_net[name] = part(of_net[name])
            seen[name, layer] = of_net[name].flatten(2).mean(2) if of_net[name].ndim > 2 else of_net[name]
    return seen


def test_they_are_those_of_each_layers_own_samples(passed):
    nets, x, parts = passed
    sites, seen = together(parts.values()), pooled(nets, x)
    assert [net_and_layer(name) for name in sites.nets] == [(name, layer) for layer in LAYERS for name in nets]
    for i, j in combinations(range(6), 2):
        pair, own = sites.pair(i, j), Pair.of(*(seen[net_and_layer(sites.nets[k])] for k in (i, j)))
        assert torch.allclose(pair.total.scatter_uu, own.total.scatter_uu, rtol=1e-11, atol=1e-11)
        assert MEASURES["rsa_pearson"](pair) == pytest.approx(MEASURES["rsa_pearson"](own), rel=1e-10)
    alone = measure(nets, x.split(11), LAYERS, Reading(blocks=6, sample="pooled"))
    for number, layer in enumerate(LAYERS):
        one, other = alone[layer].pair("a", "b").moments, sites.pair(2 * number, 2 * number + 1).moments
        assert torch.equal(one.count, other.count)
        assert torch.allclose(one.scatter_uu, other.scatter_uu, rtol=1e-12, atol=1e-12)


def test_layer_by_layer_they_are_saved_and_come_back(passed, tmp_path):
    _, _, parts = passed
    saved = SavedAllLayers(LAYERS)
    for layer, moments in parts.items():
        saved.save(moments, tmp_path / layer)
    sites = together(saved.load(tmp_path / layer, layer, ["a", "b"]) for layer in LAYERS)
    wanted = together(parts.values())
    assert torch.equal(sites.pair(0, 5).moments.scatter_uu, wanted.pair(0, 5).moments.scatter_uu)
    some = together(saved.load(tmp_path / layer, layer, ["a", "b"]) for layer in LAYERS[1:])  # conv1 is left out
    assert len(pairs_of_layers(some)) == 4 * 3 // 2
    assert saved.folder == SavedAllLayers(LAYERS).folder != SavedAllLayers(LAYERS[:2]).folder


def test_a_row_is_an_ordered_pair_of_layers_of_one_net_or_two(passed):
    sites = together(passed[2].values())
    rows = with_all_columns(rows_of_layers(pairs_of_layers(sites), sites.images, SOME, Matching()))
    assert len({tuple(row[name] for name in ("layer_a", "layer_b", "a", "b")) for row in rows}) == len(rows) == 6 * 5
    assert all(row.keys() == rows[0].keys() and row["images"] == 60 and "r2_held_out" in row for row in rows)
    (row,) = [row for row in rows if (row["layer_a"], row["layer_b"], row["a"], row["b"]) == ("fc", "conv1", "b", "a")]
    pair = sites.pair(0, 5).flip()
    assert {name: row[name] for name in SOME} == pytest.approx({name: of(pair) for name, of in SOME.items()})
    assert row["mean_r"] == pytest.approx(float(Matching()(pair).r_b[Matching()(pair).predictors_b > 0].mean()))
    within = rows_of_layers(pairs_of_layers(sites, []), 60, SOME, MutualInformation())
    assert {(row["a"], row["b"]) for row in within} == {("a", "a"), ("b", "b")}
    assert within[0].keys() == {"layer_a", "layer_b", "a", "b", *SOME}


def test_any_number_of_processes_gives_the_same_rows(passed, monkeypatch):
    sites = together(passed[2].values())
    monkeypatch.setattr(layer_pairs, "load_all_layers", lambda _: sites)
    parts = SimpleNamespace(measures=SOME, method=Matching())

    def rows(n_jobs, **more):
        evaluation = SimpleNamespace(folds=3, measure_units=None)
        job = SimpleNamespace(pairs=None, evaluation=evaluation, config=SimpleNamespace(n_jobs=n_jobs))
        return layer_pairs.compare_layers(job, parts, None, **more)

    assert rows(1) == rows(3) == rows(3, alone=True)
    assert len(rows(2)) == 6 * 5
