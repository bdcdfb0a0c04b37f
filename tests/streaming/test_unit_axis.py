"""A module's own type says which axis its units are; shapes only where it does not."""

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models import swin_t
from torchvision.models.convnext import LayerNorm2d

from convergent.streaming.callback import MomentsCallback
from convergent.streaming.layers import layout
from convergent.streaming.module import Nets
from convergent.streaming.reading import Reading
from convergent.streaming.statistics_pass import StatisticsPass
from convergent.streaming.unit_axis import axis_by_type


class Block(nn.Module):
    """Convolutions with a shortcut: a module that is no sequence."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, x):
        return x + self.second(self.first(x))


class Patches(nn.Module):
    """Tokens that a convolution makes."""

    def __init__(self):
        super().__init__()
        self.cut = nn.Conv2d(3, 8, 4, 4)

    def forward(self, x):
        return self.cut(x).flatten(2).mT


CASES = [
    (nn.Conv2d(3, 6, 3), (1, 6, 6, 9), "channel"),
    (nn.Conv2d(3, 6, 3), (1, 6, 6, 6), "channel"),
    (nn.Conv1d(3, 5, 3), (1, 5, 50), "channel"),
    (nn.ConvTranspose1d(3, 5, 3), (1, 5, 50), "channel"),
    (nn.Conv3d(3, 6, 3), (1, 6, 6, 6, 9), "channel"),
    (nn.BatchNorm1d(5), (1, 5, 50), "channel"),
    (nn.GroupNorm(2, 6), (1, 6, 6, 9), "channel"),
    (nn.MaxPool1d(2), (1, 5, 50), "channel"),
    (nn.AdaptiveAvgPool2d((6, 9)), (1, 6, 6, 9), "channel"),
    (nn.Linear(3, 7), (1, 7), "channel"),  # of a vector it is the only axis
    (nn.Linear(3, 7), (1, 4, 5, 7), "last"),
    (nn.LayerNorm(7), (1, 4, 5, 7), "last"),
    (nn.Embedding(10, 7), (1, 4, 5, 7), "last"),
    (nn.TransformerEncoderLayer(8, 2, 8, batch_first=True), (1, 4, 8), "last"),
    (nn.Sequential(nn.Conv1d(3, 5, 3), nn.ReLU(), nn.Dropout()), (1, 5, 50), "channel"),
    (nn.Sequential(nn.Conv1d(3, 5, 3), nn.Sequential(nn.ReLU(), nn.MaxPool1d(2))), (1, 5, 25), "channel"),
    (nn.Sequential(nn.Conv2d(3, 6, 3), nn.Linear(9, 7)), (1, 6, 6, 7), "last"),
    (nn.Sequential(nn.Conv1d(3, 5, 3), nn.Flatten(), nn.Unflatten(1, (5, 50))), (1, 5, 50), "last"),  # nothing is known
    (nn.Sequential(Block(), nn.ReLU()), (1, 4, 4, 9), "channel"),
    (Block(), (1, 4, 4, 9), "channel"),
    (Patches(), (1, 196, 8), "last"),  # convolutions inside say nothing of tokens
    (LayerNorm2d(6), (1, 6, 7, 9), "channel"),  # its name is LayerNorm, but its axes are moved: as the shape suggests
    (nn.ReLU(), (1, 5, 50), "last"),
]


@pytest.mark.parametrize(("module", "shape", "axis"), CASES, ids=lambda x: type(x).__name__)
def test_the_type_of_the_module_says_where_units_are(module, shape, axis):
    net = nn.Sequential()
    net.add_module("it", module)
    assert layout(shape, "auto", axis_by_type(net, "it")) == axis
    assert layout(shape, "flat", axis_by_type(net, "it")) == "flat"


def test_an_activation_in_a_sequence_has_the_units_of_what_comes_before_it():
    net = nn.Sequential(nn.Conv1d(3, 5, 3), nn.Sequential(nn.ReLU(), nn.Dropout()), nn.Flatten(), nn.ReLU())
    axes = [axis_by_type(net, path) for path in ("0", "1", "1.0", "1.1", "2", "3")]
    assert axes == ["channel", "channel", "channel", "channel", None, None]
    alone = nn.ModuleDict({"conv": nn.Conv1d(3, 5, 3), "relu": nn.ReLU()})
    assert axis_by_type(alone, "relu") is None


def test_units_of_a_hierarchical_transformer_are_last():
    net = swin_t()
    assert axis_by_type(net, "features.0.0") == "channel"
    assert {axis_by_type(net, f"features.{path}") for path in ("0", "1", "2", "3.0", "5.1.attn")} == {"last"}


def test_the_pass_reads_channels_of_pictures_that_are_higher_than_wide_and_of_sequences():
    torch.manual_seed(0)
    pictures = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU())  # (n, 6, 6, 9)
    sequences = nn.Sequential(nn.Flatten(2), nn.Conv1d(1, 5, 3), nn.ReLU())  # (n, 5, 86)
    data = TensorDataset(torch.randn(20, 1, 8, 11), torch.zeros(20), torch.arange(20))
    callback = MomentsCallback([["0", "1"], ["1", "2"]], Reading(sample="pooled", blocks=4))
    trainer = pl.Trainer(
        accelerator="cpu", callbacks=[callback], logger=False, enable_progress_bar=False, enable_checkpointing=False
    )
    trainer.predict(Nets({"a": pictures, "b": sequences}), DataLoader(data, 7), return_predictions=False)
    for layer in ("0~1", "1~2"):
        assert [units.stop - units.start for units in callback.moments[layer].units] == [6, 5]
    x = dict.fromkeys("ab", data.tensors[0])
    reading = Reading(sample="pooled", blocks=4)
    plan = StatisticsPass({"a": pictures, "b": sequences}, [["1", "2"]], 20, x, reading).plan()
    assert "6 x 6 x 9, 5 x 86  channel " in plan.splitlines()[1]
