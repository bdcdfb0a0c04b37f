"""Vocabularies: trained on one's own documents, or those of a model; what stands between documents."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convergent.data.opening import shown
from convergent.errors import InputError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

END = "<|endoftext|>"  # stands between documents
_ENDS = (END, "<|end_of_text|>", "</s>", "<eos>")  # of vocabularies that others trained


def train_tokenizer(texts: Iterable[str], size: int) -> Tokenizer:
    """A byte-pair vocabulary of so many tokens, the 256 bytes and the end of a text among them.

    Source: Sennrich et al. 2016; over bytes as in Radford et al. 2019.
    """
    tokenizers = _tokenizers()
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[END],
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer  # type: ignore[no-any-return]


def load_tokenizer(file: Path, *, whole_offsets: bool = False) -> Tokenizer:
    """The vocabulary of a tokenizer.json; with whole offsets those of a token count the spaces at its ends.

    Raises:
        InputError: if it cannot be read.
    """
    tokenizers = _tokenizers()
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers has no other
        raise InputError(f"{file} is no vocabulary of tokenizers ({shown(error)[:200]}).") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if whole_offsets:
        tokenizer.post_processor = tokenizers.processors.ByteLevel(trim_offsets=False)
    return tokenizer  # type: ignore[no-any-return]


def end_of(tokenizer: Tokenizer) -> int:
    """The token that ends texts.

    Raises:
        InputError: if the vocabulary has none that is known.
    """
    for name in _ENDS:
        if (token := tokenizer.token_to_id(name)) is not None:
            return token
    raise InputError(f"The vocabulary has none of {', '.join(_ENDS)}, one of which has to stand between documents.")


def _tokenizers() -> Any:
    try:
        import tokenizers
    except ImportError:
        raise InputError(
            "Texts need the package tokenizers; install it with: pip install 'convergent[language]'"
        ) from None
    return tokenizers


def tokenizers_version() -> str:
    """The version of the package that makes tokens, on which they depend."""
    return str(_tokenizers().__version__)
