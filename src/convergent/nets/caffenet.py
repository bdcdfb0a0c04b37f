"""CaffeNet as the paper trained it: no grouped convolutions, pooling before normalisation, Caffe's initialisation."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Annotated

from torch import nn

from convergent.options import number, whole


@dataclass(eq=False, repr=False)
class CaffeNet(nn.Sequential):
    """Five convolutions and three fully connected layers, for 227 x 227 crops.

    Pictures (n, channels, size, size) in, logits (n, classes) out. The modules conv1..conv5, fc6 and fc7 end in their
    ReLU, so their outputs are the units of the paper: post-ReLU. Weights start Gaussian with deviation 0.01 (fc6, fc7:
    0.005), biases at 0 (conv1, conv3, fc8) or at 1 (the others).

    Args:
        channels: of the pictures.
        size: height and width of the pictures, in pixels; 227 in the paper.
        classes: number of logits.
        dropout: share of fc6's and fc7's units dropped in training.
        width: share of the paper's units in every layer.
        kernel: of conv1, in pixels; 11 in the paper.
        stride: of conv1; 4 in the paper.
        he: start weights by the units that they read (He et al. 2015), biases at 0: narrow nets do not learn otherwise.

    Source: Li et al. 2016, section 2; Jia et al. 2014 (bvlc_reference_caffenet), with groups of one.
    """

    channels: Annotated[int, whole(1)] = 3
    size: Annotated[int, whole(1)] = 227
    classes: Annotated[int, whole(1)] = 1000
    dropout: Annotated[float, number(0, 1)] = 0.5
    width: Annotated[float, number(0, above=True)] = 1.0
    kernel: Annotated[int, whole(1)] = 11
    stride: Annotated[int, whole(1)] = 4
    he: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        """Make the layers."""
        size, kernel, stride, width = self.size, self.kernel, self.stride, self.width
        side = (size - kernel) // stride + 1  # after conv1; conv2..conv5 keep it
        for _ in range(3):
            side = (side - 3) // 2 + 1  # after pool1, pool2, pool5
        c1, c2, c3, fc = (round(units * width) for units in (96, 256, 384, 4096))
        super().__init__(
            OrderedDict(
                conv1=_with_relu(nn.Conv2d(self.channels, c1, kernel, stride=stride), 0.01, 0.0),
                pool1=nn.MaxPool2d(3, 2),
                norm1=nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75),
                conv2=_with_relu(nn.Conv2d(c1, c2, 5, padding=2), 0.01, 1.0),
                pool2=nn.MaxPool2d(3, 2),
                norm2=nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75),
                conv3=_with_relu(nn.Conv2d(c2, c3, 3, padding=1), 0.01, 0.0),
                conv4=_with_relu(nn.Conv2d(c3, c3, 3, padding=1), 0.01, 1.0),
                conv5=_with_relu(nn.Conv2d(c3, c2, 3, padding=1), 0.01, 1.0),
                pool5=nn.MaxPool2d(3, 2),
                flat=nn.Flatten(),
                fc6=_with_relu(nn.Linear(c2 * side**2, fc), 0.005, 1.0),
                drop6=nn.Dropout(self.dropout),
                fc7=_with_relu(nn.Linear(fc, fc), 0.005, 1.0),
                drop7=nn.Dropout(self.dropout),
                fc8=_initialised(nn.Linear(fc, self.classes), 0.01, 0.0),
            )
        )
        for layer in self.modules() if self.he else ():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]


def _with_relu(layer: nn.Conv2d | nn.Linear, sd: float, bias: float) -> nn.Sequential:
    return nn.Sequential(_initialised(layer, sd, bias), nn.ReLU())


def _initialised(layer: nn.Conv2d | nn.Linear, sd: float, bias: float) -> nn.Conv2d | nn.Linear:
    nn.init.normal_(layer.weight, std=sd)
    nn.init.constant_(layer.bias, bias)  # type: ignore[arg-type]
    return layer
