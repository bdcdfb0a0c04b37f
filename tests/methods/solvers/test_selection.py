import torch

from convergent.core.pairs import Pair
from convergent.methods.solvers.selection import forward_selection, selected_weights


def test_it_takes_the_unit_that_helps_most_beside_those_before_it():
    x_na = (torch.randn(300, 3) @ torch.randn(3, 8) + torch.randn(300, 8)).double()
    x_nb = (x_na @ torch.randn(8, 4).double() + torch.randn(300, 4)).double()
    pair = Pair.of(x_na, x_nb)
    chosen_mb = forward_selection(pair.corr_aa, pair.corr_ab, 4)
    for b in range(4):
        before: list[int] = []
        for chosen in chosen_mb[:, b].tolist():
            gains = {}
            for unit in set(range(8)) - set(before):
                units = torch.tensor([*before, unit])
                gram, right = pair.corr_aa[units[:, None], units], pair.corr_ab[units, b]
                gains[unit] = (right @ torch.linalg.solve(gram, right)).item()
            assert chosen == max(gains, key=gains.get)
            before.append(chosen)


def test_copies_and_constant_units_are_never_taken():
    x_na = torch.randn(200, 3).double()
    x_na = torch.cat([x_na, x_na, torch.ones(200, 1).double()], 1)
    pair = Pair.of(x_na, x_na[:, :3].sum(1, keepdim=True))
    chosen = forward_selection(pair.corr_aa, pair.corr_ab, 7)[:, 0]
    assert sorted(unit % 3 for unit in chosen[:3].tolist()) == [0, 1, 2]
    assert (chosen[3:] == -1).all()
    _, weight_mib = selected_weights(pair.corr_aa, pair.corr_ab, 5)
    assert (weight_mib != 0).sum((1, 2)).tolist() == [1, 2, 3, 3, 3]


def test_one_unit_is_the_best_scaled_by_its_r():
    pair = Pair.of(torch.randn(100, 5), torch.randn(100, 4))
    chosen_ib, weight_mib = selected_weights(pair.corr_aa, pair.corr_ab)
    best = pair.corr_ab.abs().max(0).indices
    assert torch.equal(chosen_ib[0], best)
    assert torch.allclose(weight_mib[0, 0], pair.corr_ab[best, torch.arange(4)])
    assert (weight_mib[0, 1:] == 0).all()
