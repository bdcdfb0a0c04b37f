"""Laws of what is asked of more than two nets at once."""

from dataclasses import replace
from itertools import combinations, permutations, product

import pytest
import torch

from convergent.analysis.consensus import consensus, cycle_consistency, matchings
from convergent.analysis.partners import mutual_best, reliability
from convergent.analysis.several import SeveralNets
from convergent.core.layer_moments import LayerMoments
from convergent.core.moments import Moments
from convergent.errors import InputError
from convergent.methods.matching import Matching
from convergent.methods.semimatching import SemiMatching


def layer_of(*x):
    """The measured layer of nets with these activations, each (samples, units)."""
    moments, ends = Moments.of(torch.cat(x, 1)), torch.tensor([x_nu.shape[1] for x_nu in x]).cumsum(0).tolist()
    units = [slice(end - x_nu.shape[1], end) for end, x_nu in zip(ends, x)]
    pairs = [(i, j) for i in range(len(x)) for j in range(i, len(x))]
    scatter = {(i, j): moments.scatter_uu[units[i], units[j]][None] for i, j in pairs}
    return LayerMoments("conv1", "abcdefgh"[: len(x)], units, moments.count[None], moments.mean_u[None], scatter, 1)


def drawn(widths, samples, noise, seed=0):
    """Activations of nets that share features, each in its own order and with its own noise, and the orders."""
    chance = torch.Generator().manual_seed(seed)
    shared = torch.randn(samples, max(widths), generator=chance).double()
    order = [torch.randperm(max(widths), generator=chance)[:width] for width in widths]
    return [shared[:, o] + noise * torch.randn(samples, len(o), generator=chance) for o in order], order


def nets_of(widths=(12, 12, 12, 12), samples=30, noise=2.0, seed=0):
    """Correlations among few samples: every matching is contested."""
    return SeveralNets.of(layer_of(*drawn(widths, samples, noise, seed)[0]))


def relabelled(nets, order):
    """The same nets with the units of each in another order."""
    corr = {(i, j): corr_uv[order[i]][:, order[j]] for (i, j), corr_uv in nets.corr.items()}
    return replace(nets, corr=corr, active=[active_u[o] for active_u, o in zip(nets.active, order)])


def groups(record, order=None):
    """The groups as a set; `order` says which nets the columns are, to put them back."""
    units_gk = record.units_gk if order is None else record.units_gk[:, torch.tensor(order).argsort()]
    return {tuple(row) for row in units_gk.tolist()}


def summed(nets, units_gk):
    pairs = combinations(range(nets.k), 2)
    return sum(nets.corr_between(i, j)[units_gk[:, i], units_gk[:, j]].sum().item() for i, j in pairs)


def test_a_layer_becomes_the_correlations_of_its_pairs_in_either_order():
    layer = layer_of(*drawn((5, 7, 6), 50, 1.0)[0])
    nets = SeveralNets.of(layer)
    assert torch.equal(nets.corr_between(0, 2), layer.pair(0, 2).corr_ab)
    assert torch.equal(nets.corr_between(2, 0), layer.pair("a", "c").corr_ab.T)
    assert torch.equal(nets.select([2, 1]).corr_between(0, 1), nets.corr_between(2, 1))
    assert torch.equal(SeveralNets.of(layer, absolute=True).corr[0, 1], nets.corr[0, 1].abs())


def test_fewer_than_two_nets_missing_pairs_and_unusable_numbers_are_refused():
    nets = nets_of((4, 4, 4))
    with pytest.raises(InputError, match=r"at least 2 nets .* not 1 nets with 1 masks"):
        nets.select([0])
    with pytest.raises(InputError, match="but a with c is missing; measure all pairs"):
        replace(nets, corr={ij: corr for ij, corr in nets.corr.items() if ij != (0, 2)})
    with pytest.raises(InputError, match=r"b with c need shape \(4, 4\) and finite numbers, not shape \(3, 4\)"):
        replace(nets, corr=nets.corr | {(1, 2): nets.corr[1, 2][:3]})
    with pytest.raises(InputError, match="or NaN"):
        replace(nets, corr=nets.corr | {(1, 2): nets.corr[1, 2] * torch.nan})
    layer = layer_of(*drawn((4, 4, 4), 20, 1.0)[0])
    with pytest.raises(InputError, match="no moments of a with b"):
        SeveralNets.of(replace(layer, scatter={ij: s for ij, s in layer.scatter.items() if ij != (0, 1)}))
    with pytest.raises(InputError, match="at least 3 nets, not 2"):
        cycle_consistency(nets.select([0, 1]))
    with pytest.raises(InputError, match=r"\(1, 0\) has none or NaN"):
        reliability(nets.select([0, 1]), {(0, 1): 0.5})


def test_reliability_counts_by_brute_force_with_a_threshold_per_ordered_pair():
    nets = nets_of((9, 12, 7, 10))
    least = {ij: 0.3 + 0.05 * n for n, ij in enumerate(permutations(range(4), 2))}
    counts = reliability(nets, least)
    for i in range(4):
        brute = [
            sum(max(nets.corr_between(i, j)[u].tolist()) > least[i, j] for j in range(4) if j != i)
            for u in range(len(nets.active[i]))
        ]
        assert counts.count[i].tolist() == brute
        assert counts.share_im[i].tolist() == pytest.approx([brute.count(m) / len(brute) for m in range(4)])
    assert counts.share_m[1:3].min() > 0  # the thresholds lie where units differ
    assert torch.equal(counts.share_m, counts.share_im.mean(0))
    assert reliability(nets, -1.1).share_m.tolist() == [0, 0, 0, 1]
    top = max(nets.corr[0, 1].max().item(), 0.0)
    assert reliability(nets.select([0, 1]), top).share_m.tolist() == [1, 0]  # exceeds: not equals


def test_planted_reliable_units_are_counted_and_no_others():
    x, order = drawn((20, 20, 20), 4000, 0.3)
    for x_nu, o in zip(x, order):
        x_nu[:, o >= 15] = torch.randn(4000, 5).double()  # five features that every net has to itself
    counts = reliability(SeveralNets.of(layer_of(*x)), 0.5)
    assert counts.share_m.tolist() == pytest.approx([0.25, 0, 0.75])
    assert all(torch.equal(count == 2, o < 15) for count, o in zip(counts.count, order))


def test_mutual_best_partners_by_brute_force():
    nets = nets_of((9, 12, 7, 10), noise=1.0, seed=2)
    best = mutual_best(nets)
    for i, j in permutations(range(4), 2):
        corr = nets.corr_between(i, j)
        for u, v in product(range(corr.shape[0]), range(corr.shape[1])):
            mutual = bool(corr[u, v] == corr[u].max() == corr[:, v].max())
            assert (best.partner[i, j][u] == v) == mutual
        assert best.share_ij[i, j] == (best.partner[i, j] >= 0).double().mean()
    for i in range(4):
        partners = torch.stack([best.partner[i, j] >= 0 for j in range(4) if j != i])
        assert torch.equal(best.counts.count[i], partners.sum(0))
    brute = {
        group
        for group in product(*(range(len(active_u)) for active_u in nets.active))
        if all(best.partner[i, j][group[i]] == group[j] for i, j in combinations(range(4), 2))
    }
    assert brute == {tuple(group) for group in best.cliques_gk.tolist()}
    assert len(brute) == 2
    assert best.clique_share_i.tolist() == pytest.approx([2 / 9, 2 / 12, 2 / 7, 2 / 10])
    assert (best.counts.share_im[:, 3] > best.clique_share_i + 0.01).all()  # partners everywhere need not agree


@pytest.mark.parametrize("k", [2, 3, 5])
def test_planted_common_permutations_are_recovered_exactly_and_proved(k):
    x, order = drawn((60,) * k, 1500, 0.7)
    nets = SeveralNets.of(layer_of(*x))
    record = consensus(nets)
    feature_gk = torch.stack([o[record.units_gk[:, i]] for i, o in enumerate(order)], 1)
    assert (feature_gk == feature_gk[:, :1]).all()
    assert sorted(feature_gk[:, 0].tolist()) == list(range(60))
    assert abs(record.gap) < 1e-8
    assert groups(record) == {tuple(group) for group in mutual_best(nets).cliques_gk.tolist()}
    if k > 2:
        assert cycle_consistency(nets).mean == 1


@pytest.mark.parametrize("shape", [(9, 9), (6, 11), (11, 6)])
def test_two_nets_give_the_matching_and_its_best_partners_the_semi_matching(shape):
    layer = layer_of(*drawn(shape, 30, 2.0)[0])
    nets, matching = SeveralNets.of(layer), Matching()(layer.pair(0, 1))
    record, partner_b = consensus(nets), matching.partner_b
    assert torch.equal(matchings(nets)[1, 0], partner_b)
    assert groups(record) == {(a, b) for b, a in enumerate(partner_b.tolist()) if a >= 0}
    assert record.value == pytest.approx(matching.map_ab.sum().item(), abs=1e-12)
    assert abs(record.gap) < 1e-12
    assert torch.equal(nets.best(1, 0)[0], SemiMatching()(layer.pair(0, 1)).partner_b)


@pytest.mark.parametrize("widths", [(12, 12, 12), (12, 9, 15, 10), (8, 8, 8, 8, 8)])
def test_the_record_of_a_consensus_hangs_together(widths):
    nets = nets_of(widths)
    record = consensus(nets)
    assert record.units_gk.shape == (min(widths), len(widths))
    for i, width in enumerate(widths):
        assert len(set(record.units_gk[:, i].tolist())) == min(widths)
        assert (record.group[i] == -1).sum() == width - min(widths)
        assert torch.equal(record.group[i][record.units_gk[:, i]], torch.arange(min(widths)))
    pairs = len(widths) * (len(widths) - 1) / 2
    assert record.value == pytest.approx(summed(nets, record.units_gk))
    assert record.corr_g[0].item() == pytest.approx(summed(nets, record.units_gk[:1]) / pairs)
    assert (record.corr_g.diff() <= 0).all()
    assert record.value < record.bound  # contested: no matching of all nets reaches every pair's own optimum


def test_the_bound_holds_for_unequal_widths_and_negative_correlations():
    nets = nets_of((3, 4, 5))
    nets = replace(nets, corr={ij: corr - 1 for ij, corr in nets.corr.items()})  # more pairs would only cost
    best = {}
    for i, j in combinations(range(3), 2):
        corr = nets.corr[i, j]
        rows, columns = (permutations(range(n), 3) for n in corr.shape)
        rows = [row for row in rows if list(row) == sorted(row)]
        best[i, j] = max(corr[list(r), list(c)].sum().item() for r, c in product(rows, list(columns)))
    record = consensus(nets)
    assert record.bound == pytest.approx(sum(best.values()), abs=1e-12)
    assert record.value <= record.bound + 1e-12


def test_brute_force_agrees_nearly_always_and_the_gap_is_small():
    every = torch.tensor(list(permutations(range(4))))
    second, third = (part.reshape(-1, 4) for part in torch.broadcast_tensors(every[:, None], every[None]))
    optimal, lost = [], []
    for seed in range(150):
        nets = SeveralNets.of(layer_of(*torch.randn(3, 10, 4, generator=torch.Generator().manual_seed(seed)).double()))
        first = torch.arange(4).expand_as(second)
        value = nets.corr[0, 1][first, second] + nets.corr[0, 2][first, third] + nets.corr[1, 2][second, third]
        best, matched = value.sum(1).max().item(), consensus(nets).value
        assert matched <= best + 1e-9
        optimal.append(matched > best - 1e-9)
        lost.append((best - matched) / best)
    assert sum(optimal) / 150 >= 0.97
    assert max(lost) < 0.05


@pytest.mark.parametrize("widths", [(20, 20, 20, 20), (14, 9, 20, 10), (8, 8, 8, 8, 8)])
def test_the_order_of_nets_changes_nothing(widths):
    nets = nets_of(widths)
    record, cycles, mutual = consensus(nets), cycle_consistency(nets), mutual_best(nets)
    for order in list(permutations(range(len(widths))))[1 :: len(widths) ** 2 - 5]:
        other = nets.select(order)
        assert groups(consensus(other), order) == groups(record)
        assert consensus(other).value == pytest.approx(record.value, abs=1e-9)
        assert cycle_consistency(other).mean == pytest.approx(cycles.mean, abs=1e-12)
        assert torch.equal(mutual_best(other).share_ij, mutual.share_ij[list(order)][:, list(order)])
        assert torch.equal(reliability(other, 0.5).share_im, reliability(nets, 0.5).share_im[list(order)])


def test_relabelled_units_are_relabelled_in_every_result():
    nets = nets_of((14, 9, 20, 10))
    order = [torch.randperm(len(active_u)) for active_u in nets.active]
    other = relabelled(nets, order)
    record, moved = consensus(nets), consensus(other)
    back_gk = torch.stack([o[moved.units_gk[:, i]] for i, o in enumerate(order)], 1)
    assert torch.equal(back_gk, record.units_gk)
    assert cycle_consistency(other).mean == pytest.approx(cycle_consistency(nets).mean)
    assert 0 < cycle_consistency(nets).mean < 1
    for measure in (lambda n: reliability(n, 0.5), lambda n: mutual_best(n).counts):
        for count, o, moved_count in zip(measure(nets).count, order, measure(other).count):
            assert torch.equal(count[o], moved_count)


def test_constant_units_never_appear_and_count_nowhere():
    x, _ = drawn((10, 10, 10), 30, 2.0)
    constant = [[3], [0, 9], []]
    for x_nu, units in zip(x, constant):
        x_nu[:, units] = 1.5
    nets = SeveralNets.of(layer_of(*x))
    # as if the numbers of constant units were tempting: the mask alone decides
    corr = {ij: c.clone() for ij, c in nets.corr.items()}
    for (i, j), corr_uv in corr.items():
        corr_uv[constant[i]], corr_uv[:, constant[j]] = 1.0, 1.0
    nets = replace(nets, corr=corr)
    without = [torch.tensor([u for u in range(10) if u not in units]) for units in constant]
    small = relabelled(nets, without)
    record, expected = consensus(nets), consensus(small)
    assert groups(record) == {tuple(o[u].item() for o, u in zip(without, g)) for g in groups(expected)}
    assert len(record.units_gk) == 8
    assert cycle_consistency(nets).share_t == cycle_consistency(small).share_t
    assert cycle_consistency(nets).chance == pytest.approx(1 / 10)
    assert torch.equal(mutual_best(nets).share_ij, mutual_best(small).share_ij)
    assert torch.equal(reliability(nets, 0.4).share_im, reliability(small, 0.4).share_im)
    for partners in (reliability(nets, -1.1), mutual_best(nets).counts):
        assert [(count == -1).nonzero()[:, 0].tolist() for count in partners.count] == constant


def test_a_net_without_active_units_has_no_partner_and_no_group():
    nets = nets_of((6, 6, 6))
    nets = replace(nets, active=[nets.active[0], torch.zeros(6).bool(), nets.active[2]])
    assert reliability(nets, -1.1).share_im.tolist() == [[0, 1, 0], [0, 0, 0], [0, 1, 0]]
    assert mutual_best(nets).share_ij[:, 1].tolist() == [0, 1, 0]
    assert consensus(nets).units_gk.shape == (0, 3)
    assert cycle_consistency(nets).mean == 0


def test_matchings_of_unequal_widths_are_each_others_inverse():
    nets = nets_of((9, 12, 7))
    partner = matchings(nets)
    for i, j in permutations(range(3), 2):
        u = (partner[i, j] >= 0).nonzero()[:, 0]
        assert len(u) == min(len(nets.active[i]), len(nets.active[j]))
        assert torch.equal(partner[j, i][partner[i, j][u]], u)


def test_cycles_by_brute_force_come_home():
    nets = nets_of((9, 12, 7, 10))
    partner, cycles = matchings(nets), cycle_consistency(nets)
    assert cycles.triples == ((0, 1, 2), (0, 1, 3), (0, 2, 3), (1, 2, 3))
    for (i, j, k), share in zip(cycles.triples, cycles.share_t.tolist()):
        for start, over, end in permutations((i, j, k)):
            home = 0
            for u in range(len(nets.active[start])):
                v = partner[start, over][u]
                w = partner[over, end][v] if v >= 0 else -1
                home += bool(w >= 0 and partner[end, start][w] == u)
            assert share == pytest.approx(home / min(len(nets.active[net]) for net in (i, j, k)))
    assert cycles.mean == pytest.approx(sum(cycles.share_t.tolist()) / 4)
    assert cycles.mean > 0


@pytest.mark.parametrize("widths", [(20, 20, 20, 20), (15, 20, 25)])
def test_independent_noise_gives_cycle_consistency_near_chance(widths):
    mean, chance = [], 0.0
    for seed in range(60):
        torch.manual_seed(seed)
        corr = {(i, j): torch.randn(widths[i], widths[j]) for i, j in combinations(range(len(widths)), 2)}
        nets = SeveralNets("abcd"[: len(widths)], corr, [torch.ones(width).bool() for width in widths])
        cycles = cycle_consistency(nets)
        mean.append(cycles.mean)
        chance = cycles.chance
    mean = torch.tensor(mean)
    assert chance == pytest.approx(1 / max(widths))
    assert abs(mean.mean() - chance) < 4 * mean.std() / 60**0.5
    assert mean.std() > 0
