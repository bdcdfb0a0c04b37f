"""Causal decoders of the package `transformers`: new ones by their configuration, trained ones by a folder or a name."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from torch import nn

from convergent.data.opening import first_line
from convergent.errors import InputError
from convergent.options import FINITE, NULL, TEXT, table

# What is compared of a family unless layers= names others: the units of the MLP behind their nonlinearity.
MLP_UNITS = {
    "gpt2": "transformer.h.*.mlp.act",
    "gpt_neox": "gpt_neox.layers.*.mlp.act",
    "llama": "model.layers.*.mlp.down_proj:input",
}


def decoder(config: Annotated[Mapping[str, Any] | str, TEXT | table(FINITE)]) -> nn.Module:
    """A new decoder, tokens (n, p) to logits (n, p, vocabulary), with random weights.

    Args:
        config: as transformers has it, {model_type: gpt2, n_layer: 3, ...}, or a folder or file with a config.json.

    Raises:
        InputError: if transformers is not installed, or makes no decoder of it.
    """
    transformers = _transformers()
    try:
        settings = dict(_read(Path(config)) if isinstance(config, str) else config)
        made = transformers.AutoConfig.for_model(settings.pop("model_type"), **{**settings, "use_cache": False})
        return transformers.AutoModelForCausalLM.from_config(made)  # type: ignore[no-any-return]
    except Exception as error:  # whatever a configuration lets go wrong
        raise InputError(f"transformers makes no causal decoder of this configuration ({first_line(error)}).") from None


def pretrained(
    path: Annotated[str, TEXT], revision: Annotated[str | None, TEXT | NULL] = None, **settings: Any
) -> nn.Module:
    """A trained decoder, in float32: weights as safetensors only, and no code but that of transformers.

    Args:
        path: a folder that `save_pretrained` wrote, or a name on the hub.
        revision: of the hub's, such as a checkpoint's.
        settings: others of `from_pretrained`, such as dtype.

    Raises:
        InputError: if transformers is not installed, or cannot load it: no such folder or name, no network, no safetensors.
    """
    transformers = _transformers()
    options = {"dtype": "float32", "use_cache": False} | settings
    try:
        net = transformers.AutoModelForCausalLM.from_pretrained(
            path, revision=revision or "main", trust_remote_code=False, use_safetensors=True, **options
        )
    except Exception as error:  # of many kinds
        raise InputError(_reason(path, error)) from None
    return net.eval()  # type: ignore[no-any-return]


def mlp_units(path: str, revision: str | None = None) -> tuple[str, ...]:
    """The layers of a trained decoder that are compared unless others are named; none where its family is not known.

    Raises:
        InputError: as `pretrained`.
    """
    try:
        config = _transformers().AutoConfig.from_pretrained(path, revision=revision, trust_remote_code=False)
    except Exception as error:  # of many kinds
        raise error if isinstance(error, InputError) else InputError(_reason(path, error)) from None
    return (MLP_UNITS[config.model_type],) if config.model_type in MLP_UNITS else ()


def vocabulary_of(path: str, revision: str | None = None) -> Path | None:
    """The tokenizer.json that belongs to a trained decoder, in its folder or on the hub; None where there is none.

    Raises:
        InputError: as `pretrained`.
    """
    if Path(path).is_dir():
        file = Path(path) / "tokenizer.json"
        return file if file.is_file() else None
    _transformers()
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return Path(hf_hub_download(path, "tokenizer.json", revision=revision))
    except EntryNotFoundError:
        return None
    except Exception as error:  # of many kinds
        raise InputError(_reason(path, error)) from None


def _read(file: Path) -> dict[str, Any]:
    return json.loads((file / "config.json" if file.is_dir() else file).read_text())  # type: ignore[no-any-return]


def _reason(path: str, error: BaseException) -> str:
    text = " ".join(str(error).split())
    if Path(path).is_dir():
        pickled = [file.name for end in ("bin", "pt", "pth") for file in Path(path).glob(f"*.{end}")]
        if pickled and not list(Path(path).glob("*.safetensors")):
            return (
                f"{path} holds its weights as a pickle only ({pickled[0]}), which may run any code, so it is not opened; "
                "save them as safetensors: net.save_pretrained(FOLDER)."
            )
        return f"{path} cannot be loaded as a causal decoder ({text[:300]})."
    if path.startswith((".", "/", "~")) or path.count("/") > 1:
        return f"There is no folder {path}; name one that save_pretrained wrote, or OWNER/NAME of the hub."
    if any(word in text for word in ("onnect", "offline", "resolve", "timed out")):
        return (
            f"{path} is no folder here, and the hub cannot be reached; name a folder that save_pretrained wrote, or try "
            "again with a network."
        )
    return f"{path} cannot be loaded as a causal decoder ({text[:300]})."


def _transformers() -> Any:
    try:
        import transformers
    except ImportError:
        raise InputError(
            "Language models need the package transformers; install it with: pip install 'convergent[language]'"
        ) from None
    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)  # it tells of each try to reach the hub
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers
