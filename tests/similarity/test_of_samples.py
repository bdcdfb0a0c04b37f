"""Measures that need samples: by definition, of a seeded sample, and absent where there is none."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics.pairwise import rbf_kernel
from torch import nn

from conftest import planted
from convergent.core.pairs import Pair
from convergent.similarity.every import MEASURES, OF_SAMPLES
from convergent.similarity.neighbours import neighbours
from convergent.similarity.sampled import MOST, needs_samples, sampled
from convergent.streaming.kept_samples import SavedSamples
from convergent.streaming.measure import collect
from convergent.streaming.reading import Reading
from similarity import oracles


def test_each_is_what_it_is_by_definition():
    x_na, x_nb, _ = planted(80, 4, 5, 1.0)
    pair = Pair.of(x_na, x_nb)
    near = [np.argsort(np.linalg.norm(x[:, None] - x[None], axis=2), 1)[:, 1:11] for x in (x_na.numpy(), x_nb.numpy())]
    share = np.mean([len({*one} & {*other}) / 10 for one, other in zip(*near)])
    assert OF_SAMPLES["neighbours"](pair) == pytest.approx(share)
    distances = [oracles.distances(x) for x in (x_na, x_nb)]
    assert OF_SAMPLES["rsa_spearman"](pair) == pytest.approx(spearmanr(*distances).statistic, rel=1e-10)
    medians = (torch.from_numpy(of).median().item() for of in distances)
    grams = [rbf_kernel(x.numpy(), gamma=1 / (2 * 0.25 * of)) for x, of in zip((x_na, x_nb), medians)]
    assert OF_SAMPLES["cka_rbf"](pair) == pytest.approx(oracles.alignment_of(*grams, oracles.hsic), rel=1e-10)
    for measure in OF_SAMPLES.values():
        assert measure(pair.flip()) == pytest.approx(measure(pair))
        assert measure(Pair.of(x_na, x_na)) == pytest.approx(1)


def test_without_samples_with_few_and_of_constant_nets_they_are_absent():
    x_na, x_nb, _ = planted(80, 4, 5, 1.0)
    pair = Pair.of(x_na, x_nb)
    (fit, held), *_ = pair.folds(2)
    nothing = (pair.of_moments(pair.moments), fit, held, Pair.of(x_na[:2], x_nb[:2]), Pair.of(x_na, 0 * x_nb))
    assert all(measure(of) is None for measure in OF_SAMPLES.values() for of in nothing)
    assert neighbours(Pair.of(x_na[:10], x_nb[:10])) is None


def test_of_many_samples_a_seeded_part_is_taken():
    x_nu = torch.arange(MOST + 100.0)[:, None]
    one, other = sampled(Pair.of(x_nu, 2 * x_nu))
    assert len(one) == MOST == len(one.unique())
    assert torch.equal(2 * one, other)


def test_a_pass_keeps_the_same_pooled_activations_of_some_images_in_any_order(tmp_path):
    nets, x = (
        {name: nn.Sequential(nn.Conv2d(1, units, 3)) for name, units in (("a", 3), ("b", 4))},
        torch.randn(40, 1, 5, 5),
    )
    saved, order = SavedSamples(15), torch.randperm(40)
    start = saved.start(["0"], Reading(), None)
    numbered = [[(x[some], torch.zeros(len(some)), some) for some in of.split(7)] for of in (torch.arange(40), order)]
    first, second = (collect(nets, loader, [start], Reading())[0]["0"] for loader in numbered)
    with torch.no_grad():
        pooled = {name: net(x).mean((2, 3)) for name, net in nets.items()}
    chosen = torch.randperm(40, generator=torch.Generator().manual_seed(0))[:15].sort().values
    for name in nets:
        assert torch.allclose(first[name], pooled[name][chosen], atol=1e-6)
        assert torch.allclose(first[name], second[name], atol=1e-6)
    saved.save(first, tmp_path / "0")
    assert torch.equal(saved.load(tmp_path / "0", "0", ["a", "b"])["b"], first["b"])
    assert [name for name, of in (MEASURES | OF_SAMPLES).items() if needs_samples(of)] == list(OF_SAMPLES)
