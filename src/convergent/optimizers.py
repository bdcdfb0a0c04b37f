"""Optimisers that torch does not have; each takes named parameters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.optim import SGD


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
