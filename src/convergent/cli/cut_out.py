"""The units' patches: cut out of the images once, and saved beside the moments."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from convergent.cli.measurement import Measurement
from convergent.data.seen import pictures
from convergent.progress import track
from convergent.storage.files import atomic
from convergent.streaming.patches import Patches, cut, load_patches, save_patches
from convergent.streaming.top_patches import SavedPatches


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
