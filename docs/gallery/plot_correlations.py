"""
Correlations before and after matching
======================================

Two nets with the same forty units, each net's in an order of its own and with noise of its own. Within each net the
correlations look alike; between them no order shows until each unit is placed beside its partner.
"""

from dataclasses import replace

import torch

import convergent as cv
from convergent.figures.correlations import correlations

generator = torch.Generator().manual_seed(0)
mixing_lu = torch.randn(12, 40, generator=generator)
shared_nu = torch.randn(2000, 12, generator=generator) @ mixing_lu
x_na = torch.relu(shared_nu + torch.randn(2000, 40, generator=generator))
x_nb = torch.relu(shared_nu + torch.randn(2000, 40, generator=generator))[:, torch.randperm(40, generator=generator)]

pair = replace(cv.Pair.of(x_na, x_nb), layer="a layer")
figure = correlations(cv.Matching()(pair))
