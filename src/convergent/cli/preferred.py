"""The pictures that the units of trained nets prefer, made by gradient ascent once and saved beside the moments.

Axes: `c` units of one net.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from convergent.cli.measurement import Measurement
from convergent.data.pictures import Images, Views
from convergent.data.seen import in_8_bits, limits
from convergent.progress import track
from convergent.report.ascent import Ascent
from convergent.storage.files import atomic
from convergent.streaming.patches import Patches, boxed, cropped, load_patches, save_patches
from convergent.streaming.top_images import TopImages

_AT_ONCE = 64  # units


def preferred(
    measurement: Measurement, patches: Mapping[str, Mapping[str, Patches]], ascent: Ascent | None = None
) -> dict[str, dict[str, Patches]]:
    """One picture per unit of every layer and net, with the activation that it reaches.

    Args:
        measurement: of the nets.
        patches: of every layer and net: they say what a unit sees.
        ascent: how pictures are made.
    """
    pictures = {}
    for layer in track(patches, "making units' preferred pictures"):
        file = measurement.folder / "ascent" / f"{layer}.safetensors"
        if not file.is_file():
            made = {net: _made(measurement, layer, net, of, ascent or Ascent()) for net, of in patches[layer].items()}
            with atomic(file) as partial:
                save_patches(made, partial)
        pictures[layer] = load_patches(file)
    return pictures


def _made(measurement: Measurement, layer: str, net: str, patches: Patches, ascent: Ascent) -> Patches:
    images = measurement.data.measured
    assert isinstance(images, Images)
    view = measurement.views.get(net)
    transform = images.transform.transforms[view] if isinstance(images.transform, Views) and view else images.transform
    datum = images[0]
    assert datum is not None
    shape = (datum[0] if view is None else datum[0][view]).shape
    module = measurement.whole[net].to("cuda" if torch.cuda.is_available() else "cpu")
    c = len(patches.top.image_ck)
    tiles, reached = [], []
    for some in torch.split(torch.arange(c), _AT_ONCE):
        made = ascent.pictures(module, measurement.layers[layer][net], some.tolist(), shape, *limits(transform))
        reached.append(made.activation_u.float().cpu())
        for picture in made.picture_uchw.cpu():
            box = boxed(patches.field, made.position, patches.across)
            tiles.append(cropped(in_8_bits(picture, transform), box))
    position_ck = torch.full((c, 1), made.position)
    top = TopImages(torch.cat(reached)[:, None], torch.zeros_like(position_ck), position_ck)
    return Patches(top, patches.field, patches.across, torch.stack(tiles)[:, None])
