"""A small convolutional net for small pictures."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Annotated

from torch import nn

from convergent.options import listed, number, whole


class ConvNet(nn.Sequential):
    """Three convolutions (3x3), two poolings, two fully connected layers.

    Pictures (n, channels, size, size) in, logits (n, classes) out. The modules conv1, conv2, conv3 and fc1 end in their
    ReLU, so their outputs are the units of the paper: post-ReLU.

    Args:
        channels: of the pictures.
        size: height and width of the pictures, in pixels.
        classes: number of logits.
        widths: units of conv1, conv2, conv3 and fc1.
        dropout: share of fc1's units dropped in training.
        stride: of conv1, in pixels.
    """

    def __init__(
        self,
        channels: Annotated[int, whole(1)],
        size: Annotated[int, whole(1)],
        classes: Annotated[int, whole(1)],
        widths: Annotated[Sequence[int], listed(whole(1), 4, 4)] = (32, 64, 64, 128),
        dropout: Annotated[float, number(0, 1)] = 0.2,
        stride: Annotated[int, whole(1)] = 1,
    ) -> None:
        c1, c2, c3, f1 = widths
        side = (size - 1) // stride + 1  # of what conv1 gives
        super().__init__(
            OrderedDict(
                conv1=nn.Sequential(nn.Conv2d(channels, c1, 3, stride, padding=1), nn.ReLU()),
                conv2=nn.Sequential(nn.Conv2d(c1, c2, 3, padding=1), nn.ReLU()),
                pool2=nn.MaxPool2d(2),
                conv3=nn.Sequential(nn.Conv2d(c2, c3, 3, padding=1), nn.ReLU()),
                pool3=nn.MaxPool2d(2),
                flat=nn.Flatten(),
                fc1=nn.Sequential(nn.Linear(c3 * (side // 4) ** 2, f1), nn.ReLU()),
                drop1=nn.Dropout(dropout),
                fc2=nn.Linear(f1, classes),
            )
        )
