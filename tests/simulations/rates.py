"""How many units are above chance, and what nets have in common, beside their nulls, where the truth is known.

Axes: `d` draws of the null, `b` units of net b, `i`, `j` nets.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, permutations

import torch
from torch import Tensor

from convergent.analysis import nulls
from convergent.analysis.across import beside_rotated, found_in_rotated
from convergent.analysis.partners import reliability
from convergent.analysis.several import SeveralNets
from convergent.core.moments import Moments
from convergent.core.pairs import Pair
from simulations.truths import Net, Truth, standardised


@dataclass(frozen=True)
class Above:
    """Two nets' units beside the nulls: activations rotated, pre-activations rotated, what is predicted of them from net a.

    Attributes:
        above: whether each unit of b exceeds the null's 5% threshold, by null.
        best_r: mean highest correlation with a unit of a.
        null_r: the same on random axes, by null.
    """

    above: dict[str, Tensor]
    best_r: float
    null_r: dict[str, float]


def above(truth: Truth, seed: int, samples: int, units: int, draws: int) -> Above:
    """One repetition."""
    a, b = truth.nets(2, samples, units, seed)
    x_na = truth.activations(a)
    pair = Pair.of(x_na, truth.activations(b), blocks=1)
    z_na = standardised(x_na)

    def rotated(beside: Net | None) -> Tensor:
        rotated_nets = (truth.rotated(b, draws * seed + d, beside) for d in range(draws))
        return torch.cat([(z_na.T @ standardised(x_nb)).amax(0) / samples for x_nb in rotated_nets])

    null = {"after": nulls.rotated_best(pair, draws, seed, turn="b"), "before": rotated(None), "shared": rotated(a)}
    best_b = nulls.best(pair)
    exceeds = {name: best_b > nulls.threshold(values) for name, values in null.items()}
    return Above(exceeds, best_b.mean().item(), {name: values.mean().item() for name, values in null.items()})


def several(x: Sequence[Tensor]) -> SeveralNets:
    """The correlations of nets by their activations."""
    moments, units = Moments.of(torch.cat(list(x), 1)), x[0].shape[1]
    parts = [slice(i * units, (i + 1) * units) for i in range(len(x))]
    corr = {(i, j): moments.corr_uu[parts[i], parts[j]] for i, j in combinations(range(len(x)), 2)}
    return SeveralNets("abcdefgh"[: len(x)], corr, [moments.active_u[part] for part in parts])


def together(truth: Truth, seed: int, samples: int, units: int, draws: int, nets: int = 4) -> dict[str, float]:
    """Figures of several nets, and found in all others, beside the nets rotated each by its own; one repetition."""
    pre = truth.nets(nets, samples, units, seed)
    x = [truth.activations(net) for net in pre]
    both = []  # the nets as recorded, and rotated, side by side
    for d in range(draws):
        rotated_nets = [truth.rotated(net, (draws * seed + d) * nets + i) for i, net in enumerate(pre)]
        both.append(several([*x, *rotated_nets]))
    recorded = both[0].select(range(nets))
    scalars = beside_rotated(recorded, [draw.select(range(nets, 2 * nets)) for draw in both])
    best = [{(i, j): draw.best(nets + i, j)[1] for i, j in permutations(range(nets), 2)} for draw in both]
    threshold = {ij: nulls.threshold(torch.cat([of[ij] for of in best])) for ij in best[0]}
    null = found_in_rotated(recorded, [{ij: best_u > threshold[ij] for ij, best_u in of.items()} for of in best])
    scalars["found_in_all"] = reliability(recorded, threshold).share_m[-1].item()
    return scalars | {name.replace("found_in", "found_in_all"): share_m[-1] for name, share_m in null.items()}
