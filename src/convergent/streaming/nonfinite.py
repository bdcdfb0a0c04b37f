"""Which units gave NaN or infinite activations, and from which batch on.

Axes: `u` units of all nets side by side.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from convergent.errors import InputError


class NonFinite:
    """The first batch with NaN or infinite activations of each unit, `batch_u`, -1 for none, where the work is done."""

    def __init__(self, units: int, device: torch.device) -> None:
        self.batch_u = torch.full((units,), -1, device=device)

    def see(self, sum_u: Tensor, batch: int) -> None:
        """Look at sums of a batch's activations; in place, so that the memory stays another stream's as well."""
        self.batch_u.copy_(torch.where((self.batch_u < 0) & ~torch.isfinite(sum_u), batch, self.batch_u))

    def check(self, layer: str, units: Mapping[str, slice]) -> None:
        """Wait for a GPU to say that there are none.

        Raises:
            InputError: if there are.
        """
        if (self.batch_u >= 0).any():
            unit = int((self.batch_u >= 0).nonzero()[0])
            net, of_net = next((net, of) for net, of in units.items() if of.start <= unit < of.stop)
            raise InputError(
                f"Layer {layer} of net {net} gives NaN or infinite activations (unit {unit - of_net.start}, from batch "
                f"{int(self.batch_u[unit])} on); check its weights and the images, or leave this net or layer out."
            )
