"""Mutual information of binned units, for all pairs of units of two nets at once.

Axes: `a` and `b` units of the two nets, `i` and `j` their bins, `...` any.
"""

import torch
from torch import Tensor

from convergent.core.joint_histograms import Histograms
from convergent.core.packing import net_number
from convergent.errors import InputError

_ENTRIES = 1 << 21  # counts that are worked on at once: 16 MB in float64


def entropy(counts_i: Tensor) -> Tensor:
    """The entropy of binned units in nats, plug-in estimate, shape (...), float64; 0 where there are no samples.

    `counts_i` are the samples in each bin, shape (..., bins).

    >>> round(entropy(torch.tensor([5, 5, 0])).item(), 6)  # log 2
    0.693147
    """
    counts_i = counts_i.double()
    count = counts_i.sum(-1)
    return (_n_log_n(count) - _n_log_n(counts_i).sum(-1)).clamp(min=0) / count.clamp(min=1)


def mutual_information(counts_abij: Tensor, correct: bool = False) -> Tensor:
    """The mutual information of every unit of a with every unit of b, plug-in estimate in nats.

    Units that stay in one bin give 0. The plug-in estimate is too large by about (R - 1)(C - 1) / 2N, where R and C are the
    numbers of bins that are not empty: `correct` subtracts that, and independent units are then 0 on average, some below.

    Args:
        counts_abij: samples in each pair of bins, from `Histograms.pair`.
        correct: subtract the bias.

    Returns:
        Shape (a, b), float64.

    Raises:
        InputError: if the counts have other axes, some are negative, or a pair of units has no samples.

    Source: Li et al. 2016, figure S4; Miller 1955, "Note on the bias of information estimates".

    >>> round(mutual_information(torch.tensor([[[[5, 0], [0, 5]]]])).item(), 6)  # log 2
    0.693147
    """
    if counts_abij.ndim != 4:
        raise InputError(
            f"Mutual information needs counts of shape (units, units, bins, bins), not {tuple(counts_abij.shape)}; take "
            "them from Histograms.pair."
        )
    rows = max(1, _ENTRIES // max(1, counts_abij[:1].numel()))
    return torch.cat([_of_part(part_abij, correct) for part_abij in torch.split(counts_abij, rows)])


def information(histograms: Histograms, a: int | str, b: int | str, correct: bool = False) -> Tensor:
    """The mutual information of every unit of net a with every unit of net b in nats, shape (a, b), float64.

    It is made in parts that bound the memory, once for both directions; `correct` subtracts the bias, see
    `mutual_information`.
    """
    i, j = (net_number(net, histograms.nets) for net in (a, b))
    if i > j:
        return information(histograms, j, i, correct).T
    if (i, j, correct) not in histograms.nats:
        histograms.nats[i, j, correct] = _information(histograms, i, j, correct)
    return histograms.nats[i, j, correct]


def _information(histograms: Histograms, a: int, b: int, correct: bool) -> Tensor:
    p, q = (len(histograms.edges_ue[histograms.units[net]]) for net in (a, b))
    rows = max(1, _ENTRIES // max(1, q * histograms.bins**2))
    strips = [slice(first, first + rows) for first in range(0, max(p, 1), rows)]
    return torch.cat([mutual_information(histograms.pair(a, b, strip), correct) for strip in strips])


def _of_part(counts_abij: Tensor, correct: bool) -> Tensor:
    counts_abij = counts_abij.double()
    counts_abi, counts_abj = counts_abij.sum(3), counts_abij.sum(2)
    count_ab = counts_abi.sum(2)
    if (counts_abij < 0).any() or (count_ab == 0).any():
        raise InputError(
            "Mutual information needs counts of at least one sample, none negative; read samples before asking for it."
        )
    nats_ab = _n_log_n(counts_abij).sum((2, 3)) - _n_log_n(counts_abi).sum(2) - _n_log_n(counts_abj).sum(2)
    nats_ab = ((nats_ab + _n_log_n(count_ab)) / count_ab).clamp(min=0)
    freedom_ab = ((counts_abi > 0).sum(2) - 1) * ((counts_abj > 0).sum(2) - 1)
    nats_ab = nats_ab.where(freedom_ab > 0, 0.0)
    return nats_ab - freedom_ab / (2 * count_ab) if correct else nats_ab


def _n_log_n(n: Tensor) -> Tensor:
    return n.clamp(min=1).log_().mul_(n)  # counts, so 0 at n = 0: xlogy, which is for any number, takes twice as long
