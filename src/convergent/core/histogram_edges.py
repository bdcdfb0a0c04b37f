"""Edges between the bins of units, from a sample of their activations.

Axes: `u` units, `s` samples, `e` edges of a unit.
"""

import numpy as np
import torch
from torch import Tensor

from convergent.errors import InputError

_SORTED = 1 << 24  # values that are sorted at once


def edges_of(x_us: Tensor | np.ndarray, bins: int = 10) -> Tensor:
    """Edges between bins of equal mass, of which the first is for an atom at the minimum (zeros of rectified units).

    The minimum is an atom if at least half an equal bin's share, 1 / (2 bins), of the samples equals it: it is nearer to a
    bin of its own than to none. All others then share the other bins equally. Edges are values that occur; a value equal to
    an edge is below it. Units of few distinct values have equal edges, with empty bins between them.

    Args:
        x_us: calibration samples; some 10,000 to 100,000 suffice.
        bins: of each unit, at least 2.

    Returns:
        Edges in increasing order, shape (u, bins - 1), in the type of x_us: bin e holds edge[e - 1] < x <= edge[e].

    Raises:
        InputError: if there are fewer than 2 bins, no samples, or NaN or infinite ones.

    Source: Li et al. 2016, figure S4 (ten bins, the first for the zeros).

    >>> edges_of(torch.tensor([[0.0, 3, 0, 1, 2, 0, 4, 0]]), bins=3)
    tensor([[0., 2.]])
    """
    x_us = torch.as_tensor(x_us).detach()
    if bins < 2:
        raise InputError(f"bins needs to be at least 2, not {bins}.")
    if x_us.ndim != 2 or x_us.shape[1] == 0:
        raise InputError(f"Edges need samples of shape (units, samples), at least one, not {tuple(x_us.shape)}.")
    finite_u = torch.isfinite(x_us).all(1)
    if not finite_u.all():
        unit = int((~finite_u).nonzero()[0])
        raise InputError(f"Edges need finite samples, but unit {unit} has NaN or infinity; look for it in the net.")
    if not x_us.is_floating_point():
        x_us = x_us.double()
    parts = [_edges(part_us, bins) for part_us in torch.split(x_us, max(1, _SORTED // x_us.shape[1]))]
    return torch.cat(parts or [x_us.new_empty(0, bins - 1)])


def _edges(x_us: Tensor, bins: int) -> Tensor:
    wide_us = x_us.float() if x_us.dtype in (torch.bfloat16, torch.float16) else x_us  # numpy has no bfloat16
    sorted_us = torch.from_numpy(np.sort(wide_us.cpu().numpy(), 1))  # torch would return indices of twice the memory
    s = sorted_us.shape[1]
    lowest_u = (sorted_us == sorted_us[:, :1]).sum(1, keepdim=True)
    edge_e = torch.arange(bins - 1)
    equal_e = torch.round((edge_e + 1) * (s / bins))  # so many samples below an edge, without an atom
    above_ue = lowest_u + torch.round(edge_e * ((s - lowest_u) / (bins - 1)))  # with one: the first edge is the atom's
    below_ue = torch.where(2 * bins * lowest_u >= s, above_ue, equal_e).long()
    return sorted_us.gather(1, (below_ue - 1).clamp(0, s - 1)).to(x_us)
