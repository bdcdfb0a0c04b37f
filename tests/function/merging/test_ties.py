"""Which units belong together, found from the graph, and proved by running the net with them in another order."""

import pytest
import torch
from torch import nn
from torchvision.models import VisionTransformer, resnet18

from convergent.errors import InputError
from convergent.function.merging.permutations import check_same, permuted, random_order
from convergent.function.merging.ties import Ties
from convergent.nets.caffenet import CaffeNet
from convergent.nets.convnet import ConvNet


def varied(net):
    """A net none of whose biases and statistics are at their start, so that a unit out of place shows."""
    with torch.no_grad():
        for name, tensor in [*net.named_parameters(), *net.named_buffers()]:
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2)
            elif tensor.is_floating_point() and (tensor.ndim == 1 or not tensor.any()):
                tensor.add_(0.3 * torch.randn_like(tensor))
    return net.eval()


class Grouped(nn.Module):
    """Grouped and depthwise convolutions, a concatenation, GroupNorm and a gate."""

    def __init__(self):
        super().__init__()
        self.first, self.grouped = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 24, 3, padding=1, groups=4, bias=False)
        self.norm, self.depthwise = nn.GroupNorm(4, 24), nn.Conv2d(24, 24, 3, padding=1, groups=24)
        self.beside, self.gate = nn.Conv2d(3, 5, 1), nn.Linear(29, 29)
        self.last = nn.Linear(29, 4)

    def forward(self, x):
        y = self.depthwise(self.norm(self.grouped(self.first(x).relu())).relu())
        y = torch.cat([y, self.beside(x).tanh()], 1).mean((2, 3))
        return self.last(y * torch.sigmoid(self.gate(y)))


class Tied(nn.Module):
    """A small language model: embedding and output share their weights, attention is in heads."""

    def __init__(self):
        super().__init__()
        self.embedding, self.qkv, self.out = nn.Embedding(11, 8), nn.Linear(8, 24), nn.Linear(8, 8)
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 11, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens):
        x = self.embedding(tokens)
        q, k, v = (part.unflatten(-1, (2, 4)).transpose(1, 2) for part in self.qkv(self.norm(x)).chunk(3, -1))
        attended = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.head(x + self.out(attended.transpose(1, 2).flatten(2)))


class Sliced(nn.Module):
    """Channels that are split, shuffled between two halves and cut unevenly; features turned by their positions."""

    def __init__(self):
        super().__init__()
        self.first, self.right, self.last = nn.Conv2d(3, 12, 1), nn.Conv2d(6, 6, 1), nn.Linear(12, 4)
        self.table, self.up = nn.Parameter(torch.randn(5, 12)), nn.Linear(12, 12)
        self.register_buffer("turns", torch.tensor([4, 0, 2]))

    def forward(self, x):
        left, other = self.first(x).relu().chunk(2, 1)
        shuffled = torch.cat([left, self.right(other)], 1).unflatten(1, (2, 6)).transpose(1, 2).flatten(1, 2)
        y = self.up(shuffled.amax((2, 3))).relu()
        y = y * self.table[self.turns].sum(0)
        turned = torch.cat([-y[:, 5:10], y[:, :5], y[:, 10:]], 1)
        return self.last(y + turned)


NETS = {
    "convnet": (lambda: ConvNet(1, 8, 10, (4, 6, 5, 7)), (2, 1, 8, 8)),
    "caffenet": (lambda: CaffeNet(3, 64, 10, width=0.03, kernel=8), (2, 3, 64, 64)),
    "resnet": (lambda: resnet18(num_classes=4, width_per_group=64), (2, 3, 32, 32)),
    "transformer": (lambda: VisionTransformer(16, 8, 1, 2, 8, 12, num_classes=4), (2, 3, 16, 16)),
    "grouped": (Grouped, (2, 3, 4, 4)),
    "tied": (Tied, (2, 6)),
    "sliced": (Sliced, (2, 3, 4, 4)),
}


@pytest.fixture(scope="module")
def net_of():
    """A net by name, images, and its ties, made once."""
    made = {}

    def get(name):
        if name not in made:
            make, shape = NETS[name]
            x = torch.randint(11, shape) if name == "tied" else torch.randn(shape)
            net = varied(make())
            made[name] = net, x, Ties.of(net, x)
        return made[name]

    return get


@pytest.mark.parametrize("name", NETS)
def test_every_group_in_a_random_order_leaves_the_function_what_it_is(net_of, name):
    net, x, ties = net_of(name)
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    order = random_order(ties, 1)
    for group in ties.groups[:3]:
        of_group = {axis: units for axis, units in order.items() if axis in (group.atom, *group.inner)}
        other = permuted(net, ties, of_group)
        assert check_same(net, other, x, name) <= 1e-5
        assert any(not torch.equal(tensor, before[key]) for key, tensor in other.state_dict().items())
    assert check_same(net, permuted(net, ties, order), x, name) <= 1e-5
    assert all(torch.equal(tensor, before[key]) for key, tensor in net.state_dict().items())


def test_the_order_in_which_units_are_changes_no_bit(net_of):
    net, _, ties = net_of("resnet")
    order = {group.atom: torch.arange(group.atom.size) for group in ties.groups}
    other = permuted(net, ties, order).state_dict()
    assert all(torch.equal(tensor, other[key]) for key, tensor in net.state_dict().items())


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("convnet", {"conv1.0.weight": 4, "conv2.0.weight": 6, "conv3.0.weight": 5, "fc1.0.weight": 7}),
        # a residual stream is one group, and the order of what local response normalisation reads has a meaning
        ("caffenet", {"conv3.0.weight": 12, "conv4.0.weight": 12, "conv5.0.weight": 8, "fc6.0.weight": 123,
                      "fc7.0.weight": 123}),
        ("transformer", {"conv_proj.weight": 8, "encoder.layers.encoder_layer_0.self_attention.in_proj_weight": 2,
                         "encoder.layers.encoder_layer_0.mlp.0.weight": 12}),
        # halves are shuffled together, and what is turned by its place goes with what it turns into
        ("sliced", [("up.weight", 5), ("up.weight", 2), ("first.weight", 6), ("first.weight", 6)]),
        ("grouped", {"first.weight": 4, "beside.weight": 5}),
    ],
)  # fmt: skip
def test_the_groups_are_those_that_one_would_name_by_hand(net_of, name, sizes):
    ties = net_of(name)[2]
    named = [(group.name, group.atom.size) for group in ties.groups]
    assert named == (sizes if isinstance(sizes, list) else list(sizes.items()))
    assert ties.pinned == ({"conv1.0.weight": "norm1", "conv2.0.weight": "norm2"} if name == "caffenet" else {})


def test_units_are_measured_after_the_nonlinearity_and_a_residual_stream_wherever_it_is_read(net_of):
    points = {group.name: group.points for group in net_of("resnet")[2].groups}
    assert points["conv1.weight"] == ("relu", "layer1.0.relu#1", "layer1.1.relu#1")
    assert points["layer1.0.conv1.weight"] == ("layer1.0.relu#0",)
    assert [group.points for group in net_of("convnet")[2].groups][-1] == ("fc1.1",)


def test_heads_are_reordered_with_what_is_within_each_of_them(net_of):
    (heads,) = [group for group in net_of("transformer")[2].groups if group.inner]
    assert [axis.size for axis in (heads.atom, *heads.inner)] == [2, 4]
    (heads,) = [group for group in net_of("tied")[2].groups if group.inner]
    assert [axis.size for axis in (heads.atom, *heads.inner)] == [2, 4, 4]  # queries with keys, and values


def test_units_out_of_place_are_found_out_and_the_module_named(net_of):
    net, x, ties = net_of("convnet")
    other = permuted(net, ties, random_order(ties, 0))
    with torch.no_grad():
        other.conv3[0].bias.copy_(other.conv3[0].bias.roll(1))
    with pytest.raises(InputError, match=r"parts from itself in module conv3\.0,"):
        check_same(net, other, x, "a")


class Sorted(nn.Module):
    def forward(self, x):
        return x.sort(-1).values


def test_an_operator_without_a_rule_is_refused_by_its_module():
    net = nn.Sequential(nn.Linear(4, 6), Sorted(), nn.Linear(6, 2))
    with pytest.raises(InputError, match=r"cannot be told of module 1, for it calls aten\.sort"):
        Ties.of(net, torch.zeros(2, 4))


class Chooses(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def test_a_net_without_a_graph_and_one_without_hidden_units_are_refused():
    with pytest.raises(InputError, match=r"torch\.export cannot make the graph of this net"):
        Ties.of(Chooses(), torch.zeros(2, 4))
    with pytest.raises(InputError, match="no units that could be reordered"):
        Ties.of(nn.Linear(4, 2), torch.zeros(2, 4))
