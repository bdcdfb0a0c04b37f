"""Moments on disk."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from convergent.core.layer_moments import LayerMoments
from convergent.core.moments import Moments
from convergent.storage.tensors import opened, save_tensors
from convergent.streaming.measure import measure
from convergent.streaming.saved_moments import SavedMoments, tensors_of

NAMES = ["a", "b", "c"]


@pytest.fixture
def layer():
    nets = {name: nn.Sequential(nn.Linear(5, units)) for name, units in zip(NAMES, (7, 4, 1))}
    return measure(nets, [torch.randn(60, 5)], ["0"])["0"]


def test_products_within_a_net_are_saved_as_triangles_and_read_back_with_the_same_bits(layer, tmp_path):
    SavedMoments().save(layer, tmp_path / "0.safetensors")
    with opened(tmp_path / "0.safetensors") as saved:
        k = len(layer.count_k)
        assert saved.get_tensor("scatter_kab 0 0").shape == (k, 28)
        assert saved.get_tensor("scatter_kab 0 1").shape == (k, 7, 4)
    there = SavedMoments().load(tmp_path / "0.safetensors", "0", NAMES)
    for nets in (None, ["b", "a"], ["c"]):
        ours, theirs = layer.moments(nets), there.moments(nets)
        assert torch.equal(ours.scatter_uu, theirs.scatter_uu)
        assert torch.equal(ours.scatter_uu, ours.scatter_uu.mT)


def test_moments_that_an_earlier_version_saved_as_whole_matrices_are_read(layer, tmp_path):
    joint = layer.moments()
    whole = {(i, j): joint.scatter_uu[:, layer.units[i], layer.units[j]] for i, j in layer.scatter}
    tensors, about = tensors_of(layer)
    before = {f"scatter_kab {i} {j}": s_kab for (i, j), s_kab in whole.items()}
    save_tensors(tensors | before, tmp_path / "0.safetensors", about)
    there = SavedMoments().load(tmp_path / "0.safetensors", "0", NAMES)
    assert torch.equal(there.moments().scatter_uu, joint.scatter_uu)


def test_of_one_net_there_may_be_squares_only(layer):
    squares = {(i, i): layer.moments([i]).scatter_uu.diagonal(dim1=1, dim2=2) for i in range(3)}
    alone = replace(layer, scatter={**layer.scatter, **squares}).moments(["a", "b"])
    assert alone.scatter_uu[:, :7, :7].isnan().sum() == len(layer.count_k) * 42
    assert torch.equal(alone.sd_u, layer.moments(["a", "b"]).sd_u)


@pytest.mark.parametrize("mean", [0.0, 1e6])
def test_which_units_are_active_is_known_from_squares_alone_however_products_are_kept(tmp_path, mean):
    x_nu = torch.randn(90, 6) + mean
    x_nu[:, 1] = 3.0  # constant
    x_nu[:30, 2] = 5.0  # in one block only
    nets = {name: nn.Sequential(nn.Identity()) for name in NAMES}
    layer = measure(nets, [x_nu], ["0"])["0"]
    SavedMoments().save(layer, tmp_path / "0.safetensors")
    squares = {(i, i): layer.moments([i]).scatter_uu.diagonal(dim1=1, dim2=2) for i in range(3)}
    whole = {(i, i): layer.moments([i]).scatter_uu for i in range(3)}
    for of in (
        layer,
        replace(layer, scatter={**layer.scatter, **squares}),
        replace(layer, scatter={**layer.scatter, **whole}),
        SavedMoments().load(tmp_path / "0.safetensors", "0", NAMES),
    ):
        assert of.active("b").tolist() == of.moments(["b"]).total.active_u.tolist()
        assert of.active("b").tolist() == [True, False, True, True, True, True]


def test_what_is_saved_is_written_without_a_second_copy_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("convergent.storage.tensors._AT_ONCE", 1 << 16)
    largest, crc32 = [], __import__("zlib").crc32
    monkeypatch.setattr("zlib.crc32", lambda of, crc=0: largest.append(len(of)) or crc32(of, crc))
    x_nu = torch.randn(300, 256, dtype=torch.float64)
    joint = Moments.stack([Moments.of(x_nu[:150]), Moments.of(x_nu[150:])])
    units = [slice(0, 156), slice(156, 256)]
    scatter = {(i, j): joint.scatter_uu[:, units[i], units[j]] for i in range(2) for j in range(i, 2)}
    of_layer = LayerMoments("0", ["a", "b"], units, joint.count, joint.mean_u, scatter, 300)
    SavedMoments().save(of_layer, tmp_path / "0.safetensors")
    assert len(largest) > 8
    assert max(largest) <= 1 << 16
    assert torch.equal(
        SavedMoments().load(tmp_path / "0.safetensors", "0", "ab").moments().scatter_uu, joint.scatter_uu
    )
