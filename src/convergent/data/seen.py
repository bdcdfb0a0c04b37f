"""The images of a statistics pass once more, as pictures to look at: what each net sees, in 8 bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from convergent.data.ordered import OrderedData
from convergent.data.pictures import Images, Views


def pictures(data: OrderedData, wanted: list[int], views: Mapping[str, str]) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """Read some of the measured images: their number and {view: picture (1 or 3, height, width), uint8}.

    Images that cannot be read are left out. Where all nets take one view it is called "".
    """
    images = data.measured
    assert isinstance(images, Images)
    transform = images.transform
    ways: dict[str, Callable[[Any], Any]] = transform.transforms if isinstance(transform, Views) else {"": transform}
    loader = DataLoader(images, sampler=wanted, batch_size=None, collate_fn=_as_it_is, num_workers=data.workers)
    for image, datum in zip(wanted, loader):
        if datum is not None:
            seen = datum[0] if views else {"": datum[0]}
            yield image, {view: in_8_bits(x, ways[view]) for view, x in seen.items()}


def limits(transform: Any) -> tuple[Tensor, Tensor]:
    """The least and the greatest value that a pixel has after a preparation, shape (channels, 1, 1) or ()."""
    if (normalisation := _normalisation(transform)) is None:
        return torch.tensor(-torch.inf), torch.tensor(torch.inf)
    mean, std = normalisation
    return -mean / std, (1 - mean) / std


def _normalisation(transform: Any) -> tuple[Tensor, Tensor] | None:
    """The mean and the standard deviation that a preparation ends with, shape (channels, 1, 1)."""
    *_, last = getattr(transform, "transforms", None) or [None]
    if not isinstance(last, v2.Normalize):
        return None
    return torch.tensor(last.mean)[:, None, None], torch.tensor(last.std)[:, None, None]


def in_8_bits(x: Tensor, transform: Any) -> Tensor:
    """A prepared picture as it was before its normalisation, or stretched from its least to its greatest value.

    >>> in_8_bits(torch.tensor([[[-1.0, 0.0, 1.0]]]), None)
    tensor([[[  0, 128, 255]]], dtype=torch.uint8)
    """
    if (normalisation := _normalisation(transform)) is not None:
        x = x * normalisation[1] + normalisation[0]
    else:
        x = (x - x.min()) / (x.max() - x.min()).clamp(min=torch.finfo(x.dtype).tiny)
    x = x if len(x) in (1, 3) else x.mean(0, keepdim=True)
    return (x * 255).round().clamp(0, 255).to(torch.uint8)


def _as_it_is(datum: Any) -> Any:
    return datum
