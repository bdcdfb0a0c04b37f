"""Rates where the truth is known: what is called above chance is so at its level, and what is there is found."""

import json

import pytest
import torch

from convergent.analysis import nulls
from convergent.analysis.across import beside, beside_rotated, found_in_rotated, scalars_of
from convergent.errors import InputError
from simulations.chance import PAGE, RATES, SIMULATIONS, table_of_several, table_of_two
from simulations.rates import above, several, together
from simulations.truths import FIRING, LIMITS, NOTHING, PLANTED, Truth

# docs/chance.md has all rows, with more samples, units and repetitions.
SOME = [
    truth
    for truth in NOTHING
    if (truth.nonlinearity == "ReLU" and truth.firing in ("50%", "7%") and "noise" not in truth.name)
    or (truth.nonlinearity != "ReLU" and truth.name.startswith("8"))
    or (truth.firing == list(FIRING)[-1] and truth.name.startswith("8 dimensions shared"))
]


def named(truth):
    return f"{truth.name}, {truth.firing}, {truth.nonlinearity}"


def shares(truth, repetitions=20, **size):
    """Share of units above the threshold of each null."""
    of_seeds = [
        above(truth, seed, draws=2, **({"samples": 1000, "units": 40} | size)).above for seed in range(repetitions)
    ]
    return {null: torch.stack([one[null] for one in of_seeds]).double().mean().item() for null in of_seeds[0]}


@pytest.mark.parametrize("truth", SOME, ids=named)
def test_where_nothing_of_the_axes_is_shared_one_in_twenty_units_is_above_a_rotation_before_the_nonlinearity(truth):
    share = shares(truth)
    assert 0.03 <= share["before"] <= 0.1
    assert 0.03 <= share["shared"] <= 0.1
    if truth.nonlinearity in ("ReLU", "GELU", "SwiGLU") and (truth.name != "independent units" or truth.firing == "7%"):
        assert share["after"] > 0.12  # the literature's null


@pytest.mark.parametrize("truth", [t for t in LIMITS if t.name.startswith("8 dimensions")][::3], ids=named)
def test_units_that_differ_in_how_much_they_share_need_the_rotation_of_what_is_shared(truth):
    share = shares(truth, samples=2000)
    assert share["before"] > 0.1
    assert 0.03 <= share["shared"] <= 0.1


def test_beside_units_that_are_there_in_both_nets_the_others_hold_their_level():
    repetitions = [above(LIMITS[-2], seed, samples=2000, units=48, draws=4).above["shared"] for seed in range(20)]
    common, others = torch.stack(repetitions).double().mean(0).chunk(2)
    assert common.mean() > 0.95
    assert 0.03 <= others.mean() <= 0.1


@pytest.mark.parametrize("truth", PLANTED, ids=named)
def test_planted_units_are_above_a_rotation_before_the_nonlinearity(truth):
    assert min(shares(truth, 5, samples=5000, units=32).values()) > 0.95


@pytest.mark.parametrize("truth", [NOTHING[0], NOTHING[4], NOTHING[6]], ids=named)
def test_scalars_of_several_nets_lie_among_those_of_the_nets_rotated_where_no_axes_are_shared(truth):
    repetitions = [together(truth, seed, samples=500, units=24, draws=9) for seed in range(20)]
    for name in ("mutual_best", "cliques", "cycles", "consensus_r", "found_in_all"):
        higher = sum(one[name] > one[f"{name}_rotated_high"] for one in repetitions)
        lower = sum(one[name] < one[f"{name}_rotated_low"] for one in repetitions)
        assert higher <= 6, name  # 2 are expected, 7 or more happen once in 400 times
        assert lower <= 6, name
        apart = torch.tensor([one[name] - one[f"{name}_rotated"] for one in repetitions])
        assert abs(apart.mean()) <= 3.5 * apart.std() / 20**0.5 + 0.01, name
    if "shared" in truth.name:  # a chance of 1 / n was claimed
        assert sum(one["cycles_rotated"] for one in repetitions) / 20 > 2 / 24


def test_scalars_of_several_nets_that_have_units_in_common_are_far_above_those_of_the_nets_rotated():
    for noise in (0, 2):
        scalars = together(PLANTED[noise], 0, samples=1000, units=24, draws=9)
        for name in ("mutual_best", "cliques", "cycles", "consensus_r", "found_in_all"):
            assert scalars[name] > scalars[f"{name}_rotated_high"] + 0.1, name


def test_a_gated_layer_is_rotated_by_one_rotation_of_both_parts():
    truth = Truth("gated", NOTHING[0].draw, nonlinearity="SwiGLU")
    gate, value = truth.nets(1, 200, 6, seed=0)[0]
    assert not torch.allclose(gate, value)
    rotated = nulls.rotated_before(gate, torch.nn.functional.silu, 3) * nulls.rotated_before(value, lambda h: h, 3)
    assert torch.equal(truth.rotated((gate, value), 3), rotated)


@pytest.mark.parametrize(("values", "level"), [(19, 0.05), (80, 0.05), (300, 0.05), (30, 0.1), (10, 0.1)])
def test_a_value_under_the_null_exceeds_its_threshold_at_most_at_the_level(values, level):
    generator = torch.Generator().manual_seed(0)
    drawn = torch.rand(4000, values + 1, generator=generator)
    exceeded = torch.tensor([row[0] > nulls.threshold(row[1:], level) for row in drawn]).double().mean()
    reached = int(level * (values + 1) + 1e-9) / (values + 1)
    assert reached <= level
    assert exceeded == pytest.approx(reached, abs=4 * (level / 4000) ** 0.5)
    p = torch.stack([nulls.p_values(row[:1], row[1:]) for row in drawn]).flatten()
    assert (p <= level).double().mean() == exceeded
    with pytest.raises(InputError, match="take more draws"):
        nulls.threshold(torch.rand(int(1 / level) - 2), level)


def test_every_scalar_of_several_nets_has_its_null_beside_it():
    x = [torch.randn(60, 5, generator=torch.Generator().manual_seed(seed)).double() for seed in range(9)]
    nets, draws = several(x[:3]), [several(x[3:6]), several(x[6:])]
    scalars = beside_rotated(nets, draws)
    for name, value in scalars_of(nets).items():
        of_draws = [scalars_of(draw)[name] for draw in draws]
        assert scalars[name] == value
        assert scalars[f"{name}_rotated"] == pytest.approx(sum(of_draws) / 2)
        assert [scalars[f"{name}_rotated_{end}"] for end in ("low", "high")] == sorted(of_draws)
    assert len(scalars) == 4 * len(scalars_of(nets)) == 16
    assert "cycles" not in scalars_of(nets.select([0, 1]))
    with pytest.raises(InputError, match="at least one draw"):
        beside({"cycles": 0.5}, [])


def test_found_in_others_on_random_axes_counts_each_rotated_net_in_the_recorded_ones():
    nets = several([torch.randn(60, 4, generator=torch.Generator().manual_seed(seed)).double() for seed in range(3)])
    none = {(i, j): torch.zeros(4).bool() for i in range(3) for j in range(3) if i != j}
    some = none | {(0, 1): torch.ones(4).bool(), (0, 2): torch.tensor([True, True, False, False])}
    share = found_in_rotated(nets, [none, some])
    assert share["found_in_rotated"] == pytest.approx([5 / 6, 1 / 12, 1 / 12])
    assert share["found_in_rotated_low"] == pytest.approx([2 / 3, 0, 0])
    assert share["found_in_rotated_high"] == pytest.approx([1, 1 / 6, 1 / 6])
    with pytest.raises(InputError, match="at least one draw"):
        found_in_rotated(nets, [])


def test_the_page_says_what_was_simulated_and_that_holds_its_level():
    rates, page = json.loads(RATES.read_text()), PAGE.read_text()
    assert rates.keys() == SIMULATIONS.keys()
    for name, (truths, _) in SIMULATIONS.items():
        assert [row["truth"] for row in rates[name]] == [truth.name for truth in truths]
        assert (table_of_several if name == "several" else table_of_two)(rates[name]) in page
    assert all(0.03 <= row[f"above_{null}"] <= 0.1 for row in rates["nothing"] for null in ("before", "shared"))
    assert all(row["above_before"] > 0.95 for row in rates["planted"])
    for row in rates["several"]:
        there = row["truth"].startswith(("the same", "half"))
        for name in (
            ("mutual_best", "cycles") if "noise in each" in row["truth"] else ("mutual_best", "cycles", "consensus_r")
        ):
            assert row[f"{name}_above"] == 1 if there else row[f"{name}_above"] <= 0.25, (row["truth"], name)
