"""Run folders: what train hands over to align. A configuration and weights without pickles, readable by anybody.

A folder holds config.yaml (resolved), weights.safetensors, epochs/N.safetensors for each epoch that was to be kept,
metrics.json, of language models tokenizer.json, last.ckpt (Lightning's, to resume from) and, once the training is finished,
an empty file named done.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from convergent.errors import InputError
from convergent.storage.files import atomic, write_json
from convergent.storage.layout import modern
from convergent.storage.tensors import check, save_net
from convergent.training.trust import check_trusted

if TYPE_CHECKING:
    from torch import nn

# this module imports torch only where nets are made: what is done already is to be said at once

_REMEDY = "train the net again with force=true"


@dataclass(frozen=True)
class Run:
    """One trained net on disk.

    Attributes:
        epoch: after so many epochs of its training; None for the end, 0 for the untrained net.
        trust: classes that its configuration may name beside the known ones, see `check_trusted`.
    """

    folder: Path
    epoch: int | None = None
    trust: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What the net is called in tables and figures: its folder's name, with the epoch."""
        return self.folder.name if self.epoch is None else f"{self.folder.name}@epoch={self.epoch}"

    @property
    def group(self) -> str:
        """The name of its experiment."""
        return self.folder.parent.name

    @property
    def weights(self) -> Path:
        """The file of its weights."""
        return self.weights_after(self.epoch)

    def weights_after(self, epoch: int | None) -> Path:
        """The file of the weights after so many epochs, or of the trained ones."""
        return self.folder / ("weights.safetensors" if epoch is None else f"epochs/{epoch}.safetensors")

    @property
    def checkpoint(self) -> Path:
        """Where Lightning keeps the last finished epoch."""
        return self.folder / "last.ckpt"

    @property
    def tokenizer(self) -> Path | None:
        """The file of the vocabulary of a language model; None of other nets."""
        file = self.folder / "tokenizer.json"
        return file if file.is_file() else None

    @property
    def finished(self) -> bool:
        """Whether the training ended (and kept this epoch: the untrained net is always there, it is made of the seed)."""
        return (self.folder / "done").exists() and (self.epoch in (None, 0) or self.weights.exists())

    @cached_property
    def config(self) -> DictConfig:
        """The resolved configuration of the training: nothing in it but what is known or trusted will be run.

        Raises:
            InputError: if it is missing, unreadable, or of something else, or names code that is not trusted.
        """
        file = self.folder / "config.yaml"
        try:
            content: Any = modern(OmegaConf.to_container(OmegaConf.load(file)), file)  # type: ignore[arg-type]
            assert content["net"]["module"]["_target_"]
            assert isinstance(content["net"]["layers"], list)
            assert isinstance(content["data"]["name"], str)
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"{self.folder} is no run folder: its config.yaml cannot be read or is of something else "
                f"({type(error).__name__}); remove that folder and train the net again, or leave it out of nets."
            ) from None
        check_trusted(file, content, self.trust)
        config: DictConfig = OmegaConf.create(content)
        return config

    @property
    def layers(self) -> tuple[str, ...]:
        """That are compared unless layers= names others."""
        return tuple(self.config.net.layers)

    @property
    def view(self) -> DictConfig:
        """How the net wants its images: the data's configuration."""
        return self.config.data  # type: ignore[no-any-return]

    def epochs(self) -> list[int]:
        """The epochs whose weights are there."""
        return sorted(int(file.stem) for file in (self.folder / "epochs").glob("*.safetensors"))

    def accuracies(self) -> str:
        """The finished training's accuracies, or perplexity, in one line.

        Raises:
            InputError: if their file is missing or unreadable.
        """
        file = self.folder / "metrics.json"
        try:
            metrics = {name: float(value) for name, value in json.loads(file.read_text()).items()}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise InputError(f"{file} cannot be read ({type(error).__name__}); {_REMEDY}.") from None
        shown = [name for name in sorted(metrics) if name.startswith(("val/acc", "val/perplexity"))]
        return ", ".join(f"{name} {metrics[name]:.4f}" for name in shown)

    def net(self) -> nn.Module:
        """The trained net, in evaluation mode.

        Raises:
            InputError: if its weights are missing, corrupt, or of another architecture.
        """
        if self._from_seed:
            return build(self.config.net.module, self.config.seed).eval()
        from convergent.training.skip_init import SkipInit

        with SkipInit():
            net = build(self.config.net.module)
        load_weights(net, self.weights, _REMEDY)
        return net.eval()

    def content(self) -> str:
        """A key of the net itself: its architecture and the bytes of its weights.

        Raises:
            InputError: if its weights are missing or damaged.
        """
        module = json.dumps(OmegaConf.to_container(self.config.net.module, resolve=True), sort_keys=True)
        if self._from_seed:
            return hashlib.sha256(f"untrained {self.config.seed} {module}".encode()).hexdigest()
        try:
            check(self.weights, _REMEDY)
            with self.weights.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256")
        except OSError:
            raise InputError(f"{self.weights} is missing; {_REMEDY}.") from None
        digest.update(module.encode())
        return digest.hexdigest()

    @property
    def _from_seed(self) -> bool:
        return self.epoch == 0 and not self.weights.exists()

    def keep(self, net: nn.Module, epoch: int | None) -> None:
        """Write the weights after so many epochs, or those of the trained net, whole or not at all."""
        with atomic(self.weights_after(epoch)) as file:
            save_net(net, file)

    def finish(self, net: nn.Module, metrics: dict[str, float]) -> None:
        """Write weights and metrics, each whole or not at all, and mark the run as done."""
        self.keep(net, None)
        write_json(self.folder / "metrics.json", metrics)
        (self.folder / "done").touch()


def build(module: DictConfig | Mapping[str, Any], seed: int | None = None) -> nn.Module:
    """A new net, with the weights that torch's random state gives it, or a seed, which leaves that state as it was.

    Raises:
        InputError: if what it names is not an nn.Module.
    """
    import torch
    from torch import nn

    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        net = instantiate(module, _convert_="all")
    if not isinstance(net, nn.Module):
        raise InputError(f"A net needs to be an nn.Module, but {module['_target_']} is not.")
    return net


def load_weights(
    net: nn.Module, file: Path, remedy: str = "choose another file of weights", *, whole: bool = True
) -> None:
    """Load weights from a file: safetensors, or what torch.save wrote of tensors only; if not `whole`, of a part of a net.

    Raises:
        InputError: if the file is missing, corrupt, holds other things than tensors, or is of another architecture.
    """
    import pickle

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file, load_model

    try:
        if file.suffix == ".safetensors":
            check(file, remedy)
            if whole:
                load_model(net, file)
                return
            state: Any = load_file(file)
        else:
            state = torch.load(file, map_location="cpu", weights_only=True)
        state = {name.removeprefix("module."): tensor for name, tensor in state.get("state_dict", state).items()}
        net.load_state_dict({name: tensor for name, tensor in state.items() if whole or name in net.state_dict()})
    except (SafetensorError, RuntimeError, OSError, pickle.UnpicklingError, AttributeError, EOFError) as error:
        raise InputError(f"{file} cannot be read ({' '.join(str(error).split())[:300]}); {remedy}.") from None
