"""The energies of samples: what they are by definition, whatever blocks, passes and files they went through."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from conftest import planted
from convergent.analysis.intervals import jackknife
from convergent.core.pairs import Pair
from convergent.streaming.measure import measure
from convergent.streaming.reading import Reading
from convergent.streaming.saved_moments import SavedMoments


def by_definition(*x):
    """Sums over samples of |x - mean|^2 of each net, and of their products."""
    energy_ni = torch.stack([(of.double() - of.double().mean(0)).square().sum(1) for of in x], 1)
    return energy_ni.sum(0), energy_ni.T @ energy_ni


def agree(pair, *x):
    for there, wanted in zip(pair.energy_products, by_definition(*x)):
        torch.testing.assert_close(there, wanted, rtol=1e-10, atol=0)


def test_they_are_those_of_the_samples_however_blocks_are_weighted():
    x_na, x_nb, _ = planted(300, 4, 7, 1.0)
    x_nb, image_n = x_nb + 30, torch.arange(300) // 5
    pair = Pair.of(x_na, x_nb, image_n, blocks=6)
    agree(pair, x_na, x_nb)
    agree(pair.flip(), x_nb, x_na)
    block_n = pair.joint.block_n
    agree(pair.weighted((torch.arange(6) != 2).double()), x_na[block_n != 2], x_nb[block_n != 2])
    for fold, (fit, held) in enumerate(pair.folds(3)):
        of_fit = block_n % 3 != fold
        agree(fit, x_na[of_fit], x_nb[of_fit])
        assert held.energies is None
    without = jackknife(lambda rest: rest.energy_products[1][0, 1], pair)
    values = torch.stack([by_definition(x_na[block_n != k], x_nb[block_n != k])[1][0, 1] for k in range(6)])
    assert without.se.item() == pytest.approx(
        ((5 / 6) * (values - values.mean()).square().sum()).sqrt().item(), rel=1e-9
    )


def nets(positions):
    def net(units):
        return nn.Conv2d(1, units, 3) if positions else nn.Sequential(nn.Flatten(), nn.Linear(16, units))

    return {name: net(units).double() for name, units in {"a": 3, "b": 5, "c": 2}.items()}


@pytest.mark.parametrize("positions", [True, False])
def test_a_pass_collects_them_and_files_keep_them(tmp_path, positions):
    of_nets, x = nets(positions), torch.randn(40, 1, 4, 4).double() * 3 + 1
    layer = "" if positions else "1"
    wrapped = {name: nn.Sequential(net) for name, net in of_nets.items()} if positions else of_nets
    moments = measure(wrapped, x.split(7), ["0" if positions else layer], Reading(blocks=5))[
        "0" if positions else layer
    ]
    with torch.no_grad():
        activation = {
            name: net(x).flatten(2).movedim(1, -1).flatten(0, 1) if positions else net(x)
            for name, net in of_nets.items()
        }
    agree(moments.pair("a", "c"), activation["a"], activation["c"])
    agree(moments.pair("c", "b"), activation["c"], activation["b"])
    SavedMoments().save(moments, tmp_path / "layer.safetensors")
    loaded = SavedMoments().load(tmp_path / "layer.safetensors", "layer", ["a", "b", "c"])
    assert torch.equal(loaded.energies.with_units_kiu, moments.energies.with_units_kiu)
    agree(loaded.pair("a", "b"), activation["a"], activation["b"])


def test_nothing_else_sees_them_and_old_files_lack_them(tmp_path):
    of_nets, x = nets(positions=False), torch.randn(40, 1, 4, 4).double()
    there, lacking = (measure(of_nets, [x], ["1"], Reading(blocks=5, energies=on))["1"] for on in (True, False))
    assert lacking.energies is lacking.pair("a", "b").energies is lacking.pair("a", "b").energy_products is None
    assert torch.equal(there.mean_ku, lacking.mean_ku)
    assert all(torch.equal(there.scatter[ij], lacking.scatter[ij]) for ij in lacking.scatter)
    for moments in (lacking, replace(there, energies=None)):
        SavedMoments().save(moments, tmp_path / "layer.safetensors")
        assert SavedMoments().load(tmp_path / "layer.safetensors", "1", list("abc")).energies is None


def test_activations_beyond_the_range_of_their_squares_have_none():
    x_na, x_nb, _ = planted(50, 3, 3, 1.0)
    assert Pair.of(x_na * 1e160, x_nb).energies is None
