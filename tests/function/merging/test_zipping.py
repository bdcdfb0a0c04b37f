"""Units merged within nets as well as between them: what is exact, which groups are made, and where none can be."""

import copy

import numpy as np
import pytest
import torch
from sklearn.cluster import AgglomerativeClustering
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

import convergent as cv
from convergent.function.merging.permutations import permuted, random_order
from convergent.function.merging.ties import Ties
from convergent.function.merging.zipping import most_alike, zippable, zipped
from convergent.methods.spectral import SpectralClustering


def images(n=128, shape=(6,)):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, *shape, generator=generator)
    return [(x, torch.randint(3, (n,), generator=generator))]


class Doubled(nn.Module):
    """Five features in six units: one of them is there twice, at another scale and read in two parts."""

    def __init__(self, twice, order, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        given, read = torch.randn(5, 6, generator=generator), torch.randn(3, 5, generator=generator)
        of, scale = [*range(5), twice], torch.tensor([1, 2, 0.5, 1, 3, 4.0])[order]
        share = torch.ones(6)
        share[twice], share[5] = 0.7, 0.3
        of, share = torch.tensor(of)[order], share[order]
        self.given, self.read = nn.Linear(6, 6), nn.Linear(6, 3)
        self.relu = nn.ReLU()
        with torch.no_grad():
            self.given.weight.copy_(given[of] * scale[:, None])
            self.given.bias.copy_(0.1 * scale)
            self.read.weight.copy_(10 * read[:, of] * share / scale)

    def forward(self, x):
        return self.read(self.relu(self.given(x)))


def test_a_feature_that_nets_have_twice_is_merged_within_them_where_matching_has_no_partner():
    nets = {"a": Doubled(0, [0, 1, 2, 3, 4, 5]), "b": Doubled(3, [4, 2, 0, 5, 1, 3])}
    with torch.no_grad():
        nets["b"].read.bias.copy_(nets["a"].read.bias)
        x = images()[0][0]
        assert torch.allclose(nets["a"](x), nets["b"](x), atol=1e-4)
        sure = [(x, nets["a"](x).argmax(1))]
        result = cv.merge(nets, images(), sure, ["zip", cv.Matching()], repair=False)
        assert torch.allclose(result.nets["zip"](x), nets["a"](x), atol=1e-3)
    barrier = result.barriers().set_index("alignment")["barrier"]
    assert barrier["zip"] <= 1e-6
    assert barrier["matching"] > 1e-3


@pytest.mark.parametrize("method", ["zip", SpectralClustering()], ids=["zip", "spectral"])
def test_a_copy_in_another_order_is_merged_to_the_net_itself_through_residual_streams_and_norms(method):
    torch.manual_seed(0)
    net = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=3).eval()
    with torch.no_grad():
        for name, buffer in net.named_buffers():
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 2)
    data = images(24, (3, 32, 32))
    ties = Ties.of(net, data[0][0][:2])
    copy_ = permuted(net, ties, random_order(ties, 1))
    result = cv.merge({"a": net, "b": copy_}, data, data, {"merged": method}, repair=False)
    with torch.no_grad():
        x, expected = data[0][0], net(data[0][0])
        assert torch.allclose(result.nets["merged"](x), expected, atol=1e-3 * float(expected.abs().max()))


def test_of_three_copies_one_net_is_made_with_their_statistics():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, 3)).eval()
    data = images()
    copies = {"a": net}
    for name in "bc":
        copies[name] = other = copy.deepcopy(net)
        order = torch.randperm(8)
        with torch.no_grad():
            other[0].weight.copy_(2 * net[0].weight[order])
            other[0].bias.copy_(2 * net[0].bias[order])
            other[2].weight.copy_(net[2].weight[:, order] / 2)
    result = cv.merge(copies, data, data, ["zip"])
    with torch.no_grad():
        assert torch.allclose(
            result.nets["zip"](data[0][0]), net(data[0][0]), atol=1e-4
        )  # repaired, and nothing to repair
    assert set(result.frame()["share_b"]) == {0, 0.5, 1}


def test_units_in_groups_are_those_of_wards_clustering():
    generator = np.random.default_rng(0)
    x_us = generator.standard_normal((40, 12)) * generator.uniform(0.2, 2, (40, 1))
    distance_uu = ((x_us[:, None] - x_us) ** 2).sum(-1)
    group_u = most_alike(distance_uu, np.zeros(40, int), 20)
    expected_u = AgglomerativeClustering(20, linkage="ward").fit_predict(x_us)
    assert (np.equal.outer(group_u, group_u) == np.equal.outer(expected_u, expected_u)).all()
    assert (np.unique(group_u, return_index=True)[1].argsort() == np.arange(20)).all()


def test_no_group_has_units_of_two_clusters_and_the_cheapest_merges_are_made():
    generator = np.random.default_rng(1)
    x_us, label_u = generator.standard_normal((30, 5)), generator.integers(-1, 3, 30)
    x_us[label_u == 2] *= 0.1  # where merging costs least
    distance_uu = ((x_us[:, None] - x_us) ** 2).sum(-1)
    group_u = most_alike(distance_uu, label_u, 15)
    assert len(np.unique(group_u)) == 15
    assert all(len(np.unique(label_u[group_u == group])) == 1 for group in range(15))
    assert len(np.unique(group_u[label_u == 2])) == 1
    assert len(np.unique(most_alike(distance_uu, np.arange(30), 15))) == 15  # more clusters than groups hold nothing


def test_nets_of_which_no_units_can_be_merged_are_averaged():
    torch.manual_seed(0)
    nets = [nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).eval() for _ in range(2)]
    merged = zipped(Ties.of(nets[0], images()[0][0][:2]), [], {}, ["a", "b"], {}, None).net(nets, [0.5, 0.5])
    assert torch.allclose(merged[2].weight, (nets[0][2].weight + nets[1][2].weight) / 2)


def test_which_axes_of_a_weight_read_units_is_said_by_the_graph():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16, 5)).eval()
    ties = Ties.of(net, torch.zeros(2, 2, 6, 6))
    assert {("0.weight", 1), ("4.weight", 1)} == ties.reading
    assert {("0.weight", 0), ("1.running_var", 0), ("4.bias", 0)} <= ties.giving
    assert not ties.reading & ties.giving
    assert len(zippable(ties)) == 1


def test_tied_embeddings_and_heads_are_not_merged_within_a_net():
    transformers = pytest.importorskip("transformers")
    sizes = {"n_embd": 8, "n_head": 2, "n_layer": 1, "n_inner": 12, "vocab_size": 20, "n_positions": 10}
    ends = {"bos_token_id": 0, "eos_token_id": 0, "use_cache": False}
    net = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, **ends)).eval()
    ties = Ties.of(net, torch.zeros(2, 10, dtype=torch.long))
    assert ("transformer.wte.weight", 1) in ties.reading & ties.giving
    assert [group.atom.size for group in zippable(ties)] == [12]
