"""Symmetric matrices as triangles."""

import pytest
import torch

from convergent.core.triangles import length_of, mirrored, unfolded


@pytest.mark.parametrize("units", [1, 2, 37, 600, 1100])
def test_a_triangle_is_half_and_makes_the_matrix_again_whatever_lay_below(units):
    s_kuu = torch.randn(2, units, units, dtype=torch.float64)
    s_kuu = s_kuu + s_kuu.mT
    s_kt = s_kuu[:, *torch.triu_indices(units, units)]
    assert s_kt.shape[1] == length_of(units) == units * (units + 1) // 2
    into_kuu = torch.full_like(s_kuu, torch.nan)
    unfolded(s_kt, into_kuu)
    assert torch.equal(mirrored(into_kuu), s_kuu)
