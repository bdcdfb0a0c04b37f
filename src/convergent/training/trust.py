"""What a configuration that was read may name: code is not run only because somebody's file says so. See docs/trust.md."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from convergent.errors import InputError

# Exact shapes of names, none of which leads on to what a module happens to import (torch.nn.modules.module.torch.hub).
_KNOWN = re.compile(
    r"torch\.nn\.[A-Z]\w*"
    r"|torchvision\.models\.((detection|optical_flow|quantization|segmentation|video)\.)?[A-Za-z]\w*"
    r"|torchvision\.transforms\.(v2\.)?[A-Z]\w*"
    # data sets that unpickle nothing, or nothing but files of a known checksum
    r"|torchvision\.datasets\.(CIFAR100?|Caltech(101|256)|CelebA|Country211|DTD|DatasetFolder|EMNIST|EuroSAT|FGVCAircraft"
    r"|FakeData|FashionMNIST|Flowers102|Food101|GTSRB|ImageFolder|ImageNet|Imagenette|KMNIST|MNIST|OxfordIIITPet|PCAM"
    r"|Places365|QMNIST|RenderedSST2|STL10|SUN397|SVHN|StanfordCars|USPS)"
    r"|convergent\.nets\.(caffenet\.CaffeNet|convnet\.ConvNet|decoder\.decoder)"
    r"|convergent\.data\.(documents\.(Docstrings|TextFolder|HubDataset)|digits\.Digits|fashion\.FashionMNIST|folder\.PictureFolder|fractals\.Fractals|imagenet\.ImageNet|store\.(Store|SubtractMean))",
    re.ASCII,
)


def check_trusted(file: Path, content: Any, trust: Collection[str] = ()) -> None:
    """Find out whether all that a training's configuration would run is known, before anything of it is imported.

    Args:
        file: it was read from.
        content: of it, as plain values that are not resolved.
        trust: targets that the user trusts beside the known ones, each in full.

    Raises:
        InputError: if its net or its data name another target, or anything is yet to be resolved.
    """
    if unresolved := [text for _, text in _texts(content) if "${" in text]:
        raise InputError(
            f"{file} holds {_shown(unresolved[0])}, which is yet to be resolved, as no training of this program leaves it; "
            "write the value itself there."
        )
    named = {part: content.get(part) for part in ("net", "data")}  # nothing of the rest is run
    targets = dict.fromkeys(text for key, text in _texts(named) if key == "_target_")
    if strange := [target for target in targets if not _KNOWN.fullmatch(target) and target not in trust]:
        raise InputError(
            f"{file} names {_shown(', '.join(strange))}, which is no public class of torch.nn, torchvision or this package, "
            f'so it is not run; if you know this code, add "trust=[{_shown(",".join(strange))}]" (docs/trust.md).'
        )


def _texts(content: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Everything that nested dictionaries and lists hold, as texts, each with its key; and the keys themselves."""
    if isinstance(content, dict):
        for name, value in content.items():
            yield "", str(name)
            yield from _texts(value, str(name))
            if name == "_target_" and isinstance(value, (dict, list)):
                yield "_target_", f"a {type(value).__name__}"
    elif isinstance(content, (list, tuple)):
        for value in content:
            yield from _texts(value)
    else:
        yield key, str(content)


def _shown(text: str) -> str:
    """A text of somebody else's, fit for one line of a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:200]
