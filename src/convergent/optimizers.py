"""Optimisers and schedules that torch does not have; an optimiser takes named parameters."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LambdaLR


def caffe_sgd(
    named_parameters: Iterable[tuple[str, nn.Parameter]], lr: float, momentum: float, weight_decay: float
) -> SGD:
    """SGD as CaffeNet's prototxt has it: biases learn at twice the rate and do not decay.

    Source: Jia et al. 2014, bvlc_reference_caffenet (lr_mult 1 and 2, decay_mult 1 and 0).
    """
    weights: list[nn.Parameter] = []
    biases: list[nn.Parameter] = []
    for name, parameter in named_parameters:
        (biases if name.endswith("bias") else weights).append(parameter)
    groups: list[dict[str, Any]] = [{"params": weights}, {"params": biases, "lr": 2 * lr, "weight_decay": 0.0}]
    return SGD(
        groups,
        lr=lr,
        momentum=momentum,
        weight_decay=weight_decay,
    )


def cosine(optimizer: Optimizer, total_steps: int) -> LambdaLR:
    """The rate falls from its start to zero along half a cosine, over all steps of the training.

    Source: Loshchilov, Hutter 2017, "SGDR", equation 5, without restarts.
    """
    return LambdaLR(optimizer, lambda step: (1 + math.cos(math.pi * min(step / max(total_steps, 1), 1.0))) / 2)
