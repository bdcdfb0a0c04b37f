"""Which modules of the nets are compared, and what the units and samples of an activation are.

Axes: `n` images of a batch, `c` units of one net's layer, `p` positions of one image.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from convergent.errors import InputError
from convergent.streaming.net_modules import modules_of

# What is compared under one name: {net: path of its module, as get_submodule takes it}. Of a module that is called several
# times in a forward pass (a recurrent cell, a shared module) #0, #1, ... behind the path is one of its calls: "cell#0"; with
# :input behind it the layer is what the module is given: "mlp.down_proj:input", the units of a gated MLP.
INPUT = ":input"
JOINED = "+"  # between the paths of a population, whose units are side by side
Layer = Mapping[str, str]

Layers = Sequence[str | Sequence[str] | Layer | tuple[str, Layer]]  # as a user names them, see `resolve`
Pairs = Sequence[tuple[str, str]] | None  # names of nets that are to be compared; None for all with all

UNITS = ("auto", "channel", "last", "flat")


def resolve(nets: Mapping[str, nn.Module], wanted: Layers) -> dict[str, Layer]:
    """The layers that a list of names, patterns and groups of names means: {name: {net: path}}; ~ joins paths that differ.

    Args:
        nets: by name.
        wanted: of each layer its path in all nets alike, or a pattern of paths in which * stands for a part between dots;
            where architectures differ, a list with one path per net, or a dictionary from net to path. NAME=PATTERN is a
            population: the units of all layers of a net that the pattern means, side by side, as one layer of that name.
            A pair of a name and a dictionary is what this function gave.

    Raises:
        InputError: if a net has no such layer, or a pattern means other layers in another net.

    >>> net = nn.Sequential(nn.Sequential(nn.Linear(1, 1), nn.ReLU()), nn.Linear(1, 1))
    >>> resolve({"a": net, "b": net}, ["0.*", ["0", "1"]])
    {'0.0': {'a': '0.0', 'b': '0.0'}, '0.1': {'a': '0.1', 'b': '0.1'}, '0~1': {'a': '0', 'b': '1'}}
    """
    layers: dict[str, Layer] = {}
    for entry in wanted:
        if isinstance(entry, str) and "=" in entry:
            name, _, pattern = entry.partition("=")
            layers[name] = {net: JOINED.join(_matching({net: module}, pattern)) for net, module in nets.items()}
            continue
        if isinstance(entry, str):
            layers |= {path: dict.fromkeys(nets, path) for path in _matching(nets, entry)}
            continue
        if isinstance(entry, tuple) and len(entry) == 2 and isinstance(entry[1], Mapping):
            layers[entry[0]] = entry[1]
            continue
        layer: Layer = dict(entry) if isinstance(entry, Mapping) else dict(zip(nets, entry))
        if set(layer) != set(nets) or len(layer) != len(entry):
            raise InputError(
                f"A layer of nets that differ needs one path for each of {', '.join(nets)}, not {entry}; "
                "write layers=[[PATH_IN_THE_FIRST,PATH_IN_THE_SECOND]] or layers=[{NET: PATH, ...}]."
            )
        paths = [layer[net] for net in nets]
        layers["~".join(paths) if len(set(paths)) > 1 else paths[0]] = layer
    for layer in layers.values():
        for net, path in layer.items():
            for member in members_of("", path).values():
                find_layer(nets[net], member, net)
    return layers


def members_of(layer: str, path: str) -> dict[str, str]:
    """The layers of a net that make up one of its populations, by names of their own: {name: path}; of others themselves.

    >>> members_of("mlp", "0+2"), members_of("fc", "1")
    ({'mlp+0': '0', 'mlp+1': '2'}, {'fc': '1'})
    """
    paths = path.split(JOINED)
    return {f"{layer}{JOINED}{k}" if len(paths) > 1 else layer: of for k, of in enumerate(paths)}


def find_layer(net: nn.Module, path: str, name: str) -> nn.Module:
    """The module that `get_submodule` names, whichever of its calls is meant.

    Raises:
        InputError: if there is none, with the nearest names there are.
    """
    (module, _), modules = module_and_call(path), modules_of(net)
    if module in modules:
        return modules[module]
    near = difflib.get_close_matches(module, modules, n=5, cutoff=0.5) or list(modules)[:12]
    named = ", ".join(near) or "none, for it has no parts"
    raise InputError(f"Net {name} has no layer {path!r}; near names are {named}.")


def module_and_call(path: str) -> tuple[str, int | None]:
    """The path of a layer's module, and which of its calls in a forward pass is meant; None where it has one.

    >>> module_and_call("decoder.cell#2"), module_and_call("fc1:input")
    (('decoder.cell', 2), ('fc1', None))
    """
    module, sign, call = path.rpartition("#")
    module, number = (module, int(call)) if sign and call.isdigit() else (path, None)
    return module.removesuffix(INPUT), number


def of_input(path: str) -> bool:
    """Whether what a module is given is meant, and not what it gives."""
    return path.partition("#")[0].endswith(INPUT)


def layout(shape: Sequence[int], units: str, by_type: str | None = None) -> str:
    """Where the units of an activation of this shape are: as said, for "auto" by the module's type or a good guess.

    Vectors and pictures are taken to have them in axis 1, tokens (n, tokens, c) in the last one, and so pictures whose sides
    are evidently axes 1 and 2 (equal, while the last axis differs).
    """
    if units != "auto":
        return units
    if len(shape) == 2:
        return "channel"
    if by_type == "pictures":
        by_type = "channel" if len(shape) > 3 else None
    pictures_last = len(shape) == 4 and shape[1] == shape[2] != shape[3]
    return by_type or ("last" if len(shape) == 3 or pictures_last else "channel")


def by_unit(activation: Tensor, units: str, where: str) -> Tensor:
    """An activation, (n, ...), with its units in axis 1, as a view, shape (n images, c units, ...).

    They are its "channel" (axis 1), "last", or "flat" (every element of an image), or are guessed ("auto"), see `layout`.

    Raises:
        InputError: if there are fewer than two axes, or `units` is none of these.
    """
    if units not in UNITS:
        raise InputError(f"units needs to be one of {', '.join(UNITS)}, not {units!r}.")
    if activation.ndim < 2:
        raise InputError(
            f"{where} gives activations of shape {tuple(activation.shape)}; needed are (images, units, ...) or "
            "(images, ..., units), so choose another layer."
        )
    units = layout(activation.shape, units)
    if units == "flat":
        return activation.flatten(1)
    return activation.movedim(-1, 1) if units == "last" else activation


def samples(x_nc: Tensor, sample: str | int, where: str, image_n: Tensor | None = None) -> Tensor:
    """The samples that an activation consists of, as a view where possible, shape (n images, c units, p positions).

    Args:
        x_nc: from `by_unit`, shape (n, c, ...).
        sample: "every" position, the mean over positions ("pooled"), the "centre" position of a picture, or so many random
            positions of each image, drawn anew for every image and alike for all nets and layers of one size.
        where: how a message names the layer.
        image_n: numbers of the images, which seed their random positions; the first n by default.

    Raises:
        InputError: if `sample` is none of these.
    """
    x_ncp = x_nc.flatten(2) if x_nc.ndim > 2 else x_nc.unsqueeze(2)
    positions = x_ncp.shape[2]
    if sample == "every" or positions == 1:
        return x_ncp
    if sample == "pooled":
        return x_ncp.mean(2, keepdim=True, dtype=torch.promote_types(x_ncp.dtype, torch.float32))
    if sample == "centre" and x_nc.ndim > 3:
        for size in x_nc.shape[2:]:
            x_nc = x_nc.select(2, size // 2)
        return x_nc.unsqueeze(2)
    if isinstance(sample, int) and not isinstance(sample, bool) and sample > 0:
        if sample >= positions:
            return x_ncp
        image_n = torch.arange(len(x_ncp), device=x_ncp.device) if image_n is None else image_n
        chosen_np = random_positions(image_n, positions, sample)
        return x_ncp.gather(2, chosen_np[:, None].expand(-1, x_ncp.shape[1], -1))
    if sample == "centre":
        raise InputError(f"{where} gives no pictures, so its positions have no centre; choose sample=every or pooled.")
    raise InputError(f"sample needs to be every, pooled, centre or a number of positions, not {sample!r}.")


def check_size(x_ncp: Tensor, units: int, positions: int, where: str) -> None:
    """Refuse an activation that is not of the size of the first ones, shape (n, units, positions).

    Raises:
        InputError: if it is none.
    """
    if x_ncp.shape[1] != units:
        raise InputError(
            f"{where} gives {x_ncp.shape[1]} units here, but {units} for the first images; choose a layer whose units are "
            "always the same, or say with units= which axis they are."
        )
    if x_ncp.shape[2] != positions:
        raise InputError(
            f"{where} gives {x_ncp.shape[2]} positions here, but {positions} for the first images; resize pictures to one "
            "size, pad tokens to one number, or take their mean with sample=pooled."
        )


def random_positions(image_n: Tensor, positions: int, chosen: int) -> Tensor:
    """Distinct random positions of each image, shape (n, chosen): the same whatever batch, net or process reads it.

    Each position of each image gets a hash of both numbers, and those with the largest are chosen.

    Source: Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators" (the mixing function).
    """
    mixed_np = (image_n.long()[:, None] << 32) + torch.arange(1, positions + 1, device=image_n.device)
    mixed_np = mixed_np * -7046029254386353131  # the golden ratio's 64 bits: neighbours go far apart
    for shift, factor in ((30, -4658895280553007687), (27, -7723592293110705685)):
        mixed_np = (mixed_np ^ ((mixed_np >> shift) & ((1 << (64 - shift)) - 1))) * factor
    return mixed_np.topk(chosen, dim=1).indices.sort(1).values


def _matching(nets: Mapping[str, nn.Module], pattern: str) -> list[str]:
    """The paths that a pattern means, in the nets' order of modules; a name without * means itself.

    Raises:
        InputError: if it means nothing, or other paths in another net.
    """
    if not set(pattern) & set("*?["):
        return [pattern]
    modules, _ = module_and_call(pattern)
    parts, ending = modules.split("."), pattern.removeprefix(modules)

    def matches(path: str) -> bool:
        names = path.split(".")
        return len(names) == len(parts) and all(map(fnmatchcase, names, parts))

    modules_of = {name: [path for path, _ in net.named_modules() if path] for name, net in nets.items()}
    lists = {name: [path + ending for path in paths if matches(path)] for name, paths in modules_of.items()}
    first, *others = lists.items()
    if not first[1]:
        there = _top(nets[first[0]])
        raise InputError(f"Pattern {pattern!r} means no layer of net {first[0]}; its layers are {there}.")
    for name, paths in others:
        if paths != first[1]:
            raise InputError(
                f"Pattern {pattern!r} means {', '.join(first[1])} in net {first[0]} but {', '.join(paths) or 'nothing'} in "
                f"net {name}; say which layers belong together as layers=[[PATH,PATH],...]."
            )
    return first[1]


def _top(net: nn.Module) -> str:
    names = [path for path, _ in net.named_modules() if path]
    return ", ".join(names[:12] + ["..."] * (len(names) > 12))
