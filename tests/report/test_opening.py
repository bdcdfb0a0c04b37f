"""The two sentences that open the page and the README say what the results say, and no more."""

import re
from itertools import permutations

import pytest

from convergent.report.opening import opening, precision


def result(best, rotated=None, nets="0123", images=100, part=0.01, **scalars):
    """A summary with a figure by layer; each net adds its own part to its pairs, so that there is an interval."""
    pairs = []
    for place, (layer, r) in enumerate(best.items()):
        order = [*nets[place:], *nets[:place]]
        own = {net: part * (number - (len(nets) - 1) / 2) for number, net in enumerate(order)}
        for a, b in permutations(nets, 2):
            row = {"layer": layer, "a": a, "b": b, "mean_best_r": r + own[a] + own[b]}
            row |= {name: of_layer[layer] for name, of_layer in scalars.items() if layer in of_layer}
            row |= {} if rotated is None else {"mean_best_r_rotated": rotated[layer]}
            pairs.append(row)
    return {"images": images, "layers": {layer: {} for layer in best}, "pairs": pairs}


def test_a_difference_between_layers_that_the_null_has_too_vanishes():
    summaries = {
        "semimatching": result(
            {"conv1": 0.7, "fc1": 0.4}, {"conv1": 0.6, "fc1": 0.3}, r2_held_out={"conv1": 0.5, "fc1": 0.25}
        ),
        "least_squares": result({"conv1": 0.7, "fc1": 0.4}, r2_held_out={"conv1": 0.9, "fc1": 0.6}),
        "semimatching,images=val": result({"conv1": 0.1}, images=20),
    }
    first, second = opening(summaries).split(". ")
    assert first == (
        "Among four networks, on 100 images, the best match in another network explains 25% (fc1) to 50% (conv1) of a "
        "unit's variance on held-out images, at a mean correlation of 0.40 (fc1) to 0.70 (conv1); all units of that "
        "network together explain 60% (fc1) to 90% (conv1) (least squares)"
    )
    assert "still correlates by 0.30 (fc1) to 0.60 (conv1); the excess over this null is 0.10 (" in second
    assert "above zero in every layer (95% intervals over networks)" in second
    ends = r" \(\N{MINUS SIGN}?0.\d+ to 0.\d+\)"
    assert re.search(f"layers, 0.30{ends} between conv1 and fc1, vanishes: 0.00{ends} remains.$", second)


@pytest.mark.parametrize(
    ("rotated", "ending"),
    [
        ({"conv1": 0.4, "fc1": 0.3}, "does not vanish: 0.20 "),
        ({"conv1": 0.7, "fc1": 0.3}, "is reversed: \N{MINUS SIGN}0.10 "),
    ],
)
def test_what_the_null_leaves_of_a_difference_is_said_with_its_sign(rotated, ending):
    assert ending in opening({"matching": result({"conv1": 0.7, "fc1": 0.4}, rotated)})


def test_an_excess_within_its_null_is_said_so():
    text = opening({"matching": result({"conv1": 0.5, "fc1": 0.5}, {"conv1": 0.49, "fc1": 0.2}, part=0.05)})
    assert "above zero in fc1 only (95% intervals over networks)" in text
    assert "difference between layers" not in text


def test_two_nets_give_no_interval_and_no_verdict_on_layers():
    text = opening({"matching": result({"conv1": 0.7, "fc1": 0.4}, {"conv1": 0.4, "fc1": 0.3}, nets="01")})
    assert text.startswith("Among two networks, ")
    assert text.endswith(
        "the excess over this null is 0.10 (fc1) to 0.30 (conv1), for which there are no intervals over networks."
    )


def test_without_a_null_one_sentence_is_left_and_many_layers_are_a_range():
    layers = {f"layer{number}": 0.2 + number / 10 for number in range(6)}
    assert opening({"matching": result(layers)}) == (
        "Among four networks, on 100 images, the best match in another network correlates with a unit by 0.20 (layer0) to "
        "0.70 (layer5)."
    )


def test_what_images_and_networks_leave_open_are_two_things():
    best, rotated = {"conv1": 0.7, "fc1": 0.4}, {"conv1": 0.6, "fc1": 0.38}
    of_images = {"mean_r_low": {"conv1": 0.498, "fc1": 0.29}, "mean_r_high": {"conv1": 0.502, "fc1": 0.31}}
    matching = result(best, rotated, mean_r={"conv1": 0.5, "fc1": 0.3}, **of_images)
    for pair in matching["pairs"]:  # each net of its own in conv1, all alike in fc1
        pair["mean_r"] += 0.01 * (int(pair["a"]) + int(pair["b"]) - 3) * (pair["layer"] == "conv1")
    text = precision({"matching": matching, "matching,images=val": result(best, images=20)})
    first, second = text.split("; ")
    assert first.startswith(
        "On 100 images the mean correlation of a pair of networks is known to ±0.002 to ±0.010, that"
    )
    assert re.search(r"seeds to ±0\.000 to ±0\.0[1-9]\d \(95%\)$", first)
    assert re.fullmatch(r"best matches .* by 0\.10 \(0\.\d+ to 0\.\d+\) in conv1 and 0\.02 \(.*\) in fc1\.", second)
    assert precision({"sparse": result(best)}) == ""
