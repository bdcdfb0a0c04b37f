"""Documents as tokens, made once and kept: a vocabulary, a stream of tokens, and which documents are held out.

Axes: `t` tokens of all documents one after another, `d` documents, `n` contexts of a batch, `p` positions of a context.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from filelock import FileLock
from torch import Tensor
from torch.utils.data import Dataset

from convergent.data.documents import Documents
from convergent.data.order import Draw
from convergent.data.vocabulary import end_of, load_tokenizer, tokenizers_version, train_tokenizer
from convergent.errors import InputError
from convergent.storage.files import atomic
from convergent.storage.tensors import opened, save_tensors

if TYPE_CHECKING:
    from tokenizers import Tokenizer

log = logging.getLogger(__name__)

_FORMAT = "convergent tokens 1"  # part of every key
TOKENS, MASK = "input_ids", "attention_mask"  # what transformers calls the inputs
PLACES = "places"  # of those tokens that are samples, where nets read other ones
UNCOUNTED = -100  # the target that cross entropy and torchmetrics leave out


@dataclass(frozen=True, eq=False)
class Corpus:
    """The documents of one corpus as tokens.

    Attributes:
        token_t: each document's tokens between two that end texts; the last of one is the first of the next.
        start_d: where each document's first (which ends the text before it) is, shape (documents + 1,).
        held_out_d: which documents no net is trained on.
        tokenizer: file of the vocabulary.
        digest: of all documents and the vocabulary.
        end_t: the character of its document behind each token's last, 0 of those that end texts, -1 of tokens that end
            within a character; None where it was not asked for.
    """

    token_t: Tensor
    start_d: Tensor
    held_out_d: Tensor
    tokenizer: Path
    digest: str
    end_t: Tensor | None = None

    @classmethod
    def of(
        cls,
        documents: Documents,
        vocabulary: int | Path,
        held_out: float,
        seed: int,
        folder: Path,
        *,
        ends: bool = False,
    ) -> Corpus:
        """The corpus of documents, from a folder where it is kept, or made and kept there.

        Args:
            documents: of which empty ones are left out.
            vocabulary: so many byte pairs, trained on the documents that are not held out; or the file of one.
            held_out: share of the documents; which they are says a digest of each, and the seed.
            seed: of that choice.
            folder: of all corpora.
            ends: also where in its document each token ends.

        Raises:
            InputError: if there is no document on one side of the split, or the vocabulary cannot be used.
        """
        about, texts = [_FORMAT, *documents.content(), held_out, seed], cache(lambda: _texts(documents, held_out, seed))
        if isinstance(vocabulary, int):
            size, vocabulary = vocabulary, _place(folder, [*about, vocabulary, tokenizers_version()]) / "tokenizer.json"
            with FileLock(vocabulary.parent / "lock"):
                if not vocabulary.exists():
                    tokenizer = train_tokenizer((text for text, held_out in texts() if not held_out), size)
                    with atomic(vocabulary) as partial:
                        tokenizer.save(str(partial))
        place = _place(folder, [*about, hashlib.sha256(vocabulary.read_bytes()).hexdigest()])
        file = place / ("ends.safetensors" if ends else "tokens.safetensors")
        with FileLock(file.parent / "lock"):
            if not file.exists():
                _tokenise(texts(), vocabulary, file, ends=ends)
            with opened(file, "delete it, then it is made again") as saved:
                token_t, start_d, held_out_d = (saved.get_tensor(of) for of in ("token_t", "start_d", "held_out_d"))
                end_t = saved.get_tensor("end_t") if ends else None
                return cls(token_t, start_d, held_out_d, vocabulary, saved.metadata()["digest"], end_t)

    @cached_property
    def vocabulary(self) -> Tokenizer:
        """What the tokens mean."""
        return load_tokenizer(self.tokenizer)

    def stream(self) -> Tensor:
        """The tokens of the documents that are not held out, one after another, shape (t,)."""
        end = self.token_t[-1:]
        lengths_d = self.start_d.diff()
        return torch.cat([self.token_t[:-1][~self.held_out_d.repeat_interleave(lengths_d)], end])

    def numbers(self, *, held_out: bool) -> Tensor:
        """The documents of one side of the split, shape (documents,)."""
        return (self.held_out_d == held_out).nonzero()[:, 0]


def _place(folder: Path, about: Sequence[Any]) -> Path:
    place = folder / hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]
    place.mkdir(parents=True, exist_ok=True)
    return place


def _texts(documents: Documents, share: float, seed: int) -> list[tuple[str, bool]]:
    """The documents that are not empty, and whether each is held out.

    Raises:
        InputError: if all are, or none.
    """
    log.info("Reading the documents; their tokens are then kept")
    every = list(documents)
    texts = [text for text in every if text.strip()]
    if empty := len(every) - len(texts):
        log.warning("%d of %d documents are empty and left out", empty, len(every))
    digests = (hashlib.sha256(f"{seed} {text}".encode(errors="surrogatepass")).digest() for text in texts)
    held_out = [int.from_bytes(digest[:6], "big") < share * 2**48 for digest in digests]
    if len(set(held_out)) < 2:
        raise InputError(
            f"Of {len(texts)} documents {sum(held_out)} are held out, but some are needed on both sides; give more "
            "documents, or another share as data.held_out=0.2."
        )
    return list(zip(texts, held_out))


def _tokenise(texts: Sequence[tuple[str, bool]], vocabulary: Path, file: Path, *, ends: bool) -> None:
    tokenizer = load_tokenizer(vocabulary, whole_offsets=ends)
    end, encoded_d = end_of(tokenizer), tokenizer.encode_batch([text for text, _ in texts], add_special_tokens=False)
    tokens = [torch.tensor([end, *encoded.ids], dtype=torch.int32) for encoded in encoded_d]
    tensors = {
        "token_t": torch.cat([*tokens, torch.tensor([end], dtype=torch.int32)]),
        "start_d": torch.tensor([0, *map(len, tokens)]).cumsum(0),
        "held_out_d": torch.tensor([held_out for _, held_out in texts]),
    }
    if ends:
        of_texts = [torch.tensor([0, *_ends(encoded.offsets)], dtype=torch.int32) for encoded in encoded_d]
        tensors["end_t"] = torch.cat([*of_texts, torch.tensor([0], dtype=torch.int32)])
    digest = hashlib.sha256(vocabulary.read_bytes() + tensors["token_t"].numpy().tobytes()).hexdigest()
    with atomic(file) as partial:
        save_tensors(tensors, partial, {"digest": digest})


def _ends(offsets: Sequence[tuple[int, int]]) -> list[int]:
    """Behind which character each token ends, -1 if within one, of which the next token begins with the rest.

    >>> _ends([(0, 2), (2, 3), (2, 3), (3, 5)])
    [2, -1, 3, 5]
    """
    begins = [*(begin for begin, _ in offsets[1:]), 2**31]
    return [end if begin >= end else -1 for (_, end), begin in zip(offsets, begins)]


class Contexts(Dataset[Any]):
    """Documents in contexts of their own, filled up with padding: what is validated and measured.

    A batch is (inputs, next tokens (n, p), numbers (n,)), where nothing follows -100; the inputs are tokens (n, p), or where
    they are `masked` a mapping of `input_ids` and `attention_mask`, true for tokens. The first position of a document ends
    the text before it; a document that is longer than a context is split.

    Attributes:
        document_n: the document of each context.
        begin_n: where each begins in the corpus's tokens.
        length_n: how many tokens it has.
    """

    def __init__(self, corpus: Corpus, documents_d: Tensor, context: int, *, masked: bool = False) -> None:
        self.corpus, self.context, self.masked = corpus, context, masked
        length_d = corpus.start_d.diff()[documents_d]
        contexts_d = -(-length_d // context)
        self.document_n = documents_d.repeat_interleave(contexts_d)
        place_n = torch.cat([torch.arange(int(count)) for count in contexts_d]) * context
        self.begin_n = corpus.start_d[self.document_n] + place_n
        self.length_n = (length_d.repeat_interleave(contexts_d) - place_n).clamp(max=context)
        self.split = int((contexts_d > 1).sum()), len(documents_d)

    def __len__(self) -> int:
        return len(self.begin_n)

    def __getitems__(self, draws: Sequence[Draw | int]) -> list[Any]:
        given = [Draw(draw) if isinstance(draw, int) else draw for draw in draws]
        number_n = torch.tensor([draw.image for draw in given])
        input_np, there_np, place_np = self.tokens(number_n)
        counted_np = there_np & torch.tensor([draw.counted for draw in given])[:, None]
        target_np = self.corpus.token_t[(place_np + 1).clamp(max=len(self.corpus.token_t) - 1)].long()
        target_np = target_np.masked_fill(~counted_np, UNCOUNTED)
        return [{TOKENS: input_np, MASK: there_np} if self.masked else input_np, target_np, number_n]

    def __getitem__(self, draw: Draw | int) -> list[Any]:
        return self.__getitems__([draw])

    def tokens(self, number_n: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The tokens of contexts, which are no padding, and their places in the corpus, each of shape (n, p)."""
        place_p = torch.arange(self.context)
        there_np = place_p < self.length_n[number_n, None]
        place_np = torch.where(there_np, self.begin_n[number_n, None] + place_p, len(self.corpus.token_t) - 1)
        return self.corpus.token_t[place_np].long(), there_np, place_np

    def around(self, number: int, position: int, before: int, after: int) -> tuple[str, str, str]:
        """The text of some tokens before a position of a context, of its own token, and of some behind it."""
        begin = int(self.begin_n[number])
        token_p = self.corpus.token_t[begin : begin + int(self.length_n[number])].tolist()
        parts = (
            token_p[max(position - before, 0) : position],
            [token_p[position]],
            token_p[position + 1 : position + 1 + after],
        )
        text = [self.corpus.vocabulary.decode(part, skip_special_tokens=False) for part in parts]
        return text[0], text[1], text[2]

    def manifest(self) -> list[str]:
        """What identifies the contexts: the corpus, which of its documents, and their length."""
        documents = hashlib.sha256(self.document_n.numpy().tobytes()).hexdigest()
        return [self.corpus.digest, documents, f"contexts of {self.context}"]


def of_view(name: str, view: str | None) -> str:
    """What an input is called of which there are several, for nets of several vocabularies."""
    return name if view is None else f"{name}/{view}"


def as_they_are(batch: Any) -> Any:
    """A batch that a data set has gathered itself."""
    return batch
