"""Nets that are built to be loaded: no first weights are drawn, and nothing else changes."""

import torch
from torch import nn

from convergent.training.skip_init import SkipInit


class Noisy(nn.Module):
    """A net with a random buffer that no file of weights has, and weights that it fills itself."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.TransformerEncoderLayer(8, 2))
        self.own = nn.Parameter(torch.empty(5))
        nn.init.normal_(tensor=self.own)
        self.register_buffer("noise", torch.empty(6).uniform_(), persistent=False)


def test_a_loaded_net_is_the_saved_one_and_only_its_buffers_are_drawn():
    saved = Noisy()
    torch.manual_seed(0)
    drawn = torch.empty(6).uniform_()
    torch.manual_seed(0)
    with SkipInit():
        net = Noisy()
    assert torch.equal(net.noise, drawn)  # the first draw that was made
    net.load_state_dict(saved.state_dict())
    assert all(torch.equal(net.state_dict()[name], x) for name, x in saved.state_dict().items())
    assert all(parameter.requires_grad for parameter in net.parameters())
