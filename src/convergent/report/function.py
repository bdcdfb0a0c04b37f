"""What swapping units leaves of nets' decisions, a sentence per layer made from finished results."""

from collections.abc import Iterator, Mapping
from typing import Any

from convergent.figures.style import look_of
from convergent.report.opening import Mean, difference, mean_of, means_of, percent, range_of, scalar_of

# An untrained net does as well where no more than this of the decisions is surely lost by taking it.
_AS_WELL = 0.05

_NO_EVIDENCE = "an untrained network does as well, so this stitch is no evidence of what was learned"


def sentences(summaries: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """For each layer what the method of fewest predictors keeps of the decisions, and whether untrained nets do as well.

    Args:
        summaries: summary.json by the result's label; of those of the most images with function=true the first is used,
            matching if it is there.
    """
    label, summary = _judged(summaries)
    return [f"{layer}: {text}." for layer, text in _of_layers(summary, look_of(label).words)]


def in_short(summaries: Mapping[str, Mapping[str, Any]]) -> str:
    """The same over all layers in one sentence; empty where nothing was judged."""
    label, summary = _judged(summaries)
    kept, untrained = scalar_of(summary, "kept_restored"), scalar_of(summary, "kept_untrained_restored")
    if not kept:
        return ""
    text = (
        f" With a layer's units predicted from another network ({look_of(label).words}, variance restored), "
        f"a network keeps {range_of(means_of(kept), percent)} of its decisions"
    )
    other = f", from an untrained network {range_of(means_of(untrained), percent)}" if untrained else ""
    return f"{text}{other}."


def _judged(summaries: Mapping[str, Mapping[str, Any]]) -> tuple[str, Mapping[str, Any]]:
    judged = {label: of for label, of in summaries.items() if any("kept_restored" in pair for pair in of["pairs"])}
    most = max((of["images"] for of in judged.values()), default=0)
    base = {label: of for label, of in judged.items() if of["images"] == most}
    label = "matching" if "matching" in base else next(iter(base), "")
    return label, base.get(label, {})


def _of_layers(summary: Mapping[str, Any], method: str) -> Iterator[tuple[str, str]]:
    explained, kept = scalar_of(summary, "r2_held_out"), scalar_of(summary, "kept_restored")
    of = {name: scalar_of(summary, f"kept_{name}_restored") for name in ("untrained", "rotated", "least_squares")}
    linear_untrained = scalar_of(summary, "kept_least_squares_untrained_restored")
    for layer in kept:
        mean = mean_of(kept[layer])
        text = (
            f"{method} explains {percent(mean_of(explained[layer]))} of a unit's variance, "
            if layer in explained
            else ""
        )
        text += (
            f"{'and put' if text else f'{method}, put'} in the units' place keeps {_with_ends(mean)} of the decisions"
        )
        controls = {"untrained": "from an untrained network", "rotated": "from a randomly rotated one"}
        beside = [
            f"{words} {percent(mean_of(of[name][layer]))}" for name, words in controls.items() if layer in of[name]
        ]
        text += f"; {', '.join(beside)}" if beside else ""
        if layer in of["untrained"] and _as_well(kept[layer], of["untrained"][layer]):
            text += f": {_NO_EVIDENCE}"
        if layer in of["least_squares"] and layer in linear_untrained:
            linear = of["least_squares"][layer]
            text += f". Least squares keeps {percent(mean_of(linear))}, from an untrained network "
            text += percent(mean_of(linear_untrained[layer]))
            text += f": {_NO_EVIDENCE}" if _as_well(linear, linear_untrained[layer]) else ""
        yield layer, text


def _as_well(trained: Mapping[Any, float], untrained: Mapping[Any, float]) -> bool:
    lost = mean_of(difference(trained, untrained))
    return (lost.value if lost.low is None else lost.low) <= _AS_WELL


def _with_ends(mean: Mean) -> str:
    return percent(mean) + ("" if mean.low is None else f" ({mean.low:.0%} to {mean.high:.0%})")
