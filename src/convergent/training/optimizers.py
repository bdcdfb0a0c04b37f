"""Optimisers and schedules by all steps of a training; an optimiser takes named parameters."""

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any

import torch
from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR

from convergent.options import number


def caffe_sgd(
    named_parameters: Iterable[tuple[str, nn.Parameter]],
    lr: Annotated[float, number(0)],
    momentum: Annotated[float, number(0, 1)],
    weight_decay: Annotated[float, number(0)],
) -> SGD:
    """SGD as CaffeNet's prototxt has it: biases learn at twice the rate and do not decay.

    Source: Jia et al. 2014, bvlc_reference_caffenet (lr_mult 1 and 2, decay_mult 1 and 0).
    """
    weights: list[nn.Parameter] = []
    biases: list[nn.Parameter] = []
    for name, parameter in named_parameters:
        (biases if name.endswith("bias") else weights).append(parameter)
    groups: list[dict[str, Any]] = [{"params": weights}, {"params": biases, "lr": 2 * lr, "weight_decay": 0.0}]
    return SGD(groups, lr=lr, momentum=momentum, weight_decay=weight_decay)


def cosine(optimizer: Optimizer, total_steps: int) -> CosineAnnealingLR:
    """The rate falls from its start to zero along half a cosine, over all steps of the training.

    Source: Loshchilov, Hutter 2017, "SGDR", equation 5, without restarts.
    """
    return CosineAnnealingLR(optimizer, max(total_steps, 1))


def warm_cycle(optimizer: Optimizer, total_steps: int, warm: Annotated[float, number(0, 1)] = 0.1) -> LambdaLR:
    """One cycle: the rate rises in a line over the share `warm` of the steps and falls in a line to zero over the rest.

    Source: Smith, Topin 2019, "Super-convergence"; Goyal et al. 2017, section 2.2 (warm-up of large batches).
    """
    rising = max(warm * total_steps, 1.0)
    falling = max(total_steps - rising, 1.0)
    return LambdaLR(optimizer, lambda step: min((step + 1) / rising, max(1 - (step - rising) / falling, 0.0)))


class SideBySide(Optimizer):
    """Optimisers of several nets that take their steps together and know nothing of one another."""

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        self.optimizers = list(optimizers)
        super().__init__([{"params": group["params"]} for one in optimizers for group in one.param_groups], {})
        self.param_groups = [group for one in optimizers for group in one.param_groups]  # theirs: rates change in place

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take every net's step."""
        with torch.enable_grad():
            loss = closure() if closure else None
        for one in self.optimizers:
            one.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The state of each, {"nets": [...]}."""
        return {"nets": [one.state_dict() for one in self.optimizers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the state of each."""
        for one, state in zip(self.optimizers, state_dict["nets"], strict=True):
            one.load_state_dict(state)
        self.param_groups = [group for one in self.optimizers for group in one.param_groups]


class Schedules:
    """Schedules of several nets, of one optimiser each, that take their steps together."""

    def __init__(self, schedules: Sequence[Any], optimizer: SideBySide) -> None:
        self.schedules, self.optimizer = list(schedules), optimizer

    def step(self) -> None:
        """Take every net's step."""
        for one in self.schedules:
            one.step()

    def state_dict(self) -> dict[str, Any]:
        """The state of each, {"nets": [...]}."""
        return {"nets": [one.state_dict() for one in self.schedules]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the state of each."""
        for one, state in zip(self.schedules, state_dict["nets"], strict=True):
            one.load_state_dict(state)
