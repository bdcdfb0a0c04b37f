"""Encoders of sparse autoencoders."""

import pytest
import torch

from convergent.nets.encoders import SparseEncoder


@pytest.mark.parametrize("shape", [(5, 8), (5, 7, 8), (5, 8, 3, 4)], ids=["vectors", "tokens", "pictures"])
def test_features_are_those_of_every_position(shape):
    encoder, x = SparseEncoder(8, 40), torch.randn(shape)
    torch.nn.init.normal_(encoder.b_enc)
    torch.nn.init.normal_(encoder.b_dec)
    x_i = x.movedim(1, -1) if len(shape) == 4 else x
    expected = torch.relu(torch.nn.functional.linear(x_i - encoder.b_dec, encoder.W_enc.T, encoder.b_enc))
    z = encoder(x)
    assert torch.allclose(z.movedim(1, -1) if len(shape) == 4 else z, expected, atol=1e-6)
    assert z.shape == (5, 40, 3, 4) if len(shape) == 4 else z.shape == (*shape[:-1], 40)


def test_of_the_features_only_the_largest_are_active():
    encoder = SparseEncoder(8, 40, active=3)
    x = torch.randn(50, 8)
    every, few = torch.relu((x - encoder.b_dec) @ encoder.W_enc + encoder.b_enc), encoder(x)
    assert ((few > 0).sum(1) == 3).all()
    assert torch.equal(few.sort(1).values[:, -3:], every.sort(1).values[:, -3:])
    assert ((few == 0) | (few == every)).all()
