"""What nets did learn alike, in two sentences made from finished results."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from convergent.analysis.intervals import over_nets

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")

Pairs = Mapping[str, Mapping[tuple[str, str], float]]  # a scalar by layer and ordered pair of nets


class Mean(NamedTuple):
    """A mean over the ordered pairs of nets, and its 95% interval over nets where there are three or more."""

    value: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        ends = "" if self.low is None or self.high is None else f" ({_signed(self.low)} to {_signed(self.high)})"
        return _signed(self.value) + ends

    @property
    def sign(self) -> int:
        """Of what differs from 0 by more than its interval, else 0."""
        return 0 if self.low is None or self.high is None else (self.low > 0) - (self.high < 0)


def opening(summaries: Mapping[str, Mapping[str, Any]]) -> str:
    """How far a unit's best match and all units predict it, and what of that a random rotation leaves to the units.

    Of summary.json by the result's label those of the most images are used.
    """
    most = max(summary["images"] for summary in summaries.values())
    base = {label.split(",")[0]: summary for label, summary in summaries.items() if summary["images"] == most}
    first = base.get("semimatching") or next(iter(base.values()))
    nets = dict.fromkeys(pair["a"] for pair in first["pairs"])
    best, rotated = scalar_of(first, "mean_best_r"), scalar_of(first, "mean_best_r_rotated")
    if not best:
        return ""
    number = _NUMBERS[len(nets)] if len(nets) < len(_NUMBERS) else str(len(nets))
    single = means_of(scalar_of(base.get("semimatching", {}), "r2_held_out"))
    every = means_of(scalar_of(base.get("least_squares", {}), "r2_held_out"))
    match = "correlates with a unit by "
    if single:
        match = (
            f"explains {range_of(single, percent)} of a unit's variance on held-out images, at a mean correlation of "
        )
    text = f"Among {number} networks, on {most:,} images, the best match in another network {match}"
    text += range_of(means_of(best), _r)
    if every:
        of = "" if single else " of its variance on held-out images"
        text += f"; all units of that network together explain {range_of(every, percent)}{of} (least squares)"
    return f"{text}. {_beyond(best, rotated)}".strip()


def _beyond(best: Pairs, rotated: Pairs) -> str:
    """What of the best match's correlation a random rotation leaves, and of the greatest difference between layers."""
    layers = [layer for layer in best if rotated.get(layer, {}).keys() == best[layer].keys()]
    if not layers:
        return ""
    left = {layer: difference(best[layer], rotated[layer]) for layer in layers}
    excess = means_of(left)
    above = [layer for layer in layers if excess[layer].sign > 0]
    where = "every layer" if above == layers else _listed(above) + " only" if above else "no layer"
    known = all(mean.low is not None for mean in excess.values())
    beyond = f"above zero in {where} (95% intervals over networks)"
    text = (
        "Where one network is randomly rotated before its nonlinearity, which keeps its space but not its axes, the best "
        f"match still correlates by {range_of(means_of(rotated), _r)}; the excess over this null is {range_of(excess, _r)}, "
        f"{beyond if known else 'for which there are no intervals over networks'}"
    )
    by_r = sorted(layers, key=lambda layer: mean_of(best[layer]).value)
    least, most = by_r[0], by_r[-1]
    before, after = (  # compared pair by pair
        mean_of(difference(values[most], values[least])) if best[most].keys() == best[least].keys() else Mean(0.0)
        for values in (best, left)
    )
    if before.sign < 1:
        return f"{text}."
    verdict = {0: "vanishes", 1: "does not vanish", -1: "is reversed"}[after.sign]
    return (
        f"{text}, and the greatest difference between layers, {before} between {most} and {least}, {verdict}: "
        f"{after} remains."
    )


def precision(summaries: Mapping[str, Mapping[str, Any]]) -> str:
    """How far images and networks leave a mean correlation open, and by how much best matches exceed random rotations.

    Of summary.json by the result's label matching's, on the most images, is used; empty without its intervals over images.
    """
    most = max(summary["images"] for summary in summaries.values())
    base = {label: summary for label, summary in summaries.items() if summary["images"] == most}
    of = {name: scalar_of(base.get("matching", {}), f"mean_{name}") for name in ("r", "r_low", "r_high", "best_r")}
    rotated = scalar_of(base.get("matching", {}), "mean_best_r_rotated")
    nets = [mean for mean in means_of(of["r"]).values() if mean.low is not None and mean.high is not None]
    if not of["r_low"] or not nets:
        return ""
    images = [mean_of(difference(of["r_high"][layer], low)).value / 2 for layer, low in of["r_low"].items()]
    over_nets_ = [((mean.high or 0.0) - (mean.low or 0.0)) / 2 for mean in nets]
    text = (
        f"On {most:,} images the mean correlation of a pair of networks is known to ±{min(images):.3f} to "
        f"±{max(images):.3f}, that of networks of other seeds to ±{min(over_nets_):.3f} to ±{max(over_nets_):.3f} (95%)"
    )
    if not rotated:
        return f"{text}."
    excess = [f"{mean_of(difference(of['best_r'][layer], by))} in {layer}" for layer, by in rotated.items()]
    return f"{text}; best matches exceed those of randomly rotated networks by {_listed(excess)}."


def scalar_of(summary: Mapping[str, Any], name: str) -> Pairs:
    """One scalar of every pair of nets that has it, by layer."""
    values: dict[str, dict[tuple[str, str], float]] = {}
    for pair in summary.get("pairs", ()):
        if pair.get(name) is not None:
            values.setdefault(pair["layer"], {})[pair["a"], pair["b"]] = pair[name]
    return values


def difference(one: Mapping[Any, float], other: Mapping[Any, float]) -> dict[Any, float]:
    """One scalar less another, pair by pair."""
    return {pair: value - other[pair] for pair, value in one.items()}


def means_of(values: Pairs) -> dict[str, Mean]:
    """The means of a scalar by layer."""
    return {layer: mean_of(of_layer) for layer, of_layer in values.items()}


def mean_of(value: Mapping[tuple[str, str], float]) -> Mean:
    """The mean over ordered pairs of nets, with its interval."""
    nets = list(dict.fromkeys(net for pair in value for net in pair))
    mean = sum(value.values()) / len(value)
    if len(nets) < 3 or any((a, b) not in value and (b, a) not in value for a in nets for b in nets if a != b):
        return Mean(mean)
    table = [[value.get((a, b), torch.nan) for b in nets] for a in nets]
    interval = over_nets(torch.tensor(table, dtype=torch.float64))
    return Mean(mean, float(interval.low), float(interval.high))


def range_of(means: Mapping[str, Mean], words: Callable[[Mean], str]) -> str:
    """The least and the greatest of the layers."""
    ends = sorted(means, key=lambda layer: means[layer].value)
    return " to ".join(f"{words(means[layer])} ({layer})" for layer in dict.fromkeys((ends[0], ends[-1])))


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _r(mean: Mean) -> str:
    return _signed(mean.value)


def percent(mean: Mean) -> str:
    """A mean as a share."""
    return f"{mean.value:.0%}"


def _signed(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "\N{MINUS SIGN}")
