"""The numbers of all pairs of nets in one row per layer: means, deviations, and intervals over nets."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from convergent.analysis.intervals import over_nets

# Scalars whose interval over nets is estimated, with their bounds: of the correlations, of how units are coded
# (analysis.codes), and of what decisions are left (function), also of its controls, whose names go on.
_OVER_NETS = {
    "mean_r": (-1, 1),
    "excess": None,
    "above_rotated": (0, 1),
    **dict.fromkeys(("local", "slightly_distributed", "distributed", "undecided", "unpredicted"), (0, 1)),
}
_FUNCTION = {"same_decision_above": (-1, 1), "same_decision": (0, 1), "kept": None, "needed": None}


def by_layer(summaries: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """For each layer the mean over all ordered pairs of nets, and the standard deviation between them, of every scalar.

    A scalar that some pairs have not, as that of a cluster's subspace where no cluster has one, is the mean of those which
    have it, if these are half or more; `NAME_pairs` says how many there are.
    """
    layers: dict[str, dict[str, Any]] = {}
    for layer in dict.fromkeys(summary["layer"] for summary in summaries):
        of_layer = [summary for summary in summaries if summary["layer"] == layer]
        scalars: dict[str, Any] = {"pairs": len(of_layer), "images": of_layer[0]["images"]}
        names = dict.fromkeys(key for summary in of_layer for key in summary)
        for name in [key for key in names if key not in ("layer", "a", "b", "images")]:
            values = [summary[name] for summary in of_layer if summary.get(name) is not None]
            if 2 * len(values) >= len(of_layer):
                scalars |= {name: float(np.mean(values)), f"{name}_sd": float(np.std(values))}
            if 0 < len(values) < len(of_layer):
                scalars[f"{name}_pairs"] = len(values)
        of_function = {name: next((at for at in _FUNCTION if name.startswith(at)), "") for name in names}
        judged = {name: _FUNCTION[at] for name, at in of_function.items() if at and not name.endswith("_low")}
        for name, bounds in (_OVER_NETS | judged).items():
            scalars |= _interval_over_nets(of_layer, name, bounds)
        layers[layer] = scalars
    return layers


def _interval_over_nets(
    summaries: Sequence[dict[str, Any]], name: str, bounds: tuple[float, float] | None
) -> dict[str, float]:
    """Where the mean of a scalar lies with 95% for nets of other seeds; nothing for fewer than three nets."""
    nets = {net: number for number, net in enumerate(dict.fromkeys(summary["a"] for summary in summaries))}
    table = torch.full((len(nets), len(nets)), torch.nan)
    for summary in summaries:
        if summary.get(name) is not None:
            table[nets[summary["a"]], nets[summary["b"]]] = summary[name]
    off_diagonal = ~torch.eye(len(nets), dtype=torch.bool)
    if len(nets) < 3 or not torch.isfinite(table[off_diagonal]).all():
        return {}
    interval = over_nets(table, bounds=bounds)
    if not torch.isfinite(interval.low):  # all pairs at a bound
        return {}
    return {f"{name}_nets_low": float(interval.low), f"{name}_nets_high": float(interval.high)}
