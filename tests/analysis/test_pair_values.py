"""What a pair gives whatever the method comes back from JSON to the last bit."""

import json

import torch

from convergent.analysis.nulls import rotated
from convergent.analysis.pair_values import PairValues
from convergent.core.pairs import Pair


def pair_of(seed=0):
    torch.manual_seed(seed)
    x_na = torch.randn(80, 5)
    x_nb = torch.cat([x_na[:, :3] + torch.randn(80, 3), torch.ones(80, 1)], 1)
    return Pair.of(x_na, x_nb, blocks=8)


def test_they_come_back_from_json_to_the_last_bit():
    pair, nulls = pair_of(), {"rotated": [pair_of(1)], "rotated_after": [rotated(pair_of())]}
    made = PairValues.of(pair, nulls, [pair_of(2)], {"cka": 0.1 + 0.2}, intervals=True)
    again = PairValues.of_json(json.loads(json.dumps(made.as_json())))
    assert again.similarity == made.similarity
    for one, two in zip((again.excess_b, again.excess_after_b), (made.excess_b, made.excess_after_b)):
        assert one.any()
        assert torch.equal(one, two)
    assert torch.equal(again.left_out.share_k, made.left_out.share_k)
    assert torch.equal(again.left_out.above_kb, made.left_out.above_kb)
    assert made.left_out.excess.se > 0
    for name in ("estimate", "se", "low", "high", "level"):
        assert getattr(again.left_out.excess, name) == getattr(made.left_out.excess, name)


def test_without_rotations_and_intervals_there_are_measures_alone():
    made = PairValues.of(pair_of(), {}, (), {"cka": 0.5})
    again = PairValues.of_json(json.loads(json.dumps(made.as_json())))
    assert again.similarity == {"cka": 0.5}
    assert (again.excess_b, again.excess_after_b, again.left_out) == (None, None, None)
