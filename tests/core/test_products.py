"""Backends of the matrix products agree, and the choice falls back."""

import pytest
import torch

from convergent.core import products
from convergent.core.products import chosen, onednn, portable
from convergent.errors import InputError

CPU = torch.device("cpu")


@pytest.mark.skipif(not products._works(), reason="this torch has no oneDNN product")
@pytest.mark.parametrize(("i", "j", "s"), [(1, 1, 1), (64, 192, 4096), (3, 70, 999), (128, 512, 3025)])
def test_backends_agree(i, j, s):
    a_is, b_js = torch.randn(i, s), torch.randn(j, s)
    exact = a_is.double() @ b_js.double().T
    for product in (portable, onednn):
        assert (product(a_is, b_js) - exact).abs().max() < 1e-5 * s**0.5 * 5
    wide = torch.randn(j, 2 * s)
    assert torch.equal(onednn(a_is, wide[:, :s]), portable(a_is, wide[:, :s]))  # rows with gaps


def test_only_float32_on_a_processor_is_not_left_to_torch():
    assert chosen("auto", CPU, torch.float64) is portable
    assert chosen("onednn", torch.device("cuda"), torch.float32) is portable
    assert chosen("portable", CPU, torch.float32) is portable
    assert chosen("auto", CPU, torch.float32) in (portable, onednn)


def test_a_torch_without_the_operator_falls_back(monkeypatch):
    monkeypatch.setattr(products, "onednn", lambda *_: torch.ops.mkldnn.no_such_operator())
    products._works.cache_clear()
    products._faster.cache_clear()
    try:
        assert chosen("auto", CPU, torch.float32) is portable
        with pytest.raises(InputError, match="has no oneDNN product"):
            chosen("onednn", CPU, torch.float32)
    finally:
        products._works.cache_clear()
        products._faster.cache_clear()


def test_an_unknown_backend_is_reported():
    with pytest.raises(InputError, match="auto, portable, onednn or tf32, not 'fast'"):
        chosen("fast", CPU, torch.float32)


def test_trying_what_is_fastest_leaves_the_callers_random_numbers_alone():
    for cached in (products._works, products._faster):
        cached.cache_clear()
    before = torch.get_rng_state()
    chosen("auto", CPU, torch.float32)
    assert torch.equal(torch.get_rng_state(), before)
