"""The pictures of units, made once and saved beside the moments: patches of images, and what gradient ascent makes.

Axes: `c` units of one net.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from convergent.cli.measurement import Measurement
from convergent.data.pictures import Images, Views
from convergent.data.seen import in_8_bits, limits, pictures
from convergent.progress import track
from convergent.report.ascent import Ascent
from convergent.storage.files import atomic
from convergent.streaming.patches import Patches, boxed, cropped, cut, load_patches, save_patches
from convergent.streaming.top_images import TopImages
from convergent.streaming.top_patches import SavedPatches

_AT_ONCE = 64  # units


def cut_out(measurement: Measurement, artifact: SavedPatches) -> dict[str, dict[str, Patches]]:
    """The patches of every layer and net with their tiles; images are read, once, for tiles that are not there yet."""
    files = {layer: measurement.folder / artifact.folder / f"{layer}.safetensors" for layer in measurement.layers}
    patches = {layer: load_patches(file) for layer, file in files.items()}
    todo = [layer for layer, nets in patches.items() if not all(of.tile_ckhwd.numel() for of in nets.values())]
    if not todo:
        return patches
    flat = {f"{net}\n{layer}": of for layer in todo for net, of in patches[layer].items()}
    view = {name: measurement.views.get(name.partition("\n")[0], "") for name in flat}

    def seen(wanted: list[int]) -> Iterator[tuple[int, dict[str, Tensor]]]:
        shown = track(pictures(measurement.data, wanted, measurement.views), "cutting out patches", len(wanted))
        for image, picture in shown:
            yield image, {name: picture[view[name]] for name in flat}

    for name, of in cut(flat, seen).items():
        net, _, layer = name.partition("\n")
        patches[layer][net] = of
    for layer in todo:
        with atomic(files[layer]) as file:
            save_patches(patches[layer], file)
    return patches


def preferred(
    measurement: Measurement, patches: Mapping[str, Mapping[str, Patches]], ascent: Ascent | None = None
) -> dict[str, dict[str, Patches]]:
    """The picture that each unit of every layer and net prefers, by gradient ascent, with the activation that it reaches.

    The patches of every layer and net say what a unit sees.
    """
    made = {}
    for layer in track(patches, "making units' preferred pictures"):
        file = measurement.folder / "ascent" / f"{layer}.safetensors"
        if not file.is_file():
            of_nets = {
                net: _made(measurement, layer, net, of, ascent or Ascent()) for net, of in patches[layer].items()
            }
            with atomic(file) as partial:
                save_patches(of_nets, partial)
        made[layer] = load_patches(file)
    return made


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
